/* interval.c - what every value of a tensor graph may be, whatever the inputs are.
 *
 * in:   any verified tensor graph
 * out:  per value the least and the greatest number that an element may be, and whether it may be NaN
 * rule: one walk forward, a bounded look back per op; nothing is assumed of inputs. Bounds hold for results rounded to
 *       their dtype and for the error of the engines' functions, so they are a little wider than exact arithmetic says.
 *
 * Two things are known of values together, because softmax and sines need them: x minus a maximum over elements that
 * contain x is at most 0, so the sum of its exponentials over them is at least 1; and the smaller of r and c - r is at
 * most c / 2.
 */
#include "pass/pass.h"

#include <math.h>

#define SCAN_MAX 65536    /* elements of a constant that are looked at */
#define FUNC_ERROR 0x1p-18 /* relative, of any function of the engines */
#define SUM_ERROR 0x1p-23 /* relative to the sum of magnitudes, per term */

typedef struct Bounds { /* what a transfer function sees */
    const Graph *g;
    const Op *op;
    const Interval *of; /* by value */
    DType dt;           /* of the result */
    Interval a, b;
} Bounds;

/* ---- dtypes ---- */

static double
least_of(DType dt)
{
    return dtypes[dt].kind == DK_int ? -dtypes[dt].max - 1 : is_float(dt) ? -INFINITY : 0;
}

static Interval
anything(DType dt)
{
    return (Interval){least_of(dt), is_float(dt) ? INFINITY : dtypes[dt].max, is_float(dt), false};
}

/* x, or a bit below: by an error of `rel` and the rounding to a float dtype. */
static double
rounded_down(DType dt, double x, double rel)
{
    const double tiny = ldexp(1, 2 - (1 << (dtypes[dt].exp_bits - 1))), max = dtypes[dt].max;
    if (x == 0 || isinf(x))
        return x == INFINITY ? max : x; /* what overflows when rounded up may not when rounded down */
    if (fabs(x) < tiny) /* a subnormal may become 0, or the next one */
        return x > 0 ? 0 : -tiny;
    x -= fabs(x) * (rel + ldexp(1, -dtypes[dt].man_bits));
    return x < -max ? -INFINITY : MIN(x, max);
}

/* [lo, hi] as computed exactly, but for an error of `rel` of each, rounded to a float dtype. */
static Interval
as_float(DType dt, double lo, double hi, bool nan, double rel)
{
    if (isnan(lo) || isnan(hi))
        return anything(dt);
    return (Interval){rounded_down(dt, lo, rel), -rounded_down(dt, -hi, rel), nan, false};
}

/* The same for any dtype; integers that leave theirs wrap or saturate. */
static Interval
rounded(DType dt, double lo, double hi, bool nan)
{
    if (is_float(dt))
        return as_float(dt, lo, hi, nan, 0);
    return lo < least_of(dt) || hi > dtypes[dt].max ? anything(dt) : (Interval){lo, hi, false, false};
}

static bool
has(Interval i, double x)
{
    return i.lo <= x && x <= i.hi;
}

static bool
is_infinite(Interval i)
{
    return i.lo == -INFINITY || i.hi == INFINITY;
}

static Interval
join(Interval a, Interval b)
{
    return (Interval){MIN(a.lo, b.lo), MAX(a.hi, b.hi), a.nan || b.nan, a.moment && b.moment};
}

/* ---- sources ---- */

static Interval
of_const(const Graph *g, const Op *op, DType dt)
{
    const Type *t = val_type(g, op->out);
    int64_t n = type_numel(t);
    if (n == 0 || n > SCAN_MAX)
        return anything(dt);
    const uint8_t *p = attr_find(g->cx, op->attr, A_data)->data->p;
    Interval r = {INFINITY, -INFINITY, false, false};
    for (int64_t i = 0; i < n; i++, p += dtypes[dt].bytes) {
        double v = dtype_load(dt, p);
        r = isnan(v) ? (Interval){r.lo, r.hi, true, false} : (Interval){MIN(r.lo, v), MAX(r.hi, v), r.nan, false};
    }
    return r.lo <= r.hi ? r : anything(dt);
}

static Interval
of_source(const Graph *g, const Op *op, DType dt)
{
    double c;
    if (is_splat(g, op->out, &c))
        return isnan(c) ? anything(dt) : (Interval){c, c, false, false};
    return op->code == T_const ? of_const(g, op, dt) : anything(dt);
}

/* ---- relations between values ---- */

static Val
before_casts(const Graph *g, Val v)
{
    for (int i = 0; i < 3 && val_def(g, v)->code == T_cast && is_float(val_dtype(g, op_val(g, val_def(g, v), 0))); i++)
        v = op_val(g, val_def(g, v), 0);
    return v;
}

static uint32_t
axes_of(const Graph *g, const Op *reduce)
{
    const int64_t *axes;
    uint32_t set = 0;
    int n = attr_ints(g->cx, reduce->attr, A_axes, &axes);
    for (int i = 0; i < n; i++)
        set |= 1u << axes[i];
    return set;
}

/* t, with size-1 axes in front, has the dims of x where the axes are reduced to size 1. */
static bool
is_kept_shape(const Type *t, const Type *x, uint32_t axes)
{
    int shift = x->rank - t->rank;
    for (int i = 0; i < x->rank; i++)
        if ((i < shift ? 1 : t->dim[i - shift]) != (axes >> i & 1 ? 1 : x->dim[i]))
            return false;
    return shift >= 0;
}

/* v is x - max of x over axes, each element minus the maximum of elements that it is one of. */
static bool
is_below_max(const Graph *g, Val v, uint32_t *axes)
{
    const Op *op = val_def(g, v);
    if (op->code != T_sub)
        return false;
    Val x = op_val(g, op, 0), m = op_val(g, op, 1);
    if (val_def(g, m)->code == T_broadcast_to)
        m = op_val(g, val_def(g, m), 0);
    const Op *red = val_def(g, m);
    if (red->code == T_reshape)
        red = val_def(g, op_val(g, red, 0));
    if (red->code != T_reduce_max || op_val(g, red, 0).i != x.i)
        return false;
    *axes = axes_of(g, red);
    return is_kept_shape(val_type(g, m), val_type(g, x), *axes);
}

/* One of the terms of the sum is exp(0). */
static bool
sums_one(const Graph *g, const Op *sum)
{
    uint32_t axes = 0, over = axes_of(g, sum);
    const Op *e = val_def(g, before_casts(g, op_val(g, sum, 0)));
    return e->code == T_exp && is_below_max(g, before_casts(g, op_val(g, e, 0)), &axes) && (axes & ~over) == 0;
}

/* op is the smaller or larger of r and c - r */
static bool
is_reflected(const Graph *g, const Op *op, double *c)
{
    for (int i = 0; i < 2; i++) {
        const Op *s = val_def(g, op_val(g, op, i));
        if (s->code == T_sub && op_val(g, s, 1).i == op_val(g, op, 1 - i).i && is_splat(g, op_val(g, s, 0), c))
            return true;
    }
    return false;
}

static bool
is_squares(const Graph *g, Val v)
{
    const Op *op = val_def(g, before_casts(g, v));
    return op->code == T_square || (op->code == T_mul && op_val(g, op, 0).i == op_val(g, op, 1).i);
}

/* A sum of squares over an axis, scaled and shifted up by constants: a statistic, which is only large when the data
 * are out of proportion. */
static bool
is_moment(const Bounds *w)
{
    const Op *op = w->op;
    double c;
    if ((op_def(w->g, op)->flags & F_LAYOUT) || op->code == T_cast || op->code == T_copy)
        return w->a.moment;
    if (op->code == T_reduce_sum)
        return w->a.moment || is_squares(w->g, op_val(w->g, op, 0));
    if (op->code == T_maximum || op->code == T_add || op->code == T_mul)
        for (int i = 0; i < 2; i++)
            if ((i ? w->b : w->a).moment && is_splat(w->g, op_val(w->g, op, 1 - i), &c) && c >= 0)
                return true;
    return op->code == T_add && w->a.moment && w->b.moment;
}

/* ---- arithmetic ---- */

static Interval
of_sum(DType dt, Interval a, Interval b)
{
    bool nan = (a.hi == INFINITY && b.lo == -INFINITY) || (a.lo == -INFINITY && b.hi == INFINITY);
    return rounded(dt, a.lo + b.lo, a.hi + b.hi, a.nan || b.nan || nan);
}

static Interval
negated(Interval a)
{
    return (Interval){-a.hi, -a.lo, a.nan, false};
}

/* The bounds of a * b; 0 * inf counts as 0 here. */
static Interval
product(Interval a, Interval b)
{
    const double p[4] = {a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi};
    bool nan = (has(a, 0) && is_infinite(b)) || (has(b, 0) && is_infinite(a));
    Interval r = {INFINITY, -INFINITY, a.nan || b.nan || nan, false};
    for (int i = 0; i < 4; i++) {
        double v = isnan(p[i]) ? 0 : p[i];
        r.lo = MIN(r.lo, v);
        r.hi = MAX(r.hi, v);
    }
    return r;
}

static Interval
magnitude(Interval a)
{
    double least = has(a, 0) ? 0 : MIN(fabs(a.lo), fabs(a.hi));
    return (Interval){least, MAX(fabs(a.lo), fabs(a.hi)), a.nan, false};
}

static Interval
of_product(const Bounds *w, Interval a, Interval b, bool same)
{
    if (same) {
        a = b = magnitude(a);
        a.nan = b.nan;
    }
    Interval r = product(a, b);
    return rounded(w->dt, r.lo, r.hi, same ? a.nan : r.nan);
}

/* n terms of a, added in any order. */
static Interval
of_terms(DType dt, Interval a, double n)
{
    double lo = a.lo == 0 ? 0 : n * a.lo, hi = a.hi == 0 ? 0 : n * a.hi;
    double error = is_float(dt) ? n * SUM_ERROR * MAX(fabs(lo), fabs(hi)) : 0;
    bool nan = a.nan || (a.lo == -INFINITY && a.hi == INFINITY);
    Interval r = rounded(dt, a.lo >= 0 ? a.lo : lo - error, a.hi <= 0 ? a.hi : hi + error, nan);
    r.nan = r.nan || (r.lo == -INFINITY && r.hi == INFINITY && is_float(dt)); /* partial sums of both */
    return r;
}

static double
terms_of(const Graph *g, const Op *op)
{
    double n = (double)type_numel(val_type(g, op_val(g, op, 0)));
    return MAX(n / MAX((double)type_numel(val_type(g, op->out)), 1), 1);
}

static Interval
of_reduce_sum(const Bounds *w)
{
    Interval r = of_terms(w->dt, w->a, terms_of(w->g, w->op));
    if (is_float(w->dt) && sums_one(w->g, w->op))
        r.lo = MAX(r.lo, 1);
    return r;
}

static Interval
of_matmul(const Bounds *w)
{
    const Type *t = val_type(w->g, op_val(w->g, w->op, 0));
    return of_terms(w->dt, product(w->a, w->b), (double)MAX(t->dim[t->rank - 1], 1));
}

static Interval
of_sub(const Bounds *w)
{
    uint32_t axes;
    Interval r = of_sum(w->dt, w->a, negated(w->b));
    if (is_below_max(w->g, w->op->out, &axes))
        r.hi = MIN(r.hi, 0);
    return r;
}

static Interval
of_extreme(const Bounds *w, bool larger)
{
    Interval a = w->a, b = w->b;
    double c;
    Interval r = larger ? (Interval){MAX(a.lo, b.lo), MAX(a.hi, b.hi), a.nan || b.nan, false}
                        : (Interval){MIN(a.lo, b.lo), MIN(a.hi, b.hi), a.nan || b.nan, false};
    if (is_float(w->dt) && is_reflected(w->g, w->op, &c)) {
        Interval half = as_float(w->dt, c / 2, c / 2, false, 0);
        if (larger)
            r.lo = MAX(r.lo, half.lo);
        else
            r.hi = MIN(r.hi, half.hi);
    }
    return r;
}

static Interval
of_quotient(const Bounds *w)
{
    Interval a = w->a, b = w->b;
    if (has(b, 0))
        return anything(w->dt);
    Interval r = product(a, (Interval){1 / b.hi, 1 / b.lo, b.nan, false});
    return rounded(w->dt, r.lo, r.hi, r.nan || (is_infinite(a) && is_infinite(b)));
}

/* ---- functions ---- */

static double
sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* A rising function, its least and greatest value, and where it begins; below that the result is NaN. */
static Interval
rising(const Bounds *w, double (*f)(double), double begin, double least, double most)
{
    Interval a = w->a;
    Interval r = as_float(w->dt, f(MAX(a.lo, begin)), f(MAX(a.hi, begin)), a.nan || a.lo < begin, FUNC_ERROR);
    return (Interval){MAX(r.lo, least), MIN(r.hi, most), r.nan, false};
}

/* A sum of squares is no negative zero. */
static Interval
of_rsqrt(const Bounds *w)
{
    Interval a = w->a;
    double lo = a.lo > 0 || a.moment ? 1 / sqrt(MAX(a.hi, 0)) : -INFINITY;
    return as_float(w->dt, lo, a.lo > 0 ? 1 / sqrt(a.lo) : INFINITY, a.nan || a.lo < 0, FUNC_ERROR);
}

static Interval
of_cosh(const Bounds *w)
{
    Interval m = magnitude(w->a);
    return as_float(w->dt, cosh(m.lo), cosh(m.hi), m.nan, FUNC_ERROR);
}

/* x times something in [0, 1] that rises with x; silu(-inf) is -inf * 0. */
static Interval
of_gated(const Bounds *w, double least)
{
    Interval a = w->a;
    return as_float(w->dt, a.lo < 0 ? MAX(a.lo, least) : 0, MAX(a.hi, 0), a.nan || a.lo == -INFINITY, FUNC_ERROR);
}

static Interval
of_wave(const Bounds *w)
{
    return (Interval){-1, 1, w->a.nan || is_infinite(w->a), false};
}

static double
signum(double x)
{
    return (x > 0) - (x < 0);
}

static Interval
of_function(const Bounds *w)
{
    const double inf = INFINITY, quarter = 1.5707964;
    switch (w->op->code) {
    case T_sqrt: return rising(w, sqrt, 0, 0, inf);
    case T_log: return rising(w, log, 0, -inf, inf);
    case T_log2: return rising(w, log2, 0, -inf, inf);
    case T_log10: return rising(w, log10, 0, -inf, inf);
    case T_log1p: return rising(w, log1p, -1, -inf, inf);
    case T_exp: return rising(w, exp, -inf, 0, inf);
    case T_exp2: return rising(w, exp2, -inf, 0, inf);
    case T_expm1: return rising(w, expm1, -inf, -1, inf);
    case T_tanh: return rising(w, tanh, -inf, -1, 1);
    case T_sigmoid: return rising(w, sigmoid, -inf, 0, 1);
    case T_arctan: case T_arctan_small: return rising(w, atan, -inf, -quarter, quarter);
    case T_sinh: return rising(w, sinh, -inf, -inf, inf);
    case T_cbrt: return rising(w, cbrt, -inf, -inf, inf);
    case T_floor: return rising(w, floor, -inf, -inf, inf);
    case T_ceil: return rising(w, ceil, -inf, -inf, inf);
    case T_rint: return rising(w, rint, -inf, -inf, inf);
    case T_trunc: return rising(w, trunc, -inf, -inf, inf);
    case T_sin: case T_cos: case T_sin_pi: return of_wave(w);
    case T_rsqrt: case T_rsqrt_wide: return of_rsqrt(w);
    case T_cosh: return of_cosh(w);
    case T_silu: return of_gated(w, -0.2785);
    case T_gelu_tanh: return of_gated(w, -0.1701);
    default: return anything(w->dt);
    }
}

/* ---- conversions ---- */

static Interval
of_cast(const Bounds *w, bool saturates)
{
    Interval a = w->a;
    DType to = w->dt;
    double least = least_of(to), most = dtypes[to].max;
    if (is_float(to))
        return rounded(to, a.lo, a.hi, a.nan);
    if (to == DT_bool)
        return anything(to);
    if (!saturates) {
        a.lo = trunc(a.lo);
        a.hi = trunc(a.hi);
        return a.nan || a.lo < least || a.hi > most ? anything(to) : a;
    }
    a = (Interval){MIN(MAX(rint(a.lo), least), most), MIN(MAX(rint(a.hi), least), most), false, false};
    return w->a.nan ? join(a, (Interval){0, 0, false, false}) : a; /* NaN becomes 0 */
}

/* ---- the walk ---- */

static Interval
of_all(const Bounds *w, int from)
{
    Interval r = w->of[op_val(w->g, w->op, from).i];
    for (int i = from + 1; i < w->op->nin; i++)
        r = join(r, w->of[op_val(w->g, w->op, i).i]);
    return r;
}

static Interval
of_power(const Bounds *w)
{
    return is_float(w->dt) && w->a.lo > 0 ? (Interval){0, INFINITY, true, false} : anything(w->dt);
}

/* What is not negative takes away bits only. */
static Interval
of_common_bits(const Bounds *w)
{
    double most = INFINITY;
    if (w->a.lo >= 0)
        most = w->a.hi;
    if (w->b.lo >= 0)
        most = MIN(most, w->b.hi);
    return isfinite(most) ? (Interval){0, most, false, false} : anything(w->dt);
}

static Interval
of_op(const Bounds *w)
{
    const Interval one = {1, 1, false, false};
    Interval a = w->a, b = w->b, m;
    bool same = w->op->nin == 2 && op_val(w->g, w->op, 0).i == op_val(w->g, w->op, 1).i;
    switch (w->op->code) {
    case T_cast: return of_cast(w, false);
    case T_rcast: return of_cast(w, true);
    case T_copy: case T_positive: case T_reduce_max: case T_reduce_min: return a;
    case T_neg: return rounded(w->dt, -a.hi, -a.lo, a.nan);
    case T_abs: m = magnitude(a); return rounded(w->dt, m.lo, m.hi, m.nan);
    case T_sign: return rounded(w->dt, signum(a.lo), signum(a.hi), a.nan);
    case T_square: return of_product(w, a, a, true);
    case T_reciprocal: return is_float(w->dt) ? of_quotient(&(Bounds){.dt = w->dt, .a = one, .b = a}) : anything(w->dt);
    case T_add: return of_sum(w->dt, a, b);
    case T_sub: return of_sub(w);
    case T_mul: return of_product(w, a, b, same);
    case T_div: return is_float(w->dt) ? of_quotient(w) : anything(w->dt);
    case T_power: return of_power(w);
    case T_bitwise_and: return of_common_bits(w);
    case T_maximum: return of_extreme(w, true);
    case T_minimum: return of_extreme(w, false);
    case T_where: return of_all(w, 1);
    case T_concat: return of_all(w, 0);
    case T_reduce_sum: return of_reduce_sum(w);
    case T_matmul: return of_matmul(w);
    default: return of_function(w);
    }
}

static Interval
of_value(const Graph *g, const Op *op, const Interval *of)
{
    DType dt = val_dtype(g, op->out);
    if (op->nin == 0)
        return of_source(g, op, dt);
    Bounds w = {.g = g, .op = op, .of = of, .dt = dt, .a = of[op_val(g, op, 0).i]};
    w.b = op->nin > 1 ? of[op_val(g, op, 1).i] : w.a;
    Interval r = (op_def(g, op)->flags & F_LAYOUT) ? w.a : dt == DT_bool ? anything(dt) : of_op(&w);
    r.moment = is_moment(&w);
    return r;
}

Status
intervals(const Graph *g, Arena *a, Interval **by_val)
{
    Interval *of;
    NEW(g->cx, a, of, g->vals.n);
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        of[op->out.i] = of_value(g, op, of);
    }
    *by_val = of;
    return ST_OK;
}
