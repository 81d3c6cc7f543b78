/* fold.c - what an op becomes when it need not be one.
 *
 * in:   an op about to be made: its operands, attributes and result type
 * out:  a value that equals it in every bit NumPy defines, or none
 * rule: constant time, looks one op deep, keeps the type, makes the graph no slower. x + 0.0
 *       stays: it turns -0.0 into 0.0; x - x stays on floats: it may be nan.
 */
#include "tensor/tensor.h"

#include <math.h>

typedef struct Num { /* the value of a full op */
    bool real;       /* f counts, otherwise i */
    double f;
    int64_t i;
} Num;

typedef struct Site { /* the op about to be made */
    Graph *g;
    TOp op;
    const Val *in;
    int nin;
    AttrId attr;
    const Type *t;
    TyId type;
    LocId loc;
    Val *out;
} Site;

static bool
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

static double
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

static Status
fold_real(const Site *s, double v)
{
    return t_full(s->g, (DType)s->t->dtype, s->t->rank, s->t->dim, v, s->loc, s->out);
}

static Status
fold_int(const Site *s, int64_t v)
{
    return t_full_int(s->g, (DType)s->t->dtype, s->t->rank, s->t->dim, v, s->loc, s->out);
}

/* v in the result's shape; dtypes agree. */
static Status
fold_to(const Site *s, Val v)
{
    *s->out = v;
    if (s->g->vals.p[v.i].type.i == s->type.i)
        return ST_OK;
    return t_broadcast_to(s->g, v, s->t->dim, s->t->rank, s->loc, s->out);
}

/* ---- evaluation of scalars ---- */

static double
sign(double x)
{
    return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x;
}

static bool
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

static bool
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

static bool
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

static bool
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
    default: return false;
    }
}

/* ---- rules by kind of op ---- */

static Status
fold_unary_full(const Site *s, const Num *x)
{
    DType dt = val_dtype(s->g, s->in[0]);
    double y;
    int64_t i;
    if (x->real && eval_unary(s->op, x->f, &y))
        return fold_real(s, y);
    if (!x->real && eval_unary_int(s->op, x->i, dtypes[dt].kind == DK_uint, &i))
        return fold_int(s, i);
    return ST_OK;
}

static bool
is_rounding(int op)
{
    return op == T_floor || op == T_ceil || op == T_rint || op == T_trunc;
}

static Status
fold_unary(const Site *s)
{
    Graph *g = s->g;
    Val x = s->in[0];
    const Op *d = val_def(g, x);
    Num num;
    if (d->code == T_full && full_num(g, x, &num))
        return fold_unary_full(s, &num);
    bool whole = !is_float(val_dtype(g, x));
    if (s->op == T_positive || (is_rounding(s->op) && (whole || is_rounding(d->code))))
        *s->out = x;
    else if (s->op == T_isnan && whole)
        return fold_int(s, 0);
    else if ((s->op == T_neg || s->op == T_logical_not) && d->code == s->op)
        *s->out = op_val(g, d, 0);
    else if (s->op == T_abs &&
             (d->code == T_abs || dtypes[val_dtype(g, x)].kind == DK_uint || val_dtype(g, x) == DT_bool))
        *s->out = x;
    else if ((s->op == T_abs || s->op == T_square) && d->code == T_neg)
        return t_unary(g, s->op, op_val(g, d, 0), s->loc, s->out);
    return ST_OK;
}

static Status
fold_binary_full(const Site *s, const Num *a, const Num *b)
{
    DType dt = val_dtype(s->g, s->in[0]);
    double y;
    int64_t i;
    if (a->real && eval_binary(s->op, a->f, b->f, &y))
        return fold_real(s, y);
    if (!a->real && eval_binary_int(s->op, a->i, b->i, dtypes[dt].kind == DK_uint, &i))
        return fold_int(s, i);
    return ST_OK;
}

/* Both operands are x. */
static Status
fold_same(const Site *s, Val x)
{
    bool real = is_float(val_dtype(s->g, x));
    switch (s->op) {
    case T_maximum:
    case T_minimum:
    case T_logical_and:
    case T_logical_or:
        *s->out = x;
        return ST_OK;
    case T_sub:
    case T_remainder:
    case T_logical_xor:
    case T_not_equal:
    case T_less:
    case T_greater:
        if (real && s->op != T_less && s->op != T_greater) /* nan */
            return ST_OK;
        return fold_int(s, 0);
    case T_equal:
    case T_less_equal:
    case T_greater_equal:
        return real ? ST_OK : fold_int(s, 1);
    default:
        return ST_OK;
    }
}

/* x / 2**k is x * 2**-k as long as that is a number of the dtype. */
static Status
fold_divisor(const Site *s, double b)
{
    int e;
    unsigned char bits[8];
    Val inverse;
    DType dt = (DType)s->t->dtype;
    if (fabs(frexp(b, &e)) != 0.5 || e < -120 || e > 120)
        return ST_OK;
    dtype_store(dt, 1 / b, bits);
    if (dtype_load(dt, bits) != 1 / b)
        return ST_OK;
    const Type *t = val_type(s->g, s->in[1]);
    TRY(t_full(s->g, dt, t->rank, t->dim, 1 / b, s->loc, &inverse));
    return t_binary(s->g, T_mul, s->in[0], inverse, s->loc, s->out);
}

/* x op c on floats */
static Status
fold_right_real(const Site *s, Val x, double c)
{
    switch (s->op) {
    case T_add:
        return c == 0 && signbit(c) ? fold_to(s, x) : ST_OK;
    case T_sub:
        return c == 0 && !signbit(c) ? fold_to(s, x) : ST_OK;
    case T_mul:
        return c == 1 ? fold_to(s, x) : ST_OK;
    case T_div:
        return c == 1 ? fold_to(s, x) : fold_divisor(s, c);
    case T_power:
        return c == 1 ? fold_to(s, x) : c == 0 ? fold_real(s, 1) : ST_OK;
    default:
        return ST_OK;
    }
}

/* x op c on integers and bools */
static Status
fold_right_int(const Site *s, Val x, int64_t c)
{
    switch (s->op) {
    case T_add:
    case T_sub:
    case T_logical_xor:
        return c == 0 ? fold_to(s, x) : ST_OK;
    case T_logical_or:
        return c == 0 ? fold_to(s, x) : fold_int(s, 1);
    case T_logical_and:
        return c == 0 ? fold_int(s, 0) : fold_to(s, x);
    case T_mul:
        return c == 0 ? fold_int(s, 0) : c == 1 ? fold_to(s, x) : ST_OK;
    case T_floor_divide:
        return c == 1 ? fold_to(s, x) : ST_OK;
    case T_remainder:
        return c == 1 ? fold_int(s, 0) : ST_OK;
    case T_power:
        return c == 1 ? fold_to(s, x) : c == 0 ? fold_int(s, 1) : ST_OK;
    default:
        return ST_OK;
    }
}

static Status
fold_binary(const Site *s)
{
    Val a = s->in[0], b = s->in[1];
    Num na, nb;
    bool fa = val_def(s->g, a)->code == T_full && full_num(s->g, a, &na);
    bool fb = val_def(s->g, b)->code == T_full && full_num(s->g, b, &nb);
    if (fa && fb)
        return fold_binary_full(s, &na, &nb);
    if (a.i == b.i)
        return fold_same(s, a);
    if (fa && (tensor_dialect.ops[s->op].flags & F_COMM)) {
        nb = na;
        b = a;
        a = s->in[1];
        fb = true;
    }
    if (!fb)
        return ST_OK;
    return nb.real ? fold_right_real(s, a, nb.f) : fold_right_int(s, a, nb.i);
}

static Status
fold_where(const Site *s)
{
    Graph *g = s->g;
    Num c;
    const Op *d = val_def(g, s->in[0]);
    if (full_num(g, s->in[0], &c))
        return fold_to(s, c.i ? s->in[1] : s->in[2]);
    if (s->in[1].i == s->in[2].i)
        return fold_to(s, s->in[1]);
    if (d->code == T_logical_not)
        return t_where(g, op_val(g, d, 0), s->in[2], s->in[1], s->loc, s->out);
    return ST_OK;
}

/* ml_dtypes makes its formats from f32, and f32 from everything else. */
static double
by_way_of_f32(DType to, double v)
{
    return is_float(to) && dtypes[to].bytes < 4 && to != DT_f16 ? (double)(float)v : v;
}

static Status
fold_cast_full(const Site *s, const Num *x)
{
    DType to = (DType)s->t->dtype;
    if (s->op == T_rcast) {
        double v = num_double(x, val_dtype(s->g, s->in[0]));
        return fabs(v) < 9007199254740992.0 ? fold_real(s, nearbyint(v)) : ST_OK;
    }
    if (x->real)
        return fold_real(s, by_way_of_f32(to, x->f));
    if (is_float(to))
        return fold_real(s, by_way_of_f32(to, num_double(x, val_dtype(s->g, s->in[0]))));
    return fold_int(s, x->i);
}

static Status
fold_cast(const Site *s)
{
    Graph *g = s->g;
    Val x = s->in[0];
    DType from = val_dtype(g, x), to = (DType)s->t->dtype;
    const Op *d = val_def(g, x);
    Num num;
    if (from == to) {
        *s->out = x;
        return ST_OK;
    }
    if (s->op == T_rcast && is_float(to)) /* no difference to a float */
        return t_cast(g, x, to, s->loc, s->out);
    if (d->code == T_full && full_num(g, x, &num))
        return fold_cast_full(s, &num);
    if (d->code == T_cast) {
        Val y = op_val(g, d, 0);
        if (dtype_holds(from, val_dtype(g, y)))
            return s->op == T_cast ? t_cast(g, y, to, s->loc, s->out)
                                   : t_emit(g, T_rcast, &y, 1, s->attr, s->loc, s->out);
    }
    return ST_OK;
}

/* Moves no element past another: the axes longer than 1 keep their order. */
static bool
is_reshape(const Type *a, const int64_t *perm)
{
    int64_t last = -1;
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[perm[i]] == 1)
            continue;
        if (perm[i] < last)
            return false;
        last = perm[i];
    }
    return true;
}

static Status
fold_transpose(const Site *s)
{
    Graph *g = s->g;
    const Op *d = val_def(g, s->in[0]);
    const int64_t *perm, *first;
    int n = attr_ints(g->cx, s->attr, A_perm, &perm);
    if (is_reshape(val_type(g, s->in[0]), perm))
        return t_reshape(g, s->in[0], s->t->dim, n, s->loc, s->out);
    if (d->code != T_transpose)
        return ST_OK;
    int64_t list[MAX_RANK];
    attr_ints(g->cx, d->attr, A_perm, &first);
    for (int i = 0; i < n; i++)
        list[i] = first[perm[i]];
    return t_transpose(g, op_val(g, d, 0), list, n, s->loc, s->out);
}

static Status
fold_slice(const Site *s)
{
    Graph *g = s->g;
    const Op *d = val_def(g, s->in[0]);
    const int64_t *start, *step, *first, *by;
    int n = attr_ints(g->cx, s->attr, A_start, &start);
    attr_ints(g->cx, s->attr, A_step, &step);
    if (g->vals.p[s->in[0].i].type.i == s->type.i) {
        bool whole = true;
        for (int i = 0; i < n; i++)
            whole &= step[i] == 1 || s->t->dim[i] == 1;
        if (whole) {
            *s->out = s->in[0];
            return ST_OK;
        }
    }
    if (d->code == T_update)
        return t_fold_slice_of_update(g, s->in[0], s->attr, s->loc, s->out);
    if (d->code != T_slice)
        return ST_OK;
    int64_t from[MAX_RANK], stride[MAX_RANK];
    attr_ints(g->cx, d->attr, A_start, &first);
    attr_ints(g->cx, d->attr, A_step, &by);
    for (int i = 0; i < n; i++) {
        from[i] = first[i] + by[i] * start[i];
        stride[i] = by[i] * step[i];
    }
    return t_slice(g, op_val(g, d, 0), from, stride, s->t->dim, s->loc, s->out);
}

static Status
fold_concat(const Site *s)
{
    Num a, b;
    if (s->nin == 1) {
        *s->out = s->in[0];
        return ST_OK;
    }
    if (!full_num(s->g, s->in[0], &a))
        return ST_OK;
    for (int i = 1; i < s->nin; i++) {
        if (!full_num(s->g, s->in[i], &b))
            return ST_OK;
        if (a.real ? a.f != b.f || signbit(a.f) != signbit(b.f) : a.i != b.i)
            return ST_OK;
    }
    return a.real ? fold_real(s, a.f) : fold_int(s, a.i);
}

static Status
fold_layout(const Site *s)
{
    Graph *g = s->g;
    Val x = s->in[0];
    const Op *d = val_def(g, x);
    Num num;
    if (d->code == T_full && full_num(g, x, &num))
        return num.real ? fold_real(s, num.f) : fold_int(s, num.i);
    if (s->op == T_transpose)
        return fold_transpose(s);
    if (s->op == T_slice)
        return fold_slice(s);
    if (g->vals.p[x.i].type.i == s->type.i) {
        *s->out = x;
        return ST_OK;
    }
    if (s->op == T_broadcast_to && type_numel(val_type(g, x)) == type_numel(s->t))
        return t_reshape(g, x, s->t->dim, s->t->rank, s->loc, s->out);
    if (d->code == s->op) {
        Val y = op_val(g, d, 0);
        return s->op == T_reshape ? t_reshape(g, y, s->t->dim, s->t->rank, s->loc, s->out)
                                  : t_broadcast_to(g, y, s->t->dim, s->t->rank, s->loc, s->out);
    }
    return ST_OK;
}

/* A sum begins with 0, so that of -0 alone is 0. */
static Status
fold_sum_of_one(const Site *s)
{
    Val zero, x = s->in[0];
    TRY(t_full(s->g, (DType)s->t->dtype, 0, NULL, 0, s->loc, &zero));
    TRY(t_reshape(s->g, x, s->t->dim, s->t->rank, s->loc, &x));
    return t_binary(s->g, T_add, x, zero, s->loc, s->out);
}

static Status
fold_reduce(const Site *s)
{
    Graph *g = s->g;
    const Type *a = val_type(g, s->in[0]);
    const int64_t *axes;
    int n = attr_ints(g->cx, s->attr, A_axes, &axes);
    int64_t count = 1;
    Num num;
    for (int i = 0; i < n; i++)
        count *= a->dim[axes[i]];
    if (count == 0)
        return fold_real(s, 0);
    if (count == 1 && s->op == T_reduce_sum && is_float((DType)s->t->dtype))
        return fold_sum_of_one(s);
    if (count == 1)
        return t_reshape(g, s->in[0], s->t->dim, s->t->rank, s->loc, s->out);
    if (!full_num(g, s->in[0], &num))
        return ST_OK;
    if (s->op != T_reduce_sum)
        return num.real ? fold_real(s, num.f) : fold_int(s, num.i);
    if (num.real)
        return fold_real(s, num.f * (double)count);
    return fold_int(s, (int64_t)((uint64_t)num.i * (uint64_t)count));
}

Status
t_fold(Graph *g, TOp op, const Val *in, int nin, AttrId attr, TyId type, LocId loc, Val *out)
{
    const Type *t = type_get(g->cx, type);
    const Site s = {g, op, in, nin, attr, t, type, loc, out};
    if (nin == 0)
        return ST_OK;
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] == 0)
            return fold_real(&s, 0); /* nothing to compute */
    }
    int flags = tensor_dialect.ops[op].flags;
    if (op == T_cast || op == T_rcast)
        return fold_cast(&s);
    if (flags & F_EW)
        return nin == 1 ? fold_unary(&s) : nin == 2 ? fold_binary(&s) : fold_where(&s);
    if (op == T_concat)
        return fold_concat(&s);
    if (op == T_update)
        return t_fold_update(g, in, attr, loc, out);
    if (flags & F_LAYOUT)
        return fold_layout(&s);
    if (flags & F_REDUCE)
        return fold_reduce(&s);
    if (op == T_matmul && val_type(g, in[0])->dim[val_type(g, in[0])->rank - 1] == 0)
        return fold_real(&s, 0);
    return ST_OK;
}
