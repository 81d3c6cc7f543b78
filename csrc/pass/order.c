/* order.c - exact order of 32-bit integers.
 *
 * in:   a decomposed tensor graph
 * out:  the same function; comparisons, extremes and absolute values of i32 and u32 are right beyond 2^24
 * rule: the vector engine compares and selects in f32, which holds integers up to 2^24. An order against a number below
 *       that is right anyway, since rounding keeps order; what the intervals of both operands leave open is taken from
 *       two halves: h = x / 2^16 to the nearest, of x as an f32, which keeps order too, and the rest l = x - 2^16 h in
 *       exact integers. Where the halves h agree, the rests decide.
 */
#include "pass/pass.h"

#define EXACT 16777216.0 /* integers below this are f32 */
#define HALF 65536 /* |l| is at most half of it, and 64 for the rounding of x */

typedef struct Order {
    Interval *of; /* by value of `in`: what it may be */
} Order;

static bool
is_word(const Graph *g, Val v)
{
    return val_dtype(g, v) == DT_i32 || val_dtype(g, v) == DT_u32;
}

static bool
is_small(Interval i)
{
    return i.lo > -EXACT && i.hi < EXACT;
}

/* ---- building ---- */

typedef struct Halves { Val h, l; } Halves; /* f32, exact */

/* A lower half may be negative: that of an unsigned word is moved up by 2^16 while it is one. */
static Val
word_to_half(Expr *e, Val l, DType dt)
{
    if (dt == DT_i32)
        return x_cast(e, l, DT_f32);
    return x_with(e, T_add, x_cast(e, x_with(e, T_add, l, dt, HALF), DT_f32), DT_f32, -HALF);
}

static Val
half_to_word(Expr *e, Val l, DType dt)
{
    if (dt == DT_i32)
        return x_rcast(e, l, dt);
    return x_with(e, T_sub, x_rcast(e, x_with(e, T_add, l, DT_f32, HALF), dt), dt, HALF);
}

static Halves
halves(Expr *e, Val x, DType dt)
{
    Val h = x_rcast(e, x_with(e, T_mul, x_cast(e, x, DT_f32), DT_f32, 1.0 / HALF), dt);
    Val l = x_binary(e, T_sub, x, x_with(e, T_mul, h, dt, HALF));
    h = x_cast(e, h, DT_f32);
    return (Halves){h, word_to_half(e, l, dt)};
}

/* An f32 with the sign of a - b: a difference of the upper halves outweighs that of the lower ones. */
static Val
difference(Expr *e, Val a, Val b, DType dt)
{
    Halves x = halves(e, a, dt), y = halves(e, b, dt);
    Val high = x_with(e, T_mul, x_binary(e, T_sub, x.h, y.h), DT_f32, 2 * HALF);
    return x_binary(e, T_add, high, x_binary(e, T_sub, x.l, y.l));
}

static Val
compare(Expr *e, TOp op, Val a, Val b, DType dt, bool exact)
{
    if (exact)
        return x_binary(e, op, a, b);
    if (op == T_equal || op == T_not_equal) /* a difference of integers wraps, but to 0 only from 0 */
        return x_with(e, op, x_binary(e, T_sub, a, b), dt, 0);
    return x_with(e, op, difference(e, a, b, dt), DT_f32, 0);
}

static Val
magnitude(Expr *e, Val a)
{
    Val zero = x_number(e, DT_i32, 0), negative = x_binary(e, T_less, a, zero);
    return x_where(e, negative, x_binary(e, T_sub, zero, a), a);
}

static Val
keep_dims(Expr *e, TOp op, Val a, const Graph *in, const Op *reduce)
{
    const int64_t *axes;
    Val v = {0};
    int n = attr_ints(in->cx, reduce->attr, A_axes, &axes);
    if (e->st == ST_OK)
        e->st = t_reduce(e->g, op, a, axes, n, true, e->loc, &v);
    return v;
}

/* The extreme upper half, then the extreme rest of those that have it. */
static Val
extreme(Expr *e, const Graph *in, const Op *op, Val x)
{
    const Type *t = val_type(in, op->out);
    const DType dt = (DType)t->dtype;
    Halves s = halves(e, x, dt);
    Val h = keep_dims(e, (TOp)op->code, s.h, in, op);
    Val out_of_range = x_number(e, DT_f32, op->code == T_reduce_max ? -2 * HALF : 2 * HALF);
    Val l = x_where(e, x_binary(e, T_equal, s.h, h), s.l, out_of_range);
    l = keep_dims(e, (TOp)op->code, l, in, op);
    Val high = x_with(e, T_mul, x_rcast(e, h, dt), dt, HALF);
    Val v = x_binary(e, T_add, high, half_to_word(e, l, dt)), out = {0};
    if (e->st == ST_OK)
        e->st = t_reshape(e->g, v, t->dim, t->rank, e->loc, &out);
    return out;
}

/* ---- the walk ---- */
static bool
is_comparison(int code)
{
    return code == T_equal || code == T_not_equal || code == T_less || code == T_less_equal || code == T_greater ||
           code == T_greater_equal;
}

static bool
is_ordering(int code)
{
    return is_comparison(code) || code == T_maximum || code == T_minimum || code == T_reduce_max ||
           code == T_reduce_min || code == T_abs;
}

static Status
rewrite_op(const Rewrite *rw, OpId o, Val *out)
{
    const Graph *in = rw->in;
    const Op *op = graph_op(in, o);
    Order *r = rw->env;
    if (!is_ordering(op->code) || !is_word(in, op_val(in, op, 0)))
        return rewrite_clone(rw, o, out);
    Val va = op_val(in, op, 0), vb = op_val(in, op, op->nin - 1);
    Interval ia = r->of[va.i], ib = r->of[vb.i];
    if (is_small(ia) && is_small(ib))
        return rewrite_clone(rw, o, out);
    Expr e = {.g = rw->g, .loc = op->loc};
    Val a = rw->map[va.i], b = rw->map[vb.i];
    DType dt = val_dtype(in, va);
    bool exact = is_small(ia) || is_small(ib);
    if (op->code == T_abs)
        *out = magnitude(&e, a);
    else if (op->code == T_maximum || op->code == T_minimum)
        *out = x_where(&e, compare(&e, op->code == T_maximum ? T_greater : T_less, a, b, dt, exact), a, b);
    else if (is_comparison(op->code))
        *out = compare(&e, (TOp)op->code, a, b, dt, exact);
    else
        *out = extreme(&e, in, op, a);
    return e.st;
}

static bool
has_words(const Graph *g)
{
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        if (op->nin > 0 && is_ordering(op->code) && is_word(g, op_val(g, op, 0)))
            return true;
    }
    return false;
}

Status
order_words(Graph *g, const CompileOptions *opt, Graph **out)
{
    Order r;
    *out = g;
    if (!has_words(g))
        return ST_OK;
    Status st = intervals(g, &g->cx->scratch, &r.of);
    *out = NULL;
    if (st == ST_OK)
        st = graph_rewrite(g, opt, rewrite_op, &r, out);
    graph_free(g);
    return st;
}
