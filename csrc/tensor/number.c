/* number.c - single numbers: what a full op holds, what NumPy's loops compute from one or two, how a dtype wraps them.
 *
 * in:   numbers as f64, or as i64 with the bits of a u64
 * out:  the number that NumPy gives; false: not an op on numbers, or undefined
 * rule: a result is not yet rounded or wrapped to its dtype, the builder does that.
 */
#include "tensor/tensor.h"

#include <math.h>

/* ---- dtypes ---- */

int64_t
wrap_int(DType dt, int64_t v)
{
    switch (dt) {
    case DT_bool:
        return v != 0;
    case DT_i8:
        return (int8_t)v;
    case DT_i16:
        return (int16_t)v;
    case DT_i32:
        return (int32_t)v;
    case DT_u8:
        return (uint8_t)v;
    case DT_u16:
        return (uint16_t)v;
    case DT_u32:
        return (uint32_t)v;
    default:
        return v;
    }
}

int64_t
wrap_float(DType dt, double v)
{
    double max = dtypes[dt].max, min = dtypes[dt].kind == DK_int ? -max - 1 : 0;
    if (v != v)
        return 0;
    v = trunc(v);
    if (dt == DT_u64)
        return v >= 18446744073709551616.0 ? -1 : v > 0 ? (int64_t)(uint64_t)v : 0;
    if (dt != DT_i64)
        return (int64_t)MIN(MAX(v, min), max);
    if (v >= 9223372036854775808.0)
        return INT64_MAX;
    return v <= -9223372036854775808.0 ? INT64_MIN : (int64_t)v;
}

/* ---- full ops ---- */

bool
full_num(const Graph *g, Val v, Num *num)
{
    const Op *op = val_def(g, v);
    for (int depth = 0; op->code != T_full; depth++) { /* parsed text may have layout ops of full */
        if (!(op->flags & F_LAYOUT) || depth == MAX_RANK)
            return false;
        op = val_def(g, op_val(g, op, 0));
    }
    num->real = is_float(val_dtype(g, v));
    if (num->real)
        num->f = attr_float(g->cx, op->attr, A_value, 0);
    else
        num->i = attr_int(g->cx, op->attr, A_ivalue, 0);
    return true;
}

double
num_double(const Num *n, DType dt)
{
    if (n->real)
        return n->f;
    return dt == DT_u64 ? (double)(uint64_t)n->i : (double)n->i;
}

bool
is_splat(const Graph *g, Val v, double *value)
{
    Num n;
    if (!full_num(g, v, &n))
        return false;
    if (value != NULL)
        *value = num_double(&n, val_dtype(g, v));
    return true;
}

/* ---- evaluation of scalars ---- */

static double
sign(double x)
{
    return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x;
}

bool
eval_unary(TOp op, double x, double *y)
{
    const double pi = 3.14159265358979323846, u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
    switch (op) {
    case T_neg: *y = -x; return true;
    case T_positive: *y = x; return true;
    case T_abs: *y = fabs(x); return true;
    case T_sign: *y = sign(x); return true;
    case T_square: *y = x * x; return true;
    case T_sqrt: *y = sqrt(x); return true;
    case T_rsqrt: case T_rsqrt_wide: *y = 1 / sqrt(x); return true;
    case T_cbrt: *y = cbrt(x); return true;
    case T_reciprocal: *y = 1 / x; return true;
    case T_exp: *y = exp(x); return true;
    case T_exp2: *y = exp2(x); return true;
    case T_expm1: *y = expm1(x); return true;
    case T_log: *y = log(x); return true;
    case T_log2: *y = log2(x); return true;
    case T_log10: *y = log10(x); return true;
    case T_log1p: *y = log1p(x); return true;
    case T_sin: *y = sin(x); return true;
    case T_sin_pi: *y = sin(x); return fabs(x) <= pi;
    case T_cos: *y = cos(x); return true;
    case T_tan: *y = tan(x); return true;
    case T_arctan: *y = atan(x); return true;
    case T_arctan_small: *y = atan(x); return fabs(x) <= pi / 2;
    case T_sinh: *y = sinh(x); return true;
    case T_cosh: *y = cosh(x); return true;
    case T_tanh: *y = tanh(x); return true;
    case T_floor: *y = floor(x); return true;
    case T_ceil: *y = ceil(x); return true;
    case T_rint: *y = nearbyint(x); return true;
    case T_trunc: *y = trunc(x); return true;
    case T_isnan: *y = x != x; return true;
    case T_sigmoid: *y = 1 / (1 + exp(-x)); return true;
    case T_silu: *y = x / (1 + exp(-x)); return true;
    case T_gelu_tanh: *y = x / (1 + exp(-2 * u)); return true;
    default: return false;
    }
}

bool
eval_unary_int(TOp op, int64_t x, bool is_unsigned, int64_t *y)
{
    uint64_t u = (uint64_t)x;
    switch (op) {
    case T_neg: *y = (int64_t)(0 - u); return true;
    case T_positive: case T_floor: case T_ceil: case T_trunc: *y = x; return true;
    case T_abs: *y = x < 0 && !is_unsigned ? (int64_t)(0 - u) : x; return true;
    case T_sign: *y = is_unsigned ? x != 0 : (x > 0) - (x < 0); return true;
    case T_square: *y = (int64_t)(u * u); return true;
    case T_reciprocal: *y = x == 1 || (x == -1 && !is_unsigned) ? x : 0; return x != 0;
    case T_logical_not: *y = !x; return true;
    case T_invert: *y = ~x; return true;
    case T_isnan: *y = 0; return true;
    default: return false;
    }
}

/* NumPy's floor division and remainder of floats. */
static double
float_divmod(double a, double b, double *mod)
{
    double m = fmod(a, b);
    if (b == 0) {
        *mod = m;
        return a / b;
    }
    double div = (a - m) / b;
    if (m != 0) {
        if ((b < 0) != (m < 0)) {
            m += b;
            div -= 1;
        }
    } else {
        m = copysign(0, b);
    }
    *mod = m;
    if (div == 0)
        return copysign(0, a / b);
    double f = floor(div);
    return div - f > 0.5 ? f + 1 : f;
}

bool
eval_binary(TOp op, double a, double b, double *y)
{
    double mod;
    switch (op) {
    case T_add: *y = a + b; return true;
    case T_sub: *y = a - b; return true;
    case T_mul: *y = a * b; return true;
    case T_div: *y = a / b; return true;
    case T_floor_divide: *y = float_divmod(a, b, &mod); return true;
    case T_remainder: (void)float_divmod(a, b, &mod); *y = mod; return true;
    case T_power: *y = pow(a, b); return true;
    case T_maximum: *y = a != a ? a : b != b ? b : MAX(a, b); return true;
    case T_minimum: *y = a != a ? a : b != b ? b : MIN(a, b); return true;
    case T_equal: *y = a == b; return true;
    case T_not_equal: *y = a != b; return true;
    case T_less: *y = a < b; return true;
    case T_less_equal: *y = a <= b; return true;
    case T_greater: *y = a > b; return true;
    case T_greater_equal: *y = a >= b; return true;
    default: return false;
    }
}

static int64_t
int_power(uint64_t a, uint64_t n)
{
    uint64_t y = 1;
    for (; n; n >>= 1, a *= a)
        y *= n & 1 ? a : 1;
    return (int64_t)y;
}

static bool
eval_divmod_int(TOp op, int64_t a, int64_t b, bool is_unsigned, int64_t *y)
{
    bool div = op == T_floor_divide;
    if (b == 0) {
        *y = 0;
    } else if (is_unsigned) {
        *y = (int64_t)(div ? (uint64_t)a / (uint64_t)b : (uint64_t)a % (uint64_t)b);
    } else if (b == -1) {
        *y = div ? (int64_t)(0 - (uint64_t)a) : 0;
    } else {
        int64_t q = a / b, r = a % b;
        bool down = r != 0 && (r < 0) != (b < 0);
        *y = div ? q - down : down ? r + b : r;
    }
    return true;
}

/* Distances that are no bit leave the sign. */
static int64_t
shifted_down(int64_t a, uint64_t n, bool is_unsigned)
{
    if (is_unsigned || a >= 0)
        return n < 64 ? (int64_t)((uint64_t)a >> n) : 0;
    return n < 64 ? (int64_t)~(~(uint64_t)a >> n) : -1;
}

bool
eval_binary_int(TOp op, int64_t a, int64_t b, bool is_unsigned, int64_t *y)
{
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
    bool less = is_unsigned ? ua < ub : a < b;
    switch (op) {
    case T_add: *y = (int64_t)(ua + ub); return true;
    case T_sub: *y = (int64_t)(ua - ub); return true;
    case T_mul: *y = (int64_t)(ua * ub); return true;
    case T_floor_divide: case T_remainder: return eval_divmod_int(op, a, b, is_unsigned, y);
    case T_power: *y = int_power(ua, ub); return is_unsigned || b >= 0;
    case T_maximum: *y = less ? b : a; return true;
    case T_minimum: *y = less ? a : b; return true;
    case T_equal: *y = a == b; return true;
    case T_not_equal: *y = a != b; return true;
    case T_less: *y = less; return true;
    case T_less_equal: *y = less || a == b; return true;
    case T_greater: *y = !less && a != b; return true;
    case T_greater_equal: *y = !less; return true;
    case T_logical_and: *y = a && b; return true;
    case T_logical_or: *y = a || b; return true;
    case T_logical_xor: *y = !a != !b; return true;
    case T_bitwise_and: *y = a & b; return true;
    case T_bitwise_or: *y = a | b; return true;
    case T_bitwise_xor: *y = a ^ b; return true;
    case T_left_shift: *y = ub < 64 ? (int64_t)(ua << ub) : 0; return true;
    case T_right_shift: *y = shifted_down(a, ub, is_unsigned); return true;
    case T_shift_down: *y = shifted_down(a, ub, true); return true; /* of a's bits alone */
    default: return false;
    }
}
