/* guard.c - activation functions see what they are defined for.
 *
 * in:   a decomposed tensor graph
 * out:  the same function; sqrt, rsqrt and log are applied to values inside of their range (tile/act.def), and the result
 *       is NumPy's for every argument: zeros, subnormals, infinities, negative numbers and NaN
 * rule: what the intervals prove to be inside stays as it is. Scales are powers of two, so they are exact, and what is
 *       inside of the range takes its usual value bit for bit; log's corrections are 0 there.
 *
 * An upper bound is taken as given of a sum of squares that is shifted away from 0: 1 / sqrt(mean(x * x) + eps) is left
 * alone, although rows of values beyond 2^48 leave the range. Norms pay nothing for it, and the simulator reports it.
 */
#include "pass/pass.h"

#include <math.h>

/* Of log: below LOW arguments are scaled up, above HIGH down. Subnormals come out above LOW. */
#define LOW 0x1p-62
#define LOW_BITS 87
#define HIGH 0x1p62
#define HIGH_BITS 66
#define LN2 0.6931471805599453
#define LARGEST 3.4028234663852886e38

typedef struct Guard {
    Interval *of; /* by value of `in` */
} Guard;

static Val
with(Expr *e, TOp op, Val a, double c)
{
    return x_binary(e, op, a, x_number(e, DT_f32, c));
}

/* c where a op b, else 0 */
static Val
number_where(Expr *e, TOp op, Val a, double b, double c)
{
    return with(e, T_mul, x_cast(e, with(e, op, a, b), DT_f32), c);
}

/* 1 / sqrt(x) is bounded so that products with 0 and infinity stay what they are; for all others it is inside. */
static Val
guarded_sqrt(Expr *e, Val x)
{
    Val r = x_unary(e, T_rsqrt_wide, x);
    return x_binary(e, T_mul, with(e, T_minimum, with(e, T_maximum, r, 0x1p-70), 0x1p80), x);
}

/* y plus -inf where x is 0, NaN where it is negative */
static Val
add_below_zero(Expr *e, Val x, Interval of, Val y)
{
    if (of.lo > 0)
        return y;
    Val zero = number_where(e, T_less_equal, x, 0, -LARGEST);
    y = x_binary(e, T_add, with(e, T_mul, zero, LARGEST), y);
    if (of.lo == 0)
        return y;
    Val negative = number_where(e, T_less, x, 0, LARGEST); /* inf - inf */
    return x_binary(e, T_add, with(e, T_mul, negative, LARGEST), y);
}

/* y plus inf where x is */
static Val
add_infinity(Expr *e, Val x, Interval of, Val y)
{
    if (of.hi <= LARGEST)
        return y;
    Val rest = with(e, T_sub, with(e, T_maximum, x, LARGEST), LARGEST);
    return x_binary(e, T_add, y, rest);
}

/* log(x * 2^k) - k log(2), with k other than 0 only where x is far from 1 */
static Val
guarded_log(Expr *e, Val x, Interval of, bool low, bool high)
{
    const Domain *d = act_domain(ACT_log);
    const double up = ldexp(1, LOW_BITS), down = ldexp(1, -HIGH_BITS);
    Val scale = {0}, y = x;
    if (low) {
        scale = number_where(e, T_less, x, LOW, up);
        y = x_binary(e, T_mul, with(e, T_maximum, scale, 1), y);
    }
    if (high) {
        Val s = with(e, T_maximum, x_cast(e, with(e, T_less_equal, x, HIGH), DT_f32), down);
        y = x_binary(e, T_mul, s, y);
    }
    if (low)
        y = with(e, T_maximum, y, d->lo);
    if (high)
        y = with(e, T_minimum, y, d->hi);
    y = x_unary(e, T_log, y);
    if (low) {
        y = x_binary(e, T_add, with(e, T_mul, scale, -LOW_BITS * LN2 / up), y);
        y = add_below_zero(e, x, of, y);
    }
    if (high) {
        Val back = number_where(e, T_greater, x, HIGH, HIGH_BITS * LN2);
        y = x_binary(e, T_add, back, y);
        y = add_infinity(e, x, of, y);
    }
    return y;
}

static int
function_of(const Op *op)
{
    return op->code == T_sqrt ? ACT_sqrt : op->code == T_rsqrt ? ACT_rsqrt : op->code == T_log ? ACT_log : ACT_COUNT;
}

static Status
rewrite_op(const Rewrite *rw, OpId o, Val *out)
{
    const Graph *in = rw->in;
    const Guard *guard = rw->env;
    const Op *op = graph_op(in, o);
    int func = function_of(op);
    if (func == ACT_COUNT)
        return rewrite_clone(rw, o, out);
    Interval of = guard->of[op_val(in, op, 0).i];
    const Domain *d = act_domain(func);
    bool low = !(of.lo >= d->lo), high = !(of.hi <= d->hi) && (low || !of.moment);
    if (!low && !high)
        return rewrite_clone(rw, o, out);
    Expr e = {.g = rw->g, .loc = op->loc};
    DType dt = val_dtype(in, op->out);
    Val x = x_cast(&e, rw->map[op_val(in, op, 0).i], DT_f32), y;
    if (func == ACT_log)
        y = guarded_log(&e, x, of, low, high);
    else
        y = func == ACT_sqrt ? guarded_sqrt(&e, x) : x_unary(&e, T_rsqrt_wide, x);
    *out = x_cast(&e, y, dt); /* rounded once */
    return e.st;
}

Status
pass_guard(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Guard guard;
    Graph *g;
    TRY(intervals(in, &in->cx->scratch, &guard.of));
    TRY(graph_rewrite(in, opt, rewrite_op, &guard, &g));
    return graph_sweep(g, opt, out);
}
