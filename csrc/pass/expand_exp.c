/* expand_exp.c - exponentials, logarithms, hyperbolic functions and roots.
 *
 * in:   f32 of any value
 * out:  NumPy's function within the bounds of docs/accuracy.md; odd functions keep the sign of a zero
 * rule: no intermediate overflows or cancels where the result does not.
 */
#include "pass/expand.h"

#include <math.h>

/* exp(x * ln 2) with the product split, since its rounding error grows with x. */
Val
expand_exp2(Expr *e, Val x)
{
    const double ln2 = 0.6931471805599453, hi = 0.693359375; /* 9 bits: n * hi is exact */
    Val n = round_by(e, clamp(e, x, -126, 127), MAGIC);
    Val f = sub(e, x, n);
    Val p = mulc(e, f, ln2), q = mulc(e, n, ln2 - hi);
    p = x_unary(e, T_exp, add(e, p, q));
    q = x_unary(e, T_exp, mulc(e, n, hi));
    return mul(e, p, q);
}

/* (e**x - 1) / (e**x + 1) is tanh(x / 2): no cancellation */
Val
expand_expm1(Expr *e, Val x)
{
    Val t = x_unary(e, T_tanh, mulc(e, x, 0.5));
    return mul(e, t, addc(e, x_unary(e, T_exp, x), 1));
}

Val
expand_log2(Expr *e, Val x)
{
    return mulc(e, x_unary(e, T_log, x), 1.4426950408889634);
}

Val
expand_log10(Expr *e, Val x)
{
    return mulc(e, x_unary(e, T_log, x), 0.4342944819032518);
}

/* log(u) + (x - (u - 1)) / u with u = 1 + x as rounded. Below -1/2 and far above 1 nothing was lost. With both terms
 * taken negative a -0 stays one: -0 - -0 is 0, whose negative is -0. */
Val
expand_log1p(Expr *e, Val x)
{
    Val y = clamp(e, x, -0.5, 1e30), u = addc(e, y, 1);
    Val lost = sub(e, y, addc(e, u, -1));
    lost = mul(e, lost, x_unary(e, T_reciprocal, u));
    Val l = mulc(e, x_unary(e, T_log, addc(e, x, 1)), -1);
    return mulc(e, sub(e, l, lost), -1);
}

/* e**|x| may overflow where the result does not: its square root does not. */
Val
expand_cosh(Expr *e, Val x)
{
    Val p = x_unary(e, T_exp, mulc(e, x, 0.5)), q = x_unary(e, T_exp, mulc(e, x, -0.5));
    p = mul(e, mulc(e, p, 0.5), p);
    q = mul(e, mulc(e, q, 0.5), q);
    return add(e, p, q);
}

/* sinh(x) = tanh(x / 2) * (cosh(x) + 1): no cancellation */
Val
expand_sinh(Expr *e, Val x)
{
    Val t = x_unary(e, T_tanh, mulc(e, x, 0.5));
    return mul(e, t, addc(e, expand_cosh(e, x), 1));
}

/* ---- roots ---- */

#define LEAST 0x1p-50
#define MOST 0x1p50

/* y = |x|**(1/3) by the logarithm, then a step of Newton's method: y - (y**3 - a) / (3 y**2). The magnitude is scaled
 * by the cube of a power of two into [2**-50, 2**62]; 0 and inf come back through the factors at the end. */
Val
expand_cbrt(Expr *e, Val x)
{
    Val size = x_unary(e, T_abs, x);
    Val a = mul(e, size, scale_by_size(e, size, LEAST, 0x1p99, MOST, 0x1p-66));
    a = clamp(e, a, 0x1p-51, 0x1p63);
    Val third = mulc(e, x_unary(e, T_log, a), 1.0 / 3), y = x_unary(e, T_exp, third);
    Val slope = mulc(e, x_unary(e, T_exp, mulc(e, third, -2)), 1.0 / 3);
    Val excess = sub(e, mul(e, mul(e, y, y), y), a);
    y = sub(e, y, mul(e, excess, slope));
    y = mul(e, y, undo_scale(e, size, LEAST, 0x1p-33, MOST, 0x1p22));
    y = x_binary(e, T_maximum, y, mul(e, flagc(e, T_equal, size, INFINITY), size));
    Val sign = clamp(e, mulc(e, mulc(e, x, 0x1p100), 0x1p60), -1, 1);
    return mul(e, y, sign);
}

/* The operands are scaled by a power of two, so that no square over- or underflows. An infinite one decides, whatever
 * the other is. */
Val
expand_hypot(Expr *e, Val x, Val y)
{
    const double lo = 0x1p-57, hi = 0x1p58;
    x = x_unary(e, T_abs, x);
    y = x_unary(e, T_abs, y);
    Val m = x_binary(e, T_maximum, x, y), s = scale_by_size(e, m, lo, 0x1p100, hi, 0x1p-70);
    x = mul(e, x, s);
    y = mul(e, y, s);
    x = x_unary(e, T_square, x);
    y = x_unary(e, T_square, y);
    Val h = x_unary(e, T_sqrt, clamp(e, add(e, x, y), 0x1p-114, 0x1p117)); /* 0 comes back by the scale */
    h = mul(e, h, undo_scale(e, m, lo, 0x1p-100, hi, 0x1p70));
    Val inf = num(e, INFINITY);
    x = x_binary(e, T_equal, x, inf);
    y = x_binary(e, T_equal, y, inf);
    return x_where(e, x_binary(e, T_logical_or, x, y), inf, h);
}

/* max + log(1 + e**-|x - y|); the difference of equal infinities is 0. */
Val
expand_logaddexp(Expr *e, Val x, Val y)
{
    Val d = x_unary(e, T_abs, sub(e, x, y));
    Val zero = num(e, 0);
    d = x_where(e, x_binary(e, T_equal, x, y), zero, d);
    d = expand_log1p(e, x_unary(e, T_exp, mulc(e, d, -1)));
    return add(e, x_binary(e, T_maximum, x, y), d);
}
