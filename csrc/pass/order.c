/* order.c - exact order of 32-bit integers.
 *
 * in:   a decomposed tensor graph
 * out:  the same function; comparisons, extremes and absolute values of i32 are right beyond 2^24
 * rule: the vector engine compares and selects in f32, which holds integers up to 2^24. An order against a number below
 *       that is right anyway, since rounding keeps order; what the intervals of both operands leave open is taken from
 *       two halves: h = x / 2^16 to the nearest, of x as an f32, which keeps order too, and the rest l = x - 2^16 h in
 *       exact integers. Where the halves h agree, the rests decide.
 */
#include "pass/pass.h"

#define EXACT 16777216.0 /* integers below this are f32 */
#define WORD_MIN (-2147483648.0)
#define WORD_MAX 2147483647.0
#define HALF 65536     /* |l| is at most half of it, and 64 for the rounding of x */
#define SCAN_MAX 65536 /* elements of a constant that are looked at */

typedef struct Interval { double lo, hi; } Interval;

typedef struct Order {
    Interval *of; /* by value of `in`: what it may be, for integers */
} Order;

static const Interval word = {WORD_MIN, WORD_MAX};

static bool
is_word(const Graph *g, Val v)
{
    return val_dtype(g, v) == DT_i32;
}

static bool
is_small(Interval i)
{
    return i.lo > -EXACT && i.hi < EXACT;
}

/* ---- intervals ---- */
static Interval
of_dtype(DType dt)
{
    if (dt == DT_bool)
        return (Interval){0, 1};
    return dtypes[dt].bytes >= 4 || is_float(dt) ? word : (Interval){-32768, 65535};
}

static Interval
of_const(const Graph *g, const Op *op)
{
    const Type *t = val_type(g, op->out);
    int64_t n = type_numel(t);
    if (t->dtype != DT_i32 || n == 0 || n > SCAN_MAX)
        return of_dtype((DType)t->dtype);
    const int32_t *p = attr_find(g->cx, op->attr, A_data)->data->p;
    Interval r = {p[0], p[0]};
    for (int64_t i = 1; i < n; i++)
        r = (Interval){MIN(r.lo, p[i]), MAX(r.hi, p[i])};
    return r;
}

static Interval
within_word(double lo, double hi)
{
    return lo < WORD_MIN || hi > WORD_MAX ? word : (Interval){lo, hi}; /* beyond, integers wrap */
}

static Interval
of_product(Interval a, Interval b)
{
    double p[4] = {a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi}, lo = p[0], hi = p[0];
    for (int i = 1; i < 4; i++) {
        lo = MIN(lo, p[i]);
        hi = MAX(hi, p[i]);
    }
    return within_word(lo, hi);
}

static Interval
of_union(const Order *r, const Graph *g, const Op *op, int from)
{
    Interval all = r->of[op_val(g, op, from).i];
    for (int i = from + 1; i < op->nin; i++) {
        Interval b = r->of[op_val(g, op, i).i];
        all = (Interval){MIN(all.lo, b.lo), MAX(all.hi, b.hi)};
    }
    return all;
}

static Interval
interval_of(const Order *r, const Graph *g, const Op *op)
{
    DType dt = val_dtype(g, op->out);
    double c;
    if (!is_integer(dt) && dt != DT_bool)
        return word;
    if (op->nin == 0)
        return is_splat(g, op->out, &c) ? (Interval){c, c} : op->code == T_const ? of_const(g, op) : of_dtype(dt);
    Interval a = r->of[op_val(g, op, 0).i], b = op->nin > 1 ? r->of[op_val(g, op, 1).i] : a;
    if (op_def(g, op)->flags & F_LAYOUT)
        return a;
    switch (op->code) {
    case T_cast:
    case T_copy:
        return is_float(val_dtype(g, op_val(g, op, 0))) ? of_dtype(dt) : a;
    case T_add: return within_word(a.lo + b.lo, a.hi + b.hi);
    case T_sub: return within_word(a.lo - b.hi, a.hi - b.lo);
    case T_mul: return of_product(a, b);
    case T_maximum: return (Interval){MAX(a.lo, b.lo), MAX(a.hi, b.hi)};
    case T_minimum: return (Interval){MIN(a.lo, b.lo), MIN(a.hi, b.hi)};
    case T_reduce_max: case T_reduce_min: return a;
    case T_where: return of_union(r, g, op, 1);
    case T_concat: return of_union(r, g, op, 0);
    default: return of_dtype(dt);
    }
}

/* ---- building ---- */

typedef struct Halves { Val h, l; } Halves; /* f32, exact */

/* a op c. a is made before c: the order of ops is the same with every C compiler. */
static Val
with_number(Expr *e, TOp op, Val a, DType dt, double c)
{
    return x_binary(e, op, a, x_number(e, dt, c));
}

static Halves
halves(Expr *e, Val x)
{
    Val h = x_rcast(e, with_number(e, T_mul, x_cast(e, x, DT_f32), DT_f32, 1.0 / HALF), DT_i32);
    Val l = x_binary(e, T_sub, x, with_number(e, T_mul, h, DT_i32, HALF));
    h = x_cast(e, h, DT_f32);
    l = x_cast(e, l, DT_f32);
    return (Halves){h, l};
}

/* An f32 with the sign of a - b: a difference of the upper halves outweighs that of the lower ones. */
static Val
difference(Expr *e, Val a, Val b)
{
    Halves x = halves(e, a), y = halves(e, b);
    Val high = with_number(e, T_mul, x_binary(e, T_sub, x.h, y.h), DT_f32, 2 * HALF);
    return x_binary(e, T_add, high, x_binary(e, T_sub, x.l, y.l));
}

static Val
compare(Expr *e, TOp op, Val a, Val b, bool exact)
{
    if (exact)
        return x_binary(e, op, a, b);
    if (op == T_equal || op == T_not_equal) /* a difference of integers wraps, but to 0 only from 0 */
        return with_number(e, op, x_binary(e, T_sub, a, b), DT_i32, 0);
    return with_number(e, op, difference(e, a, b), DT_f32, 0);
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
    Halves s = halves(e, x);
    Val h = keep_dims(e, (TOp)op->code, s.h, in, op);
    Val out_of_range = x_number(e, DT_f32, op->code == T_reduce_max ? -2 * HALF : 2 * HALF);
    Val l = x_where(e, x_binary(e, T_equal, s.h, h), s.l, out_of_range);
    l = keep_dims(e, (TOp)op->code, l, in, op);
    Val high = with_number(e, T_mul, x_rcast(e, h, DT_i32), DT_i32, HALF);
    Val v = x_binary(e, T_add, high, x_rcast(e, l, DT_i32)), out = {0};
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
    r->of[op->out.i] = interval_of(r, in, op);
    if (!is_ordering(op->code) || !is_word(in, op_val(in, op, 0)))
        return rewrite_clone(rw, o, out);
    Val va = op_val(in, op, 0), vb = op_val(in, op, op->nin - 1);
    Interval ia = r->of[va.i], ib = r->of[vb.i];
    if (is_small(ia) && is_small(ib))
        return rewrite_clone(rw, o, out);
    Expr e = {.g = rw->g, .loc = op->loc};
    Val a = rw->map[va.i], b = rw->map[vb.i];
    bool exact = is_small(ia) || is_small(ib);
    if (op->code == T_abs)
        *out = magnitude(&e, a);
    else if (op->code == T_maximum || op->code == T_minimum)
        *out = x_where(&e, compare(&e, op->code == T_maximum ? T_greater : T_less, a, b, exact), a, b);
    else if (is_comparison(op->code))
        *out = compare(&e, (TOp)op->code, a, b, exact);
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
    Status st = new_in(g->cx, &g->cx->scratch, g->vals.n * sizeof *r.of, &r.of);
    *out = NULL;
    if (st == ST_OK)
        st = graph_rewrite(g, opt, rewrite_op, &r, out);
    graph_free(g);
    return st;
}
