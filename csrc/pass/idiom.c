/* idiom.c - recognise what the hardware has an instruction for.
 *
 * in:   a canonical tensor graph
 * out:  the same function with sigmoid, silu, gelu_tanh, rsqrt, square and products for the ways
 *       NumPy spells them
 * rule: matches on the graph being built, so that idioms nest (silu finds sigmoid); looks a bounded
 *       number of ops back. Never needs the intermediates to be single-use: a match replaces its
 *       root by no more work than the root was, and what nobody uses any more is dropped at the
 *       end. Floats only, except small powers. Roundings to a narrow float stay: what vanishes in a larger op
 *       is f32.
 */
#include "pass/pass.h"

#include <math.h>

#define MAX_FACTORS 8
#define GELU_INNER 0.7978845608028654 /* sqrt(2 / pi) */
#define GELU_CUBIC 0.044715

typedef struct Match {
    Graph *g;
    LocId loc;
    DType dt; /* of the root */
    Val *out;
} Match;

static bool
is_op(const Graph *g, Val v, TOp op)
{
    return val_def(g, v)->code == op;
}

static bool
is_value(const Graph *g, Val v, double want)
{
    double got;
    return is_splat(g, v, &got) && got == want;
}

static Val
operand(const Graph *g, Val v, int i)
{
    return op_val(g, val_def(g, v), i);
}

/* v before conversions that keep every value. */
static Val
uncast(const Graph *g, Val v)
{
    for (int i = 0; i < 3 && is_op(g, v, T_cast); i++) {
        DType from = val_dtype(g, operand(g, v, 0));
        if (!is_float(from) || !dtype_holds(val_dtype(g, v), from))
            break;
        v = operand(g, v, 0);
    }
    return v;
}

/* v is this op and may vanish in a larger one: the rounding that vanishes with it is no more than that of f32. */
static bool
is_step(const Graph *g, Val v, TOp op)
{
    return is_op(g, v, op) && dtypes[val_dtype(g, v)].bytes >= 4;
}

/* ---- sigmoid and silu ---- */

/* v is exp(n) + 1 */
static bool
is_exp_plus_one(const Graph *g, Val v, Val *n)
{
    v = uncast(g, v);
    if (!is_step(g, v, T_add))
        return false;
    for (int i = 0; i < 2; i++) {
        Val e = uncast(g, operand(g, v, i));
        if (is_step(g, e, T_exp) && is_value(g, operand(g, v, 1 - i), 1)) {
            *n = operand(g, e, 0);
            return true;
        }
    }
    return false;
}

/* sigmoid(-n) */
static Status
emit_sigmoid(const Match *m, Val n, Val *out)
{
    TRY(t_unary(m->g, T_neg, n, m->loc, &n));
    TRY(t_cast(m->g, n, m->dt, m->loc, &n));
    return t_unary(m->g, T_sigmoid, n, m->loc, out);
}

static Status
emit_silu(const Match *m, Val x)
{
    TRY(t_cast(m->g, x, m->dt, m->loc, &x));
    return t_unary(m->g, T_silu, x, m->loc, m->out);
}

/* -n is x, conversions aside */
static bool
is_negated(const Graph *g, Val n, Val x)
{
    n = uncast(g, n);
    x = uncast(g, x);
    return (is_op(g, n, T_neg) && uncast(g, operand(g, n, 0)).i == x.i) ||
           (is_op(g, x, T_neg) && uncast(g, operand(g, x, 0)).i == n.i);
}

/* 1 / (1 + exp(n)) and x / (1 + exp(-x)). Another numerator may be large where exp(n) overflows: NumPy's 0 is not its
 * product with a subnormal sigmoid. */
static Status
match_logistic(const Match *m, Val num, Val den)
{
    Val n;
    if (!is_exp_plus_one(m->g, den, &n))
        return ST_OK;
    if (is_value(m->g, num, 1))
        return emit_sigmoid(m, n, m->out);
    return is_negated(m->g, n, num) ? emit_silu(m, num) : ST_OK;
}

/* x * sigmoid(x) */
static Status
match_silu(const Match *m, Val a, Val b)
{
    const Graph *g = m->g;
    for (int i = 0; i < 2; i++) {
        Val s = uncast(g, i ? a : b), x = i ? b : a;
        if (is_step(g, s, T_sigmoid) && uncast(g, operand(g, s, 0)).i == uncast(g, x).i)
            return emit_silu(m, x);
    }
    return ST_OK;
}

/* ---- gelu ---- */

typedef struct Factors { /* a product taken apart: coef * v[0] * v[1] ... */
    double coef;
    Val v[MAX_FACTORS];
    int n;
    bool overflow;
} Factors;

/* Multiplications, squares, small powers and conversions are looked through, at most MAX_FACTORS of
 * them; x stays whole even if it is a product itself, and so does what is rounded to a narrow float. */
static Factors
factors_of(const Graph *g, Val root, Val x)
{
    Factors f = {.coef = 1};
    Val todo[2 * MAX_FACTORS + 4];
    int n = 0, steps = 0;
    todo[n++] = root;
    while (n > 0) {
        Val v = uncast(g, todo[--n]);
        const Op *op = val_def(g, v);
        double c, k = op->code == T_square ? 2 : 0;
        if (op->code == T_power && is_splat(g, op_val(g, op, 1), &c) && (c == 2 || c == 3))
            k = c;
        bool whole = v.i == x.i || dtypes[val_dtype(g, v)].bytes < 4;
        if (!whole && is_splat(g, v, &c)) {
            f.coef *= c;
        } else if (!whole && op->code == T_mul && steps++ < MAX_FACTORS) {
            todo[n++] = op_val(g, op, 0);
            todo[n++] = op_val(g, op, 1);
        } else if (!whole && k > 0 && n + 3 < COUNT_OF(todo) && steps++ < MAX_FACTORS) {
            for (; k > 0; k--)
                todo[n++] = op_val(g, op, 0);
        } else if (f.n < MAX_FACTORS) {
            f.v[f.n++] = v;
        } else {
            f.overflow = true;
            break;
        }
    }
    return f;
}

/* v as coef * x**power; false when there is another factor. */
static bool
as_monomial(const Graph *g, Val v, Val x, double *coef, int *power)
{
    Factors f = factors_of(g, v, x);
    *coef = f.coef;
    *power = f.n;
    for (int i = 0; i < f.n; i++) {
        if (f.v[i].i != x.i)
            return false;
    }
    return !f.overflow;
}

static bool
is_near(double a, double b)
{
    return fabs(a - b) <= 3e-7 * fabs(b); /* of constants rounded to f32 */
}

/* v is GELU_INNER * (x + GELU_CUBIC * x**3) in any spelling. */
static bool
is_gelu_inner(const Graph *g, Val v, Val x)
{
    Factors f = factors_of(g, v, x);
    double coef[4] = {0};
    int outer = 0;
    Val sum = {0};
    for (int i = 0; i < f.n; i++) {
        if (f.v[i].i == x.i)
            outer++;
        else if (sum.i == 0)
            sum = f.v[i];
        else
            return false;
    }
    if (f.overflow || sum.i == 0 || !is_step(g, sum, T_add))
        return false;
    for (int i = 0; i < 2; i++) {
        double c;
        int power;
        if (!as_monomial(g, operand(g, sum, i), x, &c, &power) || power + outer > 3)
            return false;
        coef[power + outer] += c * f.coef;
    }
    return coef[0] == 0 && coef[2] == 0 && is_near(coef[1], GELU_INNER) && is_near(coef[3], GELU_INNER * GELU_CUBIC);
}

/* v is c + c * tanh(u) */
static bool
is_one_plus_tanh(const Graph *g, Val v, double *c, Val *u)
{
    if (!is_step(g, v, T_add))
        return false;
    for (int i = 0; i < 2; i++) {
        if (!is_splat(g, operand(g, v, i), c))
            continue;
        Factors f = factors_of(g, operand(g, v, 1 - i), (Val){0});
        if (f.overflow || f.n != 1 || f.coef != *c || !is_step(g, f.v[0], T_tanh))
            return false;
        *u = operand(g, f.v[0], 0);
        return true;
    }
    return false;
}

/* Strips one constant factor and conversions; false when there is none. */
static bool
peel(const Graph *g, Val *v)
{
    for (int i = 0; i < 2 && is_step(g, *v, T_mul); i++) {
        if (is_splat(g, operand(g, *v, i), NULL)) {
            *v = uncast(g, operand(g, *v, 1 - i));
            return true;
        }
    }
    return false;
}

/* The product a * b is 0.5 * x * (1 + tanh(gelu inner of x)). */
static bool
is_gelu(const Match *m, Val a, Val b, Val tanh_sum, double c, Val u, Val x)
{
    const Graph *g = m->g;
    Factors fa = factors_of(g, a, x), fb = factors_of(g, b, x);
    int nx = 0, nt = 0;
    for (int i = 0; i < fa.n + fb.n; i++) {
        Val v = i < fa.n ? fa.v[i] : fb.v[i - fa.n];
        nx += v.i == x.i;
        nt += v.i == tanh_sum.i;
    }
    return !fa.overflow && !fb.overflow && fa.n + fb.n == 2 && nx == 1 && nt == 1 && fa.coef * fb.coef * c == 0.5 &&
           is_float(val_dtype(g, x)) && is_gelu_inner(g, u, x);
}

/* The factor c + c * tanh(u) of v, if any. */
static bool
find_tanh(const Graph *g, Val v, Val *t, double *c, Val *u)
{
    Factors f = factors_of(g, v, (Val){0});
    for (int i = 0; i < f.n; i++) {
        *t = f.v[i];
        if (is_one_plus_tanh(g, *t, c, u))
            return true;
    }
    return false;
}

static Status
match_gelu(const Match *m, Val a, Val b)
{
    const Graph *g = m->g;
    Val t, u, inner;
    double c;
    if (!find_tanh(g, a, &t, &c, &u) && !find_tanh(g, b, &t, &c, &u))
        return ST_OK;
    inner = uncast(g, u);
    for (int k = 0; k < 4 && peel(g, &inner); k++)
        continue;
    if (!is_op(g, inner, T_add) && !is_op(g, inner, T_mul))
        return ST_OK;
    for (int i = 0; i < 2; i++) { /* x is a term or a factor of it, constants aside */
        Val x = uncast(g, operand(g, inner, i));
        bool found = is_gelu(m, a, b, t, c, u, x);
        for (int k = 0; k < 4 && !found && peel(g, &x); k++)
            found = is_gelu(m, a, b, t, c, u, x);
        if (!found)
            continue;
        TRY(t_cast(m->g, x, m->dt, m->loc, &x));
        return t_unary(m->g, T_gelu_tanh, x, m->loc, m->out);
    }
    return ST_OK;
}

/* ---- roots and powers ---- */

/* v is sqrt(y), maybe seen through a layout change and conversions: the same with rsqrt. */
static Status
emit_rsqrt(const Match *m, Val v, Val *out)
{
    const Op *layout = NULL;
    Val s = uncast(m->g, v), y;
    out->i = 0;
    if (val_def(m->g, s)->flags & F_LAYOUT) {
        layout = val_def(m->g, s);
        s = uncast(m->g, op_val(m->g, layout, 0));
    }
    if (!is_step(m->g, s, T_sqrt))
        return ST_OK;
    y = operand(m->g, s, 0);
    TRY(t_cast(m->g, y, m->dt, m->loc, &y));
    TOp code = layout != NULL ? (TOp)layout->code : T_none; /* the graph grows from here */
    AttrId attr = layout != NULL ? layout->attr : (AttrId){0};
    TRY(t_unary(m->g, T_rsqrt, y, m->loc, out));
    return code != T_none ? t_emit(m->g, code, out, 1, attr, m->loc, out) : ST_OK;
}

static Status
match_div(const Match *m, Val a, Val b)
{
    Val r;
    TRY(match_logistic(m, a, b));
    if (m->out->i)
        return ST_OK;
    TRY(emit_rsqrt(m, b, &r));
    if (!r.i)
        return ST_OK;
    if (is_value(m->g, a, 1)) {
        *m->out = r;
        return ST_OK;
    }
    return t_binary(m->g, T_mul, a, r, m->loc, m->out);
}

static Status
match_reciprocal(const Match *m, Val x)
{
    Val n;
    if (is_exp_plus_one(m->g, x, &n))
        return emit_sigmoid(m, n, m->out);
    return emit_rsqrt(m, x, m->out);
}

/* x**c for c in -2, 2, 3, 4; rounds once in the narrow floats. */
static Status
emit_product(const Match *m, Val x, int c, Val *out)
{
    Graph *g = m->g;
    bool narrow = is_float(m->dt) && dtypes[m->dt].bytes < 4 && c != 2;
    Val y;
    if (narrow)
        TRY(t_cast(g, x, DT_f32, m->loc, &x));
    if (c == -2) /* first, since the square overflows earlier */
        TRY(t_unary(g, T_reciprocal, x, m->loc, &x));
    TRY(t_unary(g, T_square, x, m->loc, &y));
    if (c == 3)
        TRY(t_binary(g, T_mul, y, x, m->loc, &y));
    if (c == 4)
        TRY(t_unary(g, T_square, y, m->loc, &y));
    return t_cast(g, y, m->dt, m->loc, out);
}

static Status
match_power(const Match *m, Val x, Val exponent)
{
    Graph *g = m->g;
    double c;
    if (!is_splat(g, exponent, &c))
        return ST_OK;
    if (c == 2 || c == 3 || c == 4)
        return emit_product(m, x, (int)c, m->out);
    if (!is_float(m->dt))
        return ST_OK;
    if (c == -2)
        return emit_product(m, x, -2, m->out);
    if (c == 0.5)
        return t_unary(g, T_sqrt, x, m->loc, m->out);
    if (c == -0.5 && is_never_negative(g, x)) /* of -0 and -inf NumPy's power is inf and 0 */
        return t_unary(g, T_rsqrt, x, m->loc, m->out);
    if (c == -1)
        return t_unary(g, T_reciprocal, x, m->loc, m->out);
    return ST_OK;
}

static Status
match_mul(const Match *m, Val a, Val b)
{
    if (a.i == b.i)
        return t_unary(m->g, T_square, a, m->loc, m->out);
    TRY(match_silu(m, a, b));
    return m->out->i ? ST_OK : match_gelu(m, a, b);
}

/* ---- the walk ---- */

static Status
match(const Match *m, const Graph *in, const Op *op, const Val *map)
{
    Val a = map[op_val(in, op, 0).i], b = op->nin > 1 ? map[op_val(in, op, 1).i] : a;
    if (op->code == T_power)
        return match_power(m, a, b);
    if (!is_float(m->dt))
        return ST_OK;
    switch ((TOp)op->code) {
    case T_mul:
        return match_mul(m, a, b);
    case T_div:
        return match_div(m, a, b);
    case T_reciprocal:
        return match_reciprocal(m, a);
    default:
        return ST_OK;
    }
}

static Status
rewrite_op(const Rewrite *rw, OpId o, Val *out)
{
    const Graph *in = rw->in;
    Graph *g = rw->g;
    const Op *op = graph_op(in, o);
    const Type *t = val_type(in, op->out);
    Val found = {0};
    if (op->code == T_mul || op->code == T_div || op->code == T_reciprocal || op->code == T_power) {
        Match m = {.g = g, .loc = op->loc, .dt = (DType)t->dtype, .out = &found};
        TRY(match(&m, in, op, rw->map));
    }
    if (found.i == 0)
        return rewrite_clone(rw, o, out);
    return rewrite_shaped(rw, op, found, out);
}

Status
pass_idiom(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Graph *g;
    TRY(graph_rewrite(in, opt, rewrite_op, NULL, &g));
    return graph_sweep(g, opt, out);
}
