/* expand_round.c - rounding to integers.
 *
 * in:   f32 of any value
 * out:  NumPy's rint, floor, ceil and trunc in every bit, signs of zeros included
 * rule: magnitudes are rounded and the sign is multiplied in, since a sum of numbers is never -0.
 */
#include "pass/expand.h"

#define WHOLE 8388608.0 /* 2**23: from here on every f32 is an integer */

/* A magnitude to the nearest integer, ties to even. */
static Val
nearest(Expr *e, Val a)
{
    Val n = addc(e, addc(e, binc(e, T_minimum, a, WHOLE), WHOLE), -WHOLE);
    Val large = mul(e, flagc(e, T_greater_equal, a, WHOLE), a);
    return x_binary(e, T_maximum, n, large);
}

/* n is 0 unless |x| >= 1 / steep: gives it the sign of x. */
static Val
with_sign(Expr *e, Val n, Val x, double steep)
{
    return mul(e, n, clamp(e, mulc(e, x, steep), -1, 1));
}

Val
expand_rint(Expr *e, Val x)
{
    return with_sign(e, nearest(e, x_unary(e, T_abs, x)), x, 2);
}

Val
expand_floor(Expr *e, Val x)
{
    Val n = expand_rint(e, x);
    return sub(e, n, flag(e, T_greater, n, x));
}

Val
expand_ceil(Expr *e, Val x)
{
    return mulc(e, expand_floor(e, mulc(e, x, -1)), -1);
}

Val
expand_trunc(Expr *e, Val x)
{
    Val a = x_unary(e, T_abs, x), n = nearest(e, a);
    return with_sign(e, sub(e, n, flag(e, T_greater, n, a)), x, 1);
}

/* A power of two that brings a magnitude into reach: `up` below lo, `down` above hi, else 1. */
Val
scale_by_size(Expr *e, Val size, double lo, double up, double hi, double down)
{
    Val small = mulc(e, flagc(e, T_less, size, lo), up);
    Val rest = binc(e, T_maximum, flagc(e, T_less_equal, size, hi), down);
    return x_binary(e, T_maximum, small, rest);
}

/* The other way: what scale_by_size of the same bounds is multiplied back by. */
Val
undo_scale(Expr *e, Val size, double lo, double down, double hi, double up)
{
    Val large = mulc(e, flagc(e, T_greater, size, hi), up);
    Val rest = binc(e, T_maximum, flagc(e, T_greater_equal, size, lo), down);
    return x_binary(e, T_maximum, rest, large);
}
