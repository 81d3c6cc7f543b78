/* expand.h - what the rewriters of decompose share: expressions on f32 numbers, and a file per kind of function. */
#ifndef NKIGEN_EXPAND_H
#define NKIGEN_EXPAND_H

#include "pass/pass.h"

#define PI 3.14159265358979323846
#define MAGIC 12582912.0 /* 1.5 * 2**23: adding it rounds an f32 of magnitude up to 2**22 to an integer, ties to even */

/* Expr.dt is the dtype of the numbers: f32 for the narrow floats. */
static inline Val
num(Expr *e, double c)
{
    return x_number(e, e->dt, c);
}

static inline Val
add(Expr *e, Val a, Val b)
{
    return x_binary(e, T_add, a, b);
}

static inline Val
sub(Expr *e, Val a, Val b)
{
    return x_binary(e, T_sub, a, b);
}

static inline Val
mul(Expr *e, Val a, Val b)
{
    return x_binary(e, T_mul, a, b);
}

static inline Val
binc(Expr *e, TOp op, Val a, double c)
{
    return x_with(e, op, a, e->dt, c);
}

static inline Val
addc(Expr *e, Val a, double c)
{
    return binc(e, T_add, a, c);
}

static inline Val
mulc(Expr *e, Val a, double c)
{
    return binc(e, T_mul, a, c);
}

/* c - a */
static inline Val
subfrom(Expr *e, double c, Val a)
{
    return x_binary(e, T_sub, num(e, c), a);
}

static inline Val
clamp(Expr *e, Val a, double lo, double hi)
{
    return binc(e, T_minimum, binc(e, T_maximum, a, lo), hi);
}

/* 1 where a op b, else 0, as a number */
static inline Val
flag(Expr *e, TOp op, Val a, Val b)
{
    return x_cast(e, x_binary(e, op, a, b), e->dt);
}

static inline Val
flagc(Expr *e, TOp op, Val a, double c)
{
    return flag(e, op, a, num(e, c));
}

/* x rounded to a multiple of a power of two, ties to even: m is 1.5 * 2**23 of it, |x| at most m / 3. */
static inline Val
round_by(Expr *e, Val x, double m)
{
    return addc(e, addc(e, x, m), -m);
}

/* The upper 12 bits of x, |x| < 2**115; what is left has 12 bits with its sign. */
static inline Val
upper_half(Expr *e, Val x)
{
    Val c = mulc(e, x, 4097);
    return sub(e, c, sub(e, c, x));
}

typedef Val ExpandUnary(Expr *e, Val x);
typedef Val ExpandBinary(Expr *e, Val a, Val b);

/* expand_round.c */
ExpandUnary expand_rint, expand_floor, expand_ceil, expand_trunc;
Val scale_by_size(Expr *e, Val size, double lo, double up, double hi, double down);
Val undo_scale(Expr *e, Val size, double lo, double down, double hi, double up);

/* expand_divide.c */
ExpandBinary expand_div, expand_floor_divide, expand_remainder;

/* expand_exp.c */
ExpandUnary expand_exp2, expand_expm1, expand_log2, expand_log10, expand_log1p, expand_sinh, expand_cosh, expand_cbrt;
ExpandBinary expand_hypot, expand_logaddexp;

/* int_product.c */
Status expand_int_matmul(Expr *e, Val a, Val b, Interval ia, Interval ib, Val *out);

/* expand_bits.c */
ExpandUnary expand_invert;
ExpandBinary expand_right_shift;

/* expand_trig.c */
ExpandUnary expand_sin, expand_cos, expand_tan, expand_arctan;

#endif
