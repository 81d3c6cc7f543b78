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

#define EXACT 16777216.0      /* integers below this are f32 */
#define WORD_MIN (-2147483648.0)
#define WORD_MAX 2147483647.0
#define HALF 65536            /* |l| is at most half of it, and 64 for the rounding of x */
#define SCAN_MAX 65536        /* elements of a constant that are looked at */

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
    case T_cast: case T_copy:
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
typedef struct Make {
    Graph *g;
    LocId loc;
    Status st;
} Make;

static Val
binary(Make *m, TOp op, Val a, Val b)
{
    Val v = {0};
    if (m->st == ST_OK)
        m->st = t_binary(m->g, op, a, b, m->loc, &v);
    return v;
}

static Val
number(Make *m, DType dt, double c)
{
    Val v = {0};
    if (m->st == ST_OK)
        m->st = is_float(dt) ? t_full(m->g, dt, 0, NULL, c, m->loc, &v) : t_full_int(m->g, dt, 0, NULL, (int64_t)c, m->loc, &v);
    return v;
}

static Val
convert(Make *m, TOp op, Val a, DType dt)
{
    Val v = {0};
    AttrId attr;
    if (m->st == ST_OK)
        m->st = attr_make(m->g->cx, &AT_INT(A_dtype, dt), 1, &attr);
    if (m->st == ST_OK)
        m->st = t_emit(m->g, op, &a, 1, attr, m->loc, &v);
    return v;
}

static Val
select(Make *m, Val c, Val a, Val b)
{
    Val v = {0};
    if (m->st == ST_OK)
        m->st = t_where(m->g, c, a, b, m->loc, &v);
    return v;
}

typedef struct Halves { Val h, l; } Halves; /* f32, exact */

static Halves
halves(Make *m, Val x)
{
    Val h = convert(m, T_rcast, binary(m, T_mul, convert(m, T_cast, x, DT_f32), number(m, DT_f32, 1.0 / HALF)), DT_i32);
    Val l = binary(m, T_sub, x, binary(m, T_mul, h, number(m, DT_i32, HALF)));
    return (Halves){convert(m, T_cast, h, DT_f32), convert(m, T_cast, l, DT_f32)};
}

/* An f32 with the sign of a - b: a difference of the upper halves outweighs that of the lower ones. */
static Val
difference(Make *m, Val a, Val b)
{
    Halves x = halves(m, a), y = halves(m, b);
    Val high = binary(m, T_mul, binary(m, T_sub, x.h, y.h), number(m, DT_f32, 2 * HALF));
    return binary(m, T_add, high, binary(m, T_sub, x.l, y.l));
}

static Val
compare(Make *m, TOp op, Val a, Val b, bool exact)
{
    if (exact)
        return binary(m, op, a, b);
    if (op == T_equal || op == T_not_equal) /* a difference of integers wraps, but to 0 only from 0 */
        return binary(m, op, binary(m, T_sub, a, b), number(m, DT_i32, 0));
    return binary(m, op, difference(m, a, b), number(m, DT_f32, 0));
}

static Val
keep_dims(Make *m, TOp op, Val a, const Graph *in, const Op *reduce)
{
    const int64_t *axes;
    Val v = {0};
    int n = attr_ints(in->cx, reduce->attr, A_axes, &axes);
    if (m->st == ST_OK)
        m->st = t_reduce(m->g, op, a, axes, n, true, m->loc, &v);
    return v;
}

/* The extreme upper half, then the extreme rest of those that have it. */
static Val
extreme(Make *m, const Graph *in, const Op *op, Val x)
{
    const Type *t = val_type(in, op->out);
    Halves s = halves(m, x);
    Val h = keep_dims(m, (TOp)op->code, s.h, in, op);
    Val out_of_range = number(m, DT_f32, op->code == T_reduce_max ? -2 * HALF : 2 * HALF);
    Val l = select(m, binary(m, T_equal, s.h, h), s.l, out_of_range);
    l = keep_dims(m, (TOp)op->code, l, in, op);
    Val high = binary(m, T_mul, convert(m, T_rcast, h, DT_i32), number(m, DT_i32, HALF));
    Val v = binary(m, T_add, high, convert(m, T_rcast, l, DT_i32)), out = {0};
    if (m->st == ST_OK)
        m->st = t_reshape(m->g, v, t->dim, t->rank, m->loc, &out);
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
    Make m = {.g = rw->g, .loc = op->loc};
    Val a = rw->map[va.i], b = rw->map[vb.i], zero = number(&m, DT_i32, 0);
    bool exact = is_small(ia) || is_small(ib);
    if (op->code == T_abs)
        *out = select(&m, binary(&m, T_less, a, zero), binary(&m, T_sub, zero, a), a);
    else if (op->code == T_maximum || op->code == T_minimum)
        *out = select(&m, compare(&m, op->code == T_maximum ? T_greater : T_less, a, b, exact), a, b);
    else if (is_comparison(op->code))
        *out = compare(&m, (TOp)op->code, a, b, exact);
    else
        *out = extreme(&m, in, op, a);
    return m.st;
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
