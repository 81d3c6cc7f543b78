/* integers.c - integer functions that the device has only in pieces: powers, quotients of unsigned words, conversions
 * that wrap.
 *
 * in:   operands of one 32-bit integer dtype, in the graph that is being built
 * out:  a value that equals NumPy's in every bit: sums, products and conversions wrap
 * rule: products and differences run in words; comparisons are left to order.c, which makes them exact
 */
#include "pass/pass.h"

/* ---- powers ---- */

/* x**n by squaring; n is no splat of 0 or 1 (they fold). */
static Val
power_of_number(Expr *e, Val x, uint64_t n)
{
    Val r = {0};
    for (; n; n >>= 1) {
        if (n & 1)
            r = r.i ? x_binary(e, T_mul, r, x) : x;
        if (n > 1)
            x = x_binary(e, T_mul, x, x);
    }
    return r.i ? r : x_number(e, e->dt, 1);
}

/* Bits that an exponent may have: those of what it was converted from. */
static int
exponent_bits(const Graph *g, Val v)
{
    const Op *d = val_def(g, v);
    DType dt = val_dtype(g, d->code == T_cast ? op_val(g, d, 0) : v);
    if (dt == DT_bool)
        return 1;
    int bits = dtypes[is_integer(dt) ? dt : val_dtype(g, v)].bytes * 8;
    return dtypes[dt].kind == DK_int ? bits - 1 : bits;
}

/* x**n from the highest bit of n down: square, times x where the bit is set. A bit is n >= 2**i; what it stands for is
 * taken off n. A negative n has no bit: the result is 1, where NumPy raises. */
static Val
power_of_bits(Expr *e, Val x, Val n, int bits)
{
    Val r = {0}, one = x_number(e, e->dt, 1);
    for (int i = bits - 1; i >= 0 && e->st == ST_OK; i--) {
        Val bit = x_number(e, e->dt, (double)((int64_t)1 << i));
        Val set = x_binary(e, T_greater_equal, n, bit);
        Val factor = x_where(e, set, x, one);
        if (r.i)
            r = x_binary(e, T_mul, x_binary(e, T_mul, r, r), factor);
        else
            r = factor;
        if (i > 0)
            n = x_binary(e, T_sub, n, x_binary(e, T_mul, x_cast(e, set, e->dt), bit));
    }
    return r;
}

Val
expand_int_power(Expr *e, Val x, Val n)
{
    double c;
    if (e->st == ST_OK && is_splat(e->g, n, &c) && c >= 0)
        return power_of_number(e, x, (uint64_t)c);
    return power_of_bits(e, x, n, exponent_bits(e->g, n));
}

/* ---- unsigned quotients ---- */

/* A number that is at most the quotient of a / b, and less than it by 3 and 2**-20 of it at most. */
static Val
low_quotient(Expr *e, Val a, Val inverse)
{
    Val q = x_binary(e, T_mul, x_cast(e, a, DT_f32), inverse);
    q = x_binary(e, T_mul, q, x_number(e, DT_f32, 1 - 0x1p-20));
    q = x_binary(e, T_add, q, x_number(e, DT_f32, -1));
    return x_rcast(e, x_binary(e, T_maximum, q, x_number(e, DT_f32, 0)), e->dt);
}

/* The rest never gets negative, so it stays a word. Two estimates leave at most three times b. By zero NumPy gives 0. */
void
divmod_unsigned(Expr *e, Val a, Val b, Val *quotient, Val *rest)
{
    Val zero = x_number(e, e->dt, 0), q = zero, r = a;
    Val by_zero = x_binary(e, T_equal, b, zero), d = x_where(e, by_zero, x_number(e, e->dt, 1), b);
    Val inverse = x_unary(e, T_reciprocal, x_cast(e, d, DT_f32));
    for (int i = 0; i < 2; i++) {
        Val more = low_quotient(e, r, inverse);
        q = x_binary(e, T_add, q, more);
        r = x_binary(e, T_sub, r, x_binary(e, T_mul, more, d));
    }
    for (int i = 0; i < 3; i++) {
        Val over = x_cast(e, x_binary(e, T_greater_equal, r, d), e->dt);
        q = x_binary(e, T_add, q, over);
        r = x_binary(e, T_sub, r, x_binary(e, T_mul, over, d));
    }
    *quotient = x_where(e, by_zero, zero, q);
    *rest = x_where(e, by_zero, zero, r);
}

/* ---- conversions that wrap ---- */

#define HALF 65536

/* x - m * (the nearest integer to x / m), a float: at most m / 2, and 128 for the rounding of x as an f32. */
static Val
centred_rest(Expr *e, Val x, DType dt, double m, Val *multiple)
{
    Val q = x_rcast(e, x_with(e, T_mul, x_cast(e, x, DT_f32), DT_f32, 1 / m), dt);
    Val r = x_binary(e, T_sub, x, x_with(e, T_mul, q, dt, m));
    *multiple = x_cast(e, q, DT_f32);
    if (dt == DT_i32)
        return x_cast(e, r, DT_f32);
    r = x_cast(e, x_with(e, T_add, r, dt, m), DT_f32); /* unsigned: moved up while it is a word */
    return x_with(e, T_add, r, DT_f32, -m);
}

/* r, at most one m outside, in [low, low + m). */
static Val
into_range(Expr *e, Val r, double low, double m)
{
    Val below = x_cast(e, x_with(e, T_less, r, DT_f32, low), DT_f32);
    r = x_binary(e, T_add, r, x_with(e, T_mul, below, DT_f32, m));
    Val above = x_cast(e, x_with(e, T_greater_equal, r, DT_f32, low + m), DT_f32);
    return x_binary(e, T_sub, r, x_with(e, T_mul, above, DT_f32, m));
}

/* Upper half and lower half, which may be negative, as a word. */
static Val
word_of_halves(Expr *e, Val h, Val l, DType to)
{
    double low = to == DT_i32 ? -HALF / 2 : 0;
    Val word = x_with(e, T_mul, x_rcast(e, into_range(e, h, low, HALF), to), to, HALF);
    l = x_rcast(e, x_with(e, T_add, l, DT_f32, HALF), to);
    return x_binary(e, T_add, word, x_with(e, T_sub, l, to, HALF));
}

Val
wrapped(Expr *e, Val x, DType to)
{
    DType from = e->st == ST_OK ? val_dtype(e->g, x) : DT_i32;
    double m = dtypes[to].bytes == 1 ? 256 : HALF;
    if (from == to)
        return x;
    if (dtypes[from].bytes < 4)
        x = x_cast(e, x, from = DT_i32);
    if (from == to)
        return x;
    Val multiple, r = centred_rest(e, x, from, m, &multiple);
    if (dtypes[to].bytes == 4)
        return word_of_halves(e, multiple, r, to);
    return x_rcast(e, into_range(e, r, dtypes[to].kind == DK_int ? -m / 2 : 0, m), to);
}
