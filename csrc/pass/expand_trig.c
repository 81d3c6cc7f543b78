/* expand_trig.c - sine, cosine, tangent and their argument's reduction; inverse tangent.
 *
 * in:   f32 of any value
 * out:  NumPy's function over the whole range, relative to the result near the zeros, too
 * rule: the hardware has the sine of [-pi, pi] only. An angle becomes a number of turns modulo 1, high + low, by exact
 *       products of halves of x with digits of 1 / 2 pi; which digits matter depends on the size of x. Angles that are
 *       known to be below 2**16 are reduced by multiples of pi instead, which is five times less work.
 */
#include "pass/expand.h"

#include <math.h>

/* ---- below 2**16 ---- */

/* x - n * pi. The first three parts have 8 bits: exact for n of 16 bits. */
static Val
minus_pi(Expr *e, Val x, Val n)
{
    static const double part[4] = {3.140625, 0.000965118408203125, 2.5331974029541016e-06, 1.984187159361081e-09};
    for (int i = 0; i < 4; i++)
        x = sub(e, x, mulc(e, n, part[i]));
    return x;
}

/* 1 where the integer is even, else -1 */
static Val
parity(Expr *e, Val n)
{
    Val h = mulc(e, n, 0.5), d = sub(e, h, round_by(e, h, MAGIC));
    return addc(e, mulc(e, x_unary(e, T_square, d), -8), 1);
}

static bool
is_below_2_16(const Expr *e, Val x)
{
    if (e->st != ST_OK)
        return false;
    const Op *op = val_def(e->g, x);
    bool f16 = op->code == T_cast && val_dtype(e->g, op_val(e->g, op, 0)) == DT_f16;
    return f16 || (e->a.lo >= -65536 && e->a.hi <= 65536);
}

static Val
sine_of(Expr *e, Val r)
{
    return x_unary(e, T_sin_pi, clamp(e, r, -3, 3));
}

static Val
sin_small(Expr *e, Val x)
{
    Val n = round_by(e, mulc(e, x, 1 / PI), MAGIC), r = minus_pi(e, x, n);
    return sine_of(e, mul(e, r, parity(e, n)));
}

/* cos x is sin(x + pi/2): n is half an integer */
static Val
cos_small(Expr *e, Val x)
{
    Val m = round_by(e, addc(e, mulc(e, x, 1 / PI), -0.5), MAGIC), r = minus_pi(e, x, addc(e, m, 0.5));
    return sine_of(e, mul(e, r, mulc(e, parity(e, m), -1)));
}

/* ---- any x ---- */

#define WINDOWS 10
#define BITS 12 /* of a window */

/* For 2**(12 + 12 w) <= |x| < 2**(24 + 12 w), and less in window 0: 2**(12 w - 11) / 2 pi modulo 1 in balanced digits
 * of base 2**24. x times 2**(11 - 12 w) is an integer there, but in window 0, so that whole turns may be dropped. */
static const int32_t digit[WINDOWS][3] = {
    {1304, -3400846, 7479465},      {5340354, -4774110, 693502},   {-3400846, 7479465, 5235003},
    {-4774110, 693502, 1289193},    {7479465, 5235003, -4288598},  {693502, 1289193, -353681},
    {5235003, -4288598, -5837305},  {1289193, -353681, -2069071},  {-4288598, -5837305, -2419539},
    {-353681, -2069071, 4902046},
};

typedef struct Turns { /* hi is a multiple of 2**-23 in [-1/2, 1/2], lo below 2**-12 */
    Val hi, lo;
} Turns;

/* The entry of the table for each element: every sum on the way is an entry, hence exact. */
static Val
look_up(Expr *e, const Val *from, const double *entry)
{
    Val v = num(e, entry[0]);
    for (int w = 1; w < WINDOWS; w++)
        v = add(e, mulc(e, from[w], entry[w] - entry[w - 1]), v);
    return v;
}

/* x minus its nearest integer */
static Val
modulo_1(Expr *e, Val x)
{
    return sub(e, x, round_by(e, x, MAGIC));
}

/* Splits x, |x| <= 1/2, at 2**-23: what is above goes to *hi. */
static Val
split(Expr *e, Val x, Val *hi)
{
    Val h = round_by(e, x, 1.5);
    *hi = hi->i ? add(e, *hi, h) : h;
    return sub(e, x, h);
}

typedef struct Factors { /* of the product x / 2 pi */
    Val whole, hi, lo; /* x, scaled into its window */
    Val c[4], rest;    /* digits of base 2**12, and what follows the first four */
} Factors;

static Factors
factors(Expr *e, Val x)
{
    Factors f;
    Val from[WINDOWS], size = x_unary(e, T_abs, x), pair[3];
    double entry[WINDOWS];
    for (int w = 1; w < WINDOWS; w++)
        from[w] = flagc(e, T_greater_equal, size, ldexp(1, BITS + BITS * w));
    for (int w = 0; w < WINDOWS; w++)
        entry[w] = ldexp(1, BITS - 1 - BITS * w);
    f.whole = mul(e, x, look_up(e, from, entry));
    f.hi = upper_half(e, f.whole);
    f.lo = sub(e, f.whole, f.hi);
    for (int i = 0; i < 3; i++) {
        for (int w = 0; w < WINDOWS; w++)
            entry[w] = ldexp(digit[w][i], -24 * (i + 1));
        pair[i] = look_up(e, from, entry);
    }
    for (int i = 0; i < 2; i++) {
        f.c[2 * i] = round_by(e, pair[i], ldexp(MAGIC, -BITS - 24 * i));
        f.c[2 * i + 1] = sub(e, pair[i], f.c[2 * i]);
    }
    f.rest = pair[2];
    return f;
}

/* hi * c[i] + lo * c[i - 1]: both have the same last place and together 24 bits, so the sum is exact. */
static Val
partial(Expr *e, const Factors *f, int i)
{
    Val a = mul(e, f->hi, f->c[i]);
    return add(e, a, mul(e, f->lo, f->c[i - 1]));
}

/* hi * c[0] is a whole number of turns. The first sum is below 2**23, the second below 2**11, the third below 3/8. */
static Turns
turns(Expr *e, Val x)
{
    Turns t = {0};
    Factors f = factors(e, x);
    Val first = partial(e, &f, 1), second = partial(e, &f, 2), third = partial(e, &f, 3);
    first = sub(e, first, round_by(e, first, 2 * MAGIC));
    Val l1 = split(e, modulo_1(e, first), &t.hi), l2 = split(e, modulo_1(e, second), &t.hi);
    t.hi = modulo_1(e, t.hi);
    Val l3 = split(e, third, &t.hi);
    t.hi = modulo_1(e, t.hi);
    t.lo = mul(e, f.whole, f.rest);
    t.lo = add(e, t.lo, mul(e, f.lo, f.c[3]));
    l3 = add(e, l3, l2);
    t.lo = add(e, t.lo, add(e, l3, l1));
    return t;
}

/* An angle in [-pi/2, pi/2] with the sine of 2 pi (hi + lo): half turns change the sign. */
static Val
same_sine(Expr *e, Val hi, Val lo)
{
    Val k = round_by(e, mulc(e, hi, 2), MAGIC);
    Val v = add(e, sub(e, hi, mulc(e, k, 0.5)), lo);
    Val sign = addc(e, mulc(e, x_unary(e, T_square, k), -2), 1);
    return mulc(e, mul(e, v, sign), 2 * PI);
}

/* Where |x| < 1/2 nothing is to be reduced; -0 and the subnormals stay what they are. */
static Val
unless_small(Expr *e, Val x, Val reduced)
{
    return x_where(e, binc(e, T_less, x_unary(e, T_abs, x), 0.5), x, reduced);
}

Val
expand_sin(Expr *e, Val x)
{
    if (is_below_2_16(e, x))
        return sin_small(e, x);
    Turns t = turns(e, x);
    return x_unary(e, T_sin_pi, unless_small(e, x, same_sine(e, t.hi, t.lo)));
}

Val
expand_cos(Expr *e, Val x)
{
    if (is_below_2_16(e, x))
        return cos_small(e, x);
    Turns t = turns(e, x);
    Val hi = modulo_1(e, addc(e, t.hi, 0.25));
    return x_unary(e, T_sin_pi, same_sine(e, hi, t.lo));
}

/* In quadrant n: sin / cos of the rest, or -cos / sin in odd ones. */
Val
expand_tan(Expr *e, Val x)
{
    Val n, r;
    if (is_below_2_16(e, x)) {
        n = round_by(e, mulc(e, x, 2 / PI), MAGIC);
        r = clamp(e, minus_pi(e, x, mulc(e, n, 0.5)), -1, 1);
    } else {
        Turns t = turns(e, x);
        n = round_by(e, mulc(e, t.hi, 4), MAGIC);
        r = mulc(e, add(e, sub(e, t.hi, mulc(e, n, 0.25)), t.lo), 2 * PI);
        r = unless_small(e, x, r);
    }
    Val odd = binc(e, T_less, parity(e, n), 0);
    Val s = x_unary(e, T_sin_pi, r), c = x_unary(e, T_sin_pi, subfrom(e, PI / 2, x_unary(e, T_abs, r)));
    Val top = x_where(e, odd, mulc(e, c, -1), s), bottom = x_where(e, odd, s, c);
    return mul(e, top, x_unary(e, T_reciprocal, bottom));
}

/* For |x| > 1: sign(x) * pi / 2 - arctan(1 / x) */
Val
expand_arctan(Expr *e, Val x)
{
    Val big = binc(e, T_greater, x_unary(e, T_abs, x), 1);
    Val t = x_unary(e, T_arctan_small, x_where(e, big, x_unary(e, T_reciprocal, x), x));
    return x_where(e, big, sub(e, mulc(e, x_unary(e, T_sign, x), PI / 2), t), t);
}
