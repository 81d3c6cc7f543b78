/* expand_divide.c - division, floor division and remainder.
 *
 * in:   f32 of any value; i32 for the integer forms
 * out:  quotients of f32 by a reciprocal and a product, within 2 ulp; exact ones of integers; remainders exact
 * rule: the engines have no division. A reciprocal overflows below 2**-128 where the quotient need not: the divisor is
 *       scaled by a power of two unless known.c can tell that it is never so small. Remainders are nan where the
 *       quotient is 2**46 or more.
 */
#include "pass/expand.h"

#include <math.h>

#define TINY 0x1p-100
#define UP 0x1p64

/* ---- division ---- */

/* a / c. The reciprocal of a power of two is exact; that of very small and large numbers is taken in two steps. */
static Val
div_const(Expr *e, Val a, double c)
{
    double size = fabs(c), scale = size > 0 && size < TINY ? UP : size > 1 / TINY && size < INFINITY ? 1 / UP : 1;
    a = mulc(e, a, (double)(float)(1 / (c * scale)));
    return scale != 1 ? mulc(e, a, scale) : a;
}

/* a / e**x: the reciprocal is needed nowhere if its root is taken twice. */
static Val
div_exp(Expr *e, Val a, Val b)
{
    Val root = x_unary(e, T_rsqrt, b);
    return mul(e, mul(e, a, root), root);
}

/* The reciprocal of no element overflows. */
static bool
is_safe_divisor(const Expr *e, Val b)
{
    return e->b.lo >= 0x1p-126 || e->b.hi <= -0x1p-126 || has_no_subnormals(e->g, b);
}

static bool
is_per_row(const Graph *g, Val a, Val b)
{
    return type_numel(val_type(g, b)) < type_numel(val_type(g, a));
}

Val
expand_div(Expr *e, Val a, Val b)
{
    double c;
    if (e->st != ST_OK)
        return a;
    if (is_splat(e->g, b, &c))
        return div_const(e, a, c);
    if (is_splat(e->g, a, &c) && c == 1)
        return x_unary(e, T_reciprocal, b);
    if (is_safe_divisor(e, b))
        return mul(e, a, x_unary(e, T_reciprocal, b));
    if (is_exponential(e->g, b) && !is_per_row(e->g, a, b))
        return div_exp(e, a, b);
    Val small = flagc(e, T_less, x_unary(e, T_abs, b), TINY);
    Val scale = binc(e, T_maximum, mulc(e, small, UP), 1);
    Val r = x_unary(e, T_reciprocal, mul(e, b, scale));
    return mul(e, mul(e, a, r), scale);
}

/* ---- remainders of floats ---- */

typedef struct Divisor { /* |b| in [2**-40, 2**60] after scaling, but for 0, inf and nan */
    Val b, hi, lo, inverse;
    bool exact;   /* 12 bits: lo is 0 */
    Val up, down; /* the scale and its inverse; {0}: 1 */
} Divisor;

/* At most 12 bits, whatever the value: of a narrow float, or a constant. */
static bool
is_short(const Graph *g, Val b)
{
    double c;
    int k;
    const Op *op = val_def(g, b);
    if (is_splat(g, b, &c))
        return frexp(c, &k) * 4096 == rint(frexp(c, &k) * 4096);
    return op->code == T_cast && dtypes[val_dtype(g, op_val(g, op, 0))].bytes < 4;
}

static bool
is_of_f16(const Graph *g, Val b)
{
    const Op *op = val_def(g, b);
    return op->code == T_cast && val_dtype(g, op_val(g, op, 0)) == DT_f16;
}

/* In the reach of Divisor without a scale. */
static bool
is_moderate(const Expr *e, Val b)
{
    Interval i = e->b;
    bool positive = i.lo >= 0x1p-40 && i.hi <= 0x1p60, negative = i.lo >= -0x1p60 && i.hi <= -0x1p-40;
    return positive || negative || is_of_f16(e->g, b);
}

/* No quotient is as large as 2**bits. */
static bool
is_quotient_below(const Expr *e, int bits)
{
    double most = MAX(fabs(e->a.lo), fabs(e->a.hi)), least = e->b.lo > 0 ? e->b.lo : e->b.hi < 0 ? -e->b.hi : 0;
    return most < ldexp(least, bits);
}

static Divisor
divisor(Expr *e, Val b)
{
    Divisor d = {.b = b};
    if (e->st != ST_OK)
        return d;
    d.exact = is_short(e->g, b);
    if (!is_moderate(e, b)) {
        Val size = x_unary(e, T_abs, b);
        d.up = scale_by_size(e, size, 0x1p-40, 0x1p110, 0x1p60, 0x1p-68);
        d.down = undo_scale(e, size, 0x1p-40, 0x1p-110, 0x1p60, 0x1p68);
        d.b = mul(e, b, d.up);
    }
    d.inverse = x_unary(e, T_reciprocal, d.b);
    d.b = clamp(e, d.b, -0x1p100, 0x1p100);
    d.hi = d.exact ? d.b : upper_half(e, d.b);
    d.lo = d.exact ? (Val){0} : sub(e, d.b, d.hi);
    return d;
}

/* r - q * b for a q of at most 12 bits: exact if the rest has 24 */
static Val
take(Expr *e, Val r, Val q, const Divisor *d)
{
    r = sub(e, r, mul(e, q, d->hi));
    return d->exact ? r : sub(e, r, mul(e, q, d->lo));
}

/* Takes q * b off for the upper 12 bits of the quotient where it is large. */
static void
take_large(Expr *e, const Divisor *d, Val *rest, Val *quotient)
{
    Val t = mul(e, *rest, d->inverse);
    Val q = upper_half(e, t);
    q = mul(e, q, flagc(e, T_greater_equal, x_unary(e, T_abs, t), 0x1p20));
    *rest = take(e, *rest, q, d);
    *quotient = quotient->i ? add(e, *quotient, q) : q;
}

/* Where |a| < |b| it may have lost bits by the scaling: 0 times b, rest a. */
static void
undo_where_less(Expr *e, Val a, Val b, Val *q, Val *r)
{
    Val sa = x_unary(e, T_abs, a), sb = x_unary(e, T_abs, b);
    *q = mul(e, *q, flag(e, T_greater_equal, sa, sb));
    *r = x_where(e, x_binary(e, T_less, sa, sb), a, *r);
}

typedef struct DivMod {
    Val quotient, rest;
    Val exact; /* bool: the quotient is below 2**46, all of the above is right */
    Val first; /* an estimate of the quotient, of the same sign */
} DivMod;

/* Floor division. With the nearest quotient the rest is at most about |b| / 2, so it is exact;
 * where its sign is not that of b the quotient was too large by one. */
static DivMod
divmod_float(Expr *e, Val a, Val b)
{
    DivMod m;
    Divisor d = divisor(e, b);
    Val r = d.up.i ? mul(e, a, d.up) : a, large = {0};
    m.first = mul(e, r, d.inverse);
    for (int i = is_quotient_below(e, 22) ? 2 : is_quotient_below(e, 33) ? 1 : 0; i < 2; i++)
        take_large(e, &d, &r, &large);
    Val q = expand_rint(e, mul(e, r, d.inverse)), qh = upper_half(e, q);
    r = take(e, r, qh, &d);
    r = take(e, r, sub(e, q, qh), &d);
    if (d.down.i) {
        r = mul(e, r, d.down);
        undo_where_less(e, a, b, &q, &r);
    }
    Val sr = x_unary(e, T_sign, r), sb = x_unary(e, T_sign, b);
    Val low = binc(e, T_less, mul(e, sr, sb), 0);
    m.exact = binc(e, T_less, x_unary(e, T_abs, m.first), 0x1p46);
    m.quotient = sub(e, q, x_cast(e, low, e->dt));
    m.quotient = large.i ? add(e, m.quotient, large) : m.quotient;
    m.rest = x_where(e, low, add(e, r, b), r);
    return m;
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
divmod_words(Expr *e, Val a, Val b, bool want_rest)
{
    Val q = {0}, r = {0};
    DType dt = e->dt;
    if (dt == DT_u32) {
        divmod_unsigned(e, a, b, &q, &r);
        return want_rest ? r : q;
    }
    e->dt = DT_i32;
    a = x_cast(e, a, DT_i32);
    b = x_cast(e, b, DT_i32);
    divmod_int(e, a, b, &q, &r);
    return x_cast(e, want_rest ? r : q, dt);
}

/* A quotient of 0 has the sign of a / b. By zero it is a / b; of an infinity by anything else nan. */
Val
expand_floor_divide(Expr *e, Val a, Val b)
{
    if (!is_float(e->dt))
        return divmod_words(e, a, b, false);
    DivMod m = divmod_float(e, a, b);
    Val plain = expand_div(e, a, b), zero = mulc(e, m.first, 0);
    Val q = x_where(e, binc(e, T_equal, m.quotient, 0), zero, m.quotient);
    q = x_where(e, m.exact, q, plain);
    q = sub(e, q, mulc(e, x_unary(e, T_abs, a), 0));
    return x_where(e, binc(e, T_equal, b, 0), plain, q);
}

/* A rest of 0 has the sign of the divisor. */
Val
expand_remainder(Expr *e, Val a, Val b)
{
    if (!is_float(e->dt))
        return divmod_words(e, a, b, true);
    DivMod m = divmod_float(e, a, b);
    Val zero = mulc(e, x_unary(e, T_sign, b), 0);
    Val r = x_where(e, binc(e, T_equal, m.rest, 0), zero, m.rest);
    return x_where(e, m.exact, r, num(e, NAN));
}
