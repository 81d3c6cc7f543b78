/* guard.c - activation functions see what they are defined for.
 *
 * in:   a decomposed tensor graph
 * out:  the same function; sqrt, rsqrt and log are applied to values inside of their range (tile/act.def), and the result
 *       is NumPy's for every argument: zeros, subnormals, infinities, negative numbers and NaN
 * rule: what the intervals prove to be inside stays as it is. Scales are powers of two, so they are exact, and what is
 *       inside of the range takes its usual value bit for bit. The reciprocal root of gpsimd has no range.
 *
 * An upper bound is taken as given of a root of a sum of squares that is shifted away from 0: 1 / sqrt(mean(x * x) + eps)
 * is left alone, although rows of values beyond 2^48 leave the range. Norms pay nothing for it, and the simulator says so.
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

/* 1 / sqrt(x) is bounded so that products with 0 and infinity stay what they are; for all others it is inside. */
static Val
guarded_sqrt(Expr *e, Val x)
{
    Val r = x_unary(e, T_rsqrt_wide, x);
    return x_binary(e, T_mul, with(e, T_minimum, with(e, T_maximum, r, 0x1p-70), 0x1p80), x);
}

/* c where a op b, else 0 */
static Val
number_where(Expr *e, TOp op, Val a, double b, double c)
{
    return with(e, T_mul, x_cast(e, with(e, op, a, b), DT_f32), c);
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

/* x is in range above: log(x * 2^k) - k log(2), with k other than 0 only where x is far from 1. */
static Val
log_of_small(Expr *e, Val x, Interval of)
{
    const double up = ldexp(1, LOW_BITS);
    Val scale = number_where(e, T_less, x, LOW, up);
    Val y = x_binary(e, T_mul, with(e, T_maximum, scale, 1), x);
    y = x_unary(e, T_log, with(e, T_maximum, y, act_domain(ACT_log)->lo));
    y = x_binary(e, T_add, with(e, T_mul, scale, -LOW_BITS * LN2 / up), y);
    return add_below_zero(e, x, of, y);
}

/* x is in range below. Both logarithms are taken, and the one that is undefined is discarded. */
static Val
log_of_large(Expr *e, Val x)
{
    Val far = with(e, T_minimum, with(e, T_mul, x, ldexp(1, -HIGH_BITS)), HIGH);
    Val back = with(e, T_sub, with(e, T_maximum, x, LARGEST), LARGEST); /* 0 or inf */
    far = x_unary(e, T_log, far);
    far = x_binary(e, T_add, with(e, T_add, back, HIGH_BITS * LN2), far);
    Val near = with(e, T_less_equal, x, HIGH);
    return x_where(e, near, x_unary(e, T_log, x), far);
}

/* Far from 1, log(x) is -4 log(sqrt(1 / sqrt(x))): roots bring it into range and their rounding does not matter. Near 1
 * it is the function's own result, which is undefined elsewhere and discarded there. */
static Val
log_of_any(Expr *e, Val x)
{
    const double near = 11; /* 4 times that is less than 64 log(2) */
    Val r = x_unary(e, T_abs, x_unary(e, T_rsqrt_wide, x)); /* inf of 0 and -0 alike, NaN of negative numbers */
    Val q = with(e, T_maximum, with(e, T_minimum, r, 0x1p75), 0x1p-64);
    q = x_unary(e, T_log, x_unary(e, T_sqrt, q));
    Val top = with(e, T_maximum, x, LARGEST);
    Val special = x_binary(e, T_sub, top, with(e, T_maximum, r, LARGEST)); /* 0, or the logarithm of 0 or inf, or NaN */
    Val far = x_binary(e, T_add, with(e, T_mul, q, -4), special);
    Val is_near = with(e, T_less_equal, x_unary(e, T_abs, q), near);
    return x_where(e, is_near, x_unary(e, T_log, x), far);
}

static Val
guarded_log(Expr *e, Val x, Interval of, bool low, bool high)
{
    return low && high ? log_of_any(e, x) : low ? log_of_small(e, x, of) : log_of_large(e, x);
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
    bool low = !(of.lo >= d->lo), given = of.moment && !low && func != ACT_log, high = !(of.hi <= d->hi) && !given;
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
