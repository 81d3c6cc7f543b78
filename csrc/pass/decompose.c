/* decompose.c - rewrite tensor ops that lowering has no instruction for.
 *
 * in:   any verified tensor graph without 64-bit dtypes
 * out:  the same function using only ops marked F_CORE; casts left are those the hardware does
 *       by itself (between floats, from integers and bools, between integers)
 * rule: one rewriter per op, found through a table; no rewriter looks at its users. The narrow
 *       floats are computed in f32 and rounded once. inf and nan come out as in NumPy; the sign
 *       of a zero may not.
 *
 * Accuracy in f32, relative to the exact result:
 *   exp2 expm1 log1p log2 log10 sinh cosh arctan div   3e-7
 *   cbrt                      3e-6 at the ends of the range
 *   sin cos                   absolute 2e-7 while |x| < 5e4, growing with |x|, meaningless from 1e6
 *   tan                       1e-6 while |x| < 1e4
 *   remainder floor_divide    exact while |quotient| < 2**22 and 2**-100 < |divisor| < 2**116;
 *                             integers are exact, except u32 from 2**31
 *   float to integer          exact in the destination's range, saturates outside; nan becomes 0
 *   integer to integer        in range exact; out of range as the hardware does: saturates
 */
#include "pass/pass.h"

#include <math.h>

/* Expr.dt is the dtype of the numbers: f32 for the narrow floats. */
static Val
num(Expr *e, double c)
{
    return x_number(e, e->dt, c);
}

static Val
add(Expr *e, Val a, Val b)
{
    return x_binary(e, T_add, a, b);
}

static Val
sub(Expr *e, Val a, Val b)
{
    return x_binary(e, T_sub, a, b);
}

static Val
mul(Expr *e, Val a, Val b)
{
    return x_binary(e, T_mul, a, b);
}

static Val
binc(Expr *e, TOp op, Val a, double c)
{
    return x_binary(e, op, a, num(e, c));
}

static Val
addc(Expr *e, Val a, double c)
{
    return binc(e, T_add, a, c);
}

static Val
mulc(Expr *e, Val a, double c)
{
    return binc(e, T_mul, a, c);
}

/* c - a */
static Val
subfrom(Expr *e, double c, Val a)
{
    return x_binary(e, T_sub, num(e, c), a);
}

static Val
clamp(Expr *e, Val a, double lo, double hi)
{
    return binc(e, T_minimum, binc(e, T_maximum, a, lo), hi);
}

/* 1 where a op b, else 0, as a number */
static Val
flag(Expr *e, TOp op, Val a, Val b)
{
    return x_cast(e, x_binary(e, op, a, b), e->dt);
}

/* ---- rounding ---- */

/* Nearest integer of |x| < 2**31 */
static Val
nearest(Expr *e, Val x)
{
    return x_cast(e, x_rcast(e, x, DT_i32), e->dt);
}

/* From 2**23 on all f32 are integers; inf and nan pass too. */
static Val
unless_large(Expr *e, Val x, Val rounded)
{
    Val small = binc(e, T_less, x_unary(e, T_abs, x), 8388608);
    return x_where(e, small, rounded, x);
}

static Val
expand_rint(Expr *e, Val x)
{
    return unless_large(e, x, nearest(e, x));
}

static Val
expand_floor(Expr *e, Val x)
{
    Val n = nearest(e, x);
    return unless_large(e, x, sub(e, n, flag(e, T_greater, n, x)));
}

static Val
expand_ceil(Expr *e, Val x)
{
    Val n = nearest(e, x);
    return unless_large(e, x, add(e, n, flag(e, T_less, n, x)));
}

/* n is x rounded to nearest; takes back a step away from zero. */
static Val
toward_zero(Expr *e, Val n, Val x)
{
    Val an = x_unary(e, T_abs, n), ax = x_unary(e, T_abs, x);
    Val over = flag(e, T_greater, an, ax);
    return sub(e, n, mul(e, over, x_unary(e, T_sign, x)));
}

static Val
expand_trunc(Expr *e, Val x)
{
    return unless_large(e, x, toward_zero(e, nearest(e, x), x));
}

/* ---- arithmetic ---- */

static Val
expand_neg(Expr *e, Val x)
{
    return mulc(e, x, -1);
}

static Val
expand_positive(Expr *e, Val x)
{
    (void)e;
    return x;
}

static Val
expand_div(Expr *e, Val a, Val b)
{
    double c;
    const Op *def = e->st == ST_OK ? val_def(e->g, b) : NULL;
    /* a / e^x is a * e^-x: one activation instead of a reciprocal, which is 8 times slower */
    if (def && def->code == T_exp)
        return mul(e, a, x_unary(e, T_exp, mulc(e, op_val(e->g, def, 0), -1)));
    if (e->st == ST_OK && is_splat(e->g, a, &c) && c == 1)
        return x_unary(e, T_reciprocal, b);
    return mul(e, a, x_unary(e, T_reciprocal, b)); /* of a constant: folds */
}

static Val
expand_isnan(Expr *e, Val x)
{
    return x_binary(e, T_not_equal, x, x);
}

/* The upper 12 bits of x, |x| < 2**116 */
static Val
upper_half(Expr *e, Val x)
{
    Val c = mulc(e, x, 4097);
    return sub(e, c, sub(e, c, x));
}

/* a - q * b with exact products */
static Val
exact_rest(Expr *e, Val a, Val q, Val b)
{
    double v;
    int k;
    if (e->st == ST_OK && is_splat(e->g, b, &v) && fabs(frexp(v, &k)) == 0.5)
        return sub(e, a, mul(e, q, b));
    b = clamp(e, b, -8e34, 8e34);
    Val bh = upper_half(e, b), bl = sub(e, b, bh);
    Val qh = upper_half(e, q), ql = sub(e, q, qh);
    Val r = sub(e, a, mul(e, qh, bh));
    if (e->st == ST_OK && is_splat(e->g, bl, &v) && v == 0)
        return sub(e, r, mul(e, ql, bh));
    r = sub(e, r, mul(e, qh, bl));
    r = sub(e, r, mul(e, ql, bh));
    return sub(e, r, mul(e, ql, bl));
}

/* Floor division. With the nearest quotient the rest is at most about |b| / 2, so it is exact;
 * where its sign is not that of b the quotient was too large by one. */
static void
divmod_float(Expr *e, Val a, Val b, Val *quotient, Val *rest)
{
    Val q = expand_rint(e, mul(e, a, x_unary(e, T_reciprocal, b)));
    Val r = exact_rest(e, a, q, b);
    Val low = binc(e, T_less, mul(e, r, x_unary(e, T_sign, b)), 0);
    *quotient = sub(e, q, x_cast(e, low, e->dt));
    *rest = x_where(e, low, add(e, r, b), r);
}

/* All in i32. The first estimate is off by up to 2**-22 of the quotient, the second by one. */
static void
divmod_int(Expr *e, Val a, Val b, Val *quotient, Val *rest)
{
    Val inverse = x_unary(e, T_reciprocal, x_cast(e, b, DT_f32));
    Val q = x_rcast(e, mul(e, x_cast(e, a, DT_f32), inverse), DT_i32);
    Val r = sub(e, a, mul(e, q, b));
    Val dq = x_rcast(e, mul(e, x_cast(e, r, DT_f32), inverse), DT_i32);
    Val zero = num(e, 0);
    q = add(e, q, dq);
    r = sub(e, r, mul(e, dq, b));
    Val rn = x_binary(e, T_less, r, zero), bn = x_binary(e, T_less, b, zero);
    Val opposite = x_binary(e, T_logical_xor, rn, bn);
    Val down = x_binary(e, T_logical_and, opposite, x_binary(e, T_not_equal, r, zero));
    Val by_zero = x_binary(e, T_equal, b, zero);
    q = sub(e, q, x_cast(e, down, e->dt));
    r = x_where(e, down, add(e, r, b), r);
    *quotient = x_where(e, by_zero, zero, q);
    *rest = x_where(e, by_zero, zero, r);
}

static Val
expand_divmod(Expr *e, Val a, Val b, bool want_rest)
{
    Val q = {0}, r = {0};
    if (is_float(e->dt)) {
        divmod_float(e, a, b, &q, &r);
        return want_rest ? r : add(e, q, mulc(e, a, 0)); /* inf // b is nan */
    }
    DType dt = e->dt;
    e->dt = DT_i32;
    a = x_cast(e, a, DT_i32);
    b = x_cast(e, b, DT_i32);
    divmod_int(e, a, b, &q, &r);
    return x_cast(e, want_rest ? r : q, dt);
}

static Val
expand_floor_divide(Expr *e, Val a, Val b)
{
    return expand_divmod(e, a, b, false);
}

static Val
expand_remainder(Expr *e, Val a, Val b)
{
    return expand_divmod(e, a, b, true);
}

/* ---- exponentials and logarithms ---- */

/* exp(x * ln 2) with the product split, since its rounding error grows with x. */
static Val
expand_exp2(Expr *e, Val x)
{
    const double ln2 = 0.6931471805599453, hi = 0.693359375; /* 9 bits: n * hi is exact */
    Val n = nearest(e, clamp(e, x, -126, 127));
    Val f = sub(e, x, n);
    Val p = mulc(e, f, ln2), q = mulc(e, n, ln2 - hi);
    p = x_unary(e, T_exp, add(e, p, q));
    q = x_unary(e, T_exp, mulc(e, n, hi));
    return mul(e, p, q);
}

/* (e**x - 1) / (e**x + 1) is tanh(x / 2): no cancellation */
static Val
expand_expm1(Expr *e, Val x)
{
    Val t = x_unary(e, T_tanh, mulc(e, x, 0.5));
    return mul(e, t, addc(e, x_unary(e, T_exp, x), 1));
}

static Val
expand_log2(Expr *e, Val x)
{
    return mulc(e, x_unary(e, T_log, x), 1.4426950408889634);
}

static Val
expand_log10(Expr *e, Val x)
{
    return mulc(e, x_unary(e, T_log, x), 0.4342944819032518);
}

/* log(u) + (x - (u - 1)) / u with u = 1 + x as rounded. Below -1/2 and far above 1 nothing was
 * lost. */
static Val
expand_log1p(Expr *e, Val x)
{
    Val y = clamp(e, x, -0.5, 1e30), u = addc(e, y, 1);
    Val lost = sub(e, y, addc(e, u, -1));
    lost = mul(e, lost, x_unary(e, T_reciprocal, u));
    return add(e, x_unary(e, T_log, addc(e, x, 1)), lost);
}

/* e**|x| may overflow where the result does not: its square root does not. */
static Val
expand_cosh(Expr *e, Val x)
{
    Val p = x_unary(e, T_exp, mulc(e, x, 0.5)), q = x_unary(e, T_exp, mulc(e, x, -0.5));
    p = mul(e, mulc(e, p, 0.5), p);
    q = mul(e, mulc(e, q, 0.5), q);
    return add(e, p, q);
}

/* sinh(x) = tanh(x / 2) * (cosh(x) + 1): no cancellation */
static Val
expand_sinh(Expr *e, Val x)
{
    Val t = x_unary(e, T_tanh, mulc(e, x, 0.5));
    return mul(e, t, addc(e, expand_cosh(e, x), 1));
}

static Val
expand_cbrt(Expr *e, Val x)
{
    Val third = mulc(e, x_unary(e, T_log, x_unary(e, T_abs, x)), 1.0 / 3);
    third = x_unary(e, T_exp, third);
    return mul(e, third, x_unary(e, T_sign, x));
}

/* ---- trigonometry ---- */

#define PI 3.14159265358979323846
#define MAGIC 12582912.0 /* 1.5 * 2**23: adding it rounds an f32 to an integer, ties to even */

static Val
magic_round(Expr *e, Val x)
{
    return addc(e, addc(e, x, MAGIC), -MAGIC);
}

/* x - n * (c0 + c1 + c2), the sum being a period to 43 bits: products with c0 are exact for
 * |n| < 2**16, with c1 for |n| < 2**13. */
static Val
reduce_period(Expr *e, Val x, Val n, const double c[3])
{
    for (int i = 0; i < 3; i++)
        x = sub(e, x, mulc(e, n, c[i]));
    return x;
}

/* x minus its nearest multiple of 2 pi: in [-pi, pi], a little more for large x. */
static Val
reduce_2pi(Expr *e, Val x)
{
    static const double two_pi[3] = {6.28125, 0.0019350051879882812, 3.019916050561733e-07};
    Val n = magic_round(e, mulc(e, x, 1 / (2 * PI)));
    return clamp(e, reduce_period(e, x, n, two_pi), -4, 4);
}

/* Reflected at +-pi/2, where sine is symmetric. */
static Val
expand_sin(Expr *e, Val x)
{
    Val r = reduce_2pi(e, x);
    r = x_binary(e, T_minimum, subfrom(e, PI, r), r);
    r = x_binary(e, T_maximum, subfrom(e, -PI, r), r);
    return x_unary(e, T_sin_pi, r);
}

static Val
expand_cos(Expr *e, Val x)
{
    return x_unary(e, T_sin_pi, subfrom(e, PI / 2, x_unary(e, T_abs, reduce_2pi(e, x))));
}

/* In quadrant n: sin / cos of the rest, or -cos / sin in odd ones. */
static Val
expand_tan(Expr *e, Val x)
{
    static const double half_pi[3] = {1.5703125, 0.0004837512969970703, 7.549790126404332e-08};
    Val n = magic_round(e, mulc(e, x, 2 / PI)), h = mulc(e, n, 0.5);
    Val r = clamp(e, reduce_period(e, x, n, half_pi), -1, 1);
    Val odd = x_binary(e, T_not_equal, h, magic_round(e, h));
    Val s = x_unary(e, T_sin_pi, r), c = x_unary(e, T_sin_pi, subfrom(e, PI / 2, x_unary(e, T_abs, r)));
    Val top = x_where(e, odd, mulc(e, c, -1), s), bottom = x_where(e, odd, s, c);
    return mul(e, top, x_unary(e, T_reciprocal, bottom));
}

/* For |x| > 1: sign(x) * pi / 2 - arctan(1 / x) */
static Val
expand_arctan(Expr *e, Val x)
{
    Val big = binc(e, T_greater, x_unary(e, T_abs, x), 1);
    Val t = x_unary(e, T_arctan_small, x_where(e, big, x_unary(e, T_reciprocal, x), x));
    return x_where(e, big, sub(e, mulc(e, x_unary(e, T_sign, x), PI / 2), t), t);
}

/* ---- conversions ---- */

/* Truncates, then converts a number that is an integer already. */
static Val
float_to_int(Expr *e, Val x, DType to)
{
    DType via = to == DT_u32 ? DT_u32 : DT_i32;
    Val n = x_cast(e, x_rcast(e, x, via), e->dt);
    return x_rcast(e, toward_zero(e, n, x), to);
}

static Status
expand_cast(Graph *g, const Op *op, Val x, Val *out)
{
    DType from = val_dtype(g, x), to = (DType)attr_int(g->cx, op->attr, A_dtype, DT_none);
    Expr e = {.g = g, .loc = op->loc, .dt = from};
    if (from == to)
        *out = x;
    else if (to == DT_bool)
        *out = binc(&e, T_not_equal, x, 0);
    else if (!is_float(from) || is_float(to))
        *out = x_cast(&e, x, to);
    else {
        e.dt = dtypes[from].bytes < 4 ? DT_f32 : from;
        *out = float_to_int(&e, x_cast(&e, x, e.dt), to);
    }
    return e.st;
}

/* 1 / x of integers: NumPy truncates. */
static Val
int_reciprocal(Expr *e, Val x)
{
    Val unit = binc(e, T_equal, x_unary(e, T_abs, x), 1);
    return x_where(e, unit, x, num(e, 0));
}

/* ---- what is too long for a row on chip ---- */

#define LONG_BYTES 65536 /* of a row that a reduction in one step would need */

/* The longest run of dims that are, or are not, in the set; dims of size 1 belong to any. */
static int64_t
longest_run(const Type *t, uint32_t set, bool in)
{
    int64_t n = 1, most = 1;
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] == 1)
            continue;
        n = (set >> i & 1) == in ? n * t->dim[i] : 1;
        most = MAX(most, n);
    }
    return most;
}

/* Neither the dims that stay nor those reduced have a run that leaves short rows: one axis after the other. */
static bool
is_long_reduction(const Graph *g, const Op *op, Val x)
{
    const int64_t *axes;
    const Type *t = val_type(g, x);
    uint32_t set = 0;
    if (!(tensor_dialect.ops[op->code].flags & F_REDUCE))
        return false;
    int n = attr_ints(g->cx, op->attr, A_axes, &axes);
    for (int i = 0; i < n; i++)
        set |= 1u << axes[i];
    int64_t rows = MAX(longest_run(t, set, true), longest_run(t, set, false));
    return n > 1 && type_numel(t) / MAX(rows, 1) * dtypes[t->dtype].bytes > LONG_BYTES;
}

static Status
split_reduction(Expr *e, const Graph *in, const Op *op, Val x, Val *out)
{
    const int64_t *axes;
    const Type *t = val_type(in, op->out);
    int n = attr_ints(in->cx, op->attr, A_axes, &axes);
    DType dt = val_dtype(e->g, x);
    if (is_float(dt))
        x = x_cast(e, x, DT_f32); /* rounded once, at the end */
    TRY(e->st);
    for (int i = n - 1; i >= 0; i--)
        TRY(t_reduce(e->g, (TOp)op->code, x, &axes[i], 1, true, e->loc, &x));
    TRY(t_reshape(e->g, x, t->dim, t->rank, e->loc, &x));
    return t_cast(e->g, x, dt, e->loc, out);
}

/* ---- the walk ---- */

typedef Val ExpandUnary(Expr *e, Val x);
typedef Val ExpandBinary(Expr *e, Val a, Val b);

static ExpandUnary *const unary[T_COUNT] = {
    [T_neg] = expand_neg,
    [T_positive] = expand_positive,
    [T_cbrt] = expand_cbrt,
    [T_exp2] = expand_exp2,
    [T_expm1] = expand_expm1,
    [T_log2] = expand_log2,
    [T_log10] = expand_log10,
    [T_log1p] = expand_log1p,
    [T_sin] = expand_sin,
    [T_cos] = expand_cos,
    [T_tan] = expand_tan,
    [T_arctan] = expand_arctan,
    [T_sinh] = expand_sinh,
    [T_cosh] = expand_cosh,
    [T_floor] = expand_floor,
    [T_ceil] = expand_ceil,
    [T_rint] = expand_rint,
    [T_trunc] = expand_trunc,
    [T_isnan] = expand_isnan,
};
static ExpandBinary *const binary[T_COUNT] = {
    [T_div] = expand_div,
    [T_floor_divide] = expand_floor_divide,
    [T_remainder] = expand_remainder,
};

static Val
expand(Expr *e, int op, Val a, Val b)
{
    return unary[op] ? unary[op](e, a) : binary[op](e, a, b);
}

/* One instruction in any float: nothing to gain from f32. */
static bool
is_one_step(int op)
{
    return op == T_neg || op == T_positive || op == T_isnan;
}

static Status
expand_op(Graph *g, const Op *op, Val a, Val b, Val *out)
{
    DType dt = val_dtype(g, a);
    Expr e = {.g = g, .loc = op->loc, .dt = dt};
    if (!unary[op->code] && !binary[op->code])
        return fail(g->cx, ST_BUG, op->loc, "decompose: no rewriter for %s", tensor_dialect.ops[op->code].name);
    if (!is_float(dt) || dtypes[dt].bytes >= 4 || is_one_step(op->code)) {
        *out = expand(&e, op->code, a, b);
        return e.st;
    }
    e.dt = DT_f32;
    a = x_cast(&e, a, DT_f32);
    b = x_cast(&e, b, DT_f32);
    *out = x_cast(&e, expand(&e, op->code, a, b), dt);
    return e.st;
}

static bool
is_empty(const Graph *g, Val v)
{
    return type_numel(val_type(g, v)) == 0;
}

/* What has no elements, or is made of what has none: nothing is left to compute. */
static bool
has_nothing_to_do(const Graph *in, const Op *op)
{
    if (op->code == T_input)
        return false;
    return is_empty(in, op->out) || (op->nin > 0 && op->code != T_concat && is_empty(in, op_val(in, op, 0)));
}

/* Parts of a concat that have elements. */
static Status
concat_rest(const Graph *in, Graph *g, const Op *op, const Val *map, Val *out)
{
    Val *part;
    int n = 0;
    NEW(g->cx, &g->cx->scratch, part, op->nin);
    for (int i = 0; i < op->nin; i++)
        if (!is_empty(in, op_val(in, op, i)))
            part[n++] = map[op_val(in, op, i).i];
    *out = part[0];
    return n == 1 ? ST_OK : t_concat(g, part, n, attr_int(in->cx, op->attr, A_axis, 0), op->loc, out);
}

/* ---- integers that the device would get wrong ---- */

static bool
is_arithmetic(int op)
{
    return op == T_add || op == T_sub || op == T_mul || op == T_neg || op == T_square || op == T_floor_divide ||
           op == T_remainder || op == T_power;
}

static bool
is_order(int op)
{
    return op == T_less || op == T_less_equal || op == T_greater || op == T_greater_equal || op == T_equal ||
           op == T_not_equal || op == T_maximum || op == T_minimum || op == T_reduce_max || op == T_reduce_min ||
           op == T_floor_divide || op == T_remainder;
}

static bool
holds_all_of(DType to, DType from)
{
    bool same_kind = dtypes[to].kind == dtypes[from].kind;
    return same_kind ? dtypes[to].bytes >= dtypes[from].bytes
                     : dtypes[to].kind == DK_int && dtypes[to].bytes > dtypes[from].bytes;
}

/* The engines compute in f32 or in 32-bit words, and conversions saturate. What NumPy computes otherwise is refused. */
static Status
check_integers(const Graph *in, const Op *op)
{
    DType dt = op->nin ? val_dtype(in, op_val(in, op, 0)) : DT_none, to = op->nout ? val_dtype(in, op->out) : DT_none;
    const char *name = tensor_dialect.ops[op->code].name;
    if (!is_integer(dt))
        return ST_OK;
    if (dtypes[dt].bytes < 4 && is_arithmetic(op->code))
        return fail(in->cx, ST_UNSUPPORTED, op->loc,
                    "%s of %s saturates on the device where NumPy wraps around; convert to i32 first", name,
                    dtypes[dt].name);
    if (dt == DT_u32 && is_order(op->code))
        return fail(in->cx, ST_UNSUPPORTED, op->loc,
                    "%s of u32 is only exact below 2^24 on the device; convert to i32 or f32 first", name);
    if (op->code == T_cast && is_integer(to) && !holds_all_of(to, dt))
        return fail(in->cx, ST_UNSUPPORTED, op->loc,
                    "conversion of %s to %s saturates on the device where NumPy wraps around; clip and go through f32",
                    dtypes[dt].name, dtypes[to].name);
    return ST_OK;
}

static Status
rewrite_op(const Rewrite *rw, OpId o, Val *out)
{
    const Graph *in = rw->in;
    Graph *g = rw->g;
    const Op *op = graph_op(in, o);
    const Type *t = val_type(in, op->out);
    if (has_nothing_to_do(in, op)) /* sums and products of nothing are 0 */
        return t_full(g, (DType)t->dtype, t->rank, t->dim, 0, op->loc, out);
    if (op->code == T_concat)
        return concat_rest(in, g, op, rw->map, out);
    if (op->nin == 0)
        return rewrite_clone(rw, o, out);
    TRY(check_integers(in, op));
    Val a = rw->map[op_val(in, op, 0).i], b = op->nin > 1 ? rw->map[op_val(in, op, 1).i] : a;
    if (op->code == T_cast)
        return expand_cast(g, op, a, out);
    Expr e = {.g = g, .loc = op->loc, .dt = (DType)t->dtype};
    if (op->code == T_reciprocal && !is_float((DType)t->dtype)) {
        *out = int_reciprocal(&e, a);
        return e.st;
    }
    if (op->code == T_square && is_integer((DType)t->dtype)) /* in words; the activation would compute it in f32 */
        return t_binary(g, T_mul, a, a, op->loc, out);
    if (is_long_reduction(g, op, a))
        return split_reduction(&e, in, op, a, out);
    if (op->flags & F_CORE)
        return rewrite_clone(rw, o, out);
    TRY(expand_op(g, op, a, b, out));
    return rewrite_shaped(rw, op, *out, out);
}

Status
pass_decompose(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Graph *g;
    TRY(graph_rewrite(in, opt, rewrite_op, NULL, &g));
    TRY(order_words(g, opt, &g));
    return graph_sweep(g, opt, out);
}
