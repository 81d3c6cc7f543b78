/* decompose.c - rewrite tensor ops that lowering has no instruction for.
 *
 * in:   any verified tensor graph without 64-bit dtypes
 * out:  the same function using only ops marked F_CORE; casts left are those the hardware does
 *       by itself (between floats, from integers and bools, between integers)
 * rule: one rewriter per op, found through a table; no rewriter looks at its users. The narrow
 *       floats are computed in f32 and rounded once. Infinities, nan and the sign of a zero come
 *       out as in NumPy; docs/accuracy.md has the bound of each op, and the exceptions.
 *
 *   float to integer          exact in the destination's range, saturates outside; nan becomes 0
 *   integer to integer        exact: wraps
 */
#include "pass/expand.h"


/* ---- conversions ---- */

/* n is x rounded to nearest; takes back a step away from zero. */
static Val
toward_zero(Expr *e, Val n, Val x)
{
    Val an = x_unary(e, T_abs, n), ax = x_unary(e, T_abs, x);
    Val over = flag(e, T_greater, an, ax);
    return sub(e, n, mul(e, over, x_unary(e, T_sign, x)));
}

/* Truncates, then converts a number that is an integer already. */
static Val
float_to_int(Expr *e, Val x, DType to)
{
    DType via = to == DT_u32 ? DT_u32 : DT_i32;
    Val n = x_cast(e, x_rcast(e, x, via), e->dt);
    return x_rcast(e, toward_zero(e, n, x), to);
}

static bool
holds_all_of(DType to, DType from)
{
    bool same_kind = dtypes[to].kind == dtypes[from].kind;
    return same_kind ? dtypes[to].bytes >= dtypes[from].bytes
                     : dtypes[to].kind == DK_int && dtypes[to].bytes > dtypes[from].bytes;
}

static Status
expand_cast(Graph *g, const Op *op, Val x, Val *out)
{
    DType from = val_dtype(g, x), to = (DType)attr_int(g->cx, op->attr, A_dtype, DT_none);
    Expr e = {.g = g, .loc = op->loc, .dt = from};
    if (from == to)
        *out = x;
    else if (to == DT_bool)
        *out = binc(&e, T_not_equal, x, 0);
    else if (is_integer(from) && is_integer(to) && !holds_all_of(to, from))
        *out = wrapped(&e, x, to);
    else if (!is_float(from) || is_float(to))
        *out = x_cast(&e, x, to);
    else {
        e.dt = dtypes[from].bytes < 4 ? DT_f32 : from;
        *out = float_to_int(&e, x_cast(&e, x, e.dt), to);
    }
    return e.st;
}

/* 1 / x of integers: NumPy truncates. */
static Val
int_reciprocal(Expr *e, Val x)
{
    Val unit = binc(e, T_equal, x_unary(e, T_abs, x), 1);
    return x_where(e, unit, x, num(e, 0));
}

/* ---- what is too long for a row on chip ---- */

#define LONG_BYTES 65536 /* of a row that a reduction in one step would need */

/* The longest run of dims that are, or are not, in the set; dims of size 1 belong to any. */
static int64_t
longest_run(const Type *t, uint32_t set, bool in)
{
    int64_t n = 1, most = 1;
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] == 1)
            continue;
        n = (set >> i & 1) == in ? n * t->dim[i] : 1;
        most = MAX(most, n);
    }
    return most;
}

/* Neither the dims that stay nor those reduced have a run that leaves short rows: one axis after the other. */
static bool
is_long_reduction(const Graph *g, const Op *op, Val x)
{
    const int64_t *axes;
    const Type *t = val_type(g, x);
    uint32_t set = 0;
    if (!(tensor_dialect.ops[op->code].flags & F_REDUCE))
        return false;
    int n = attr_ints(g->cx, op->attr, A_axes, &axes);
    for (int i = 0; i < n; i++)
        set |= 1u << axes[i];
    int64_t rows = MAX(longest_run(t, set, true), longest_run(t, set, false));
    return n > 1 && type_numel(t) / MAX(rows, 1) * dtypes[t->dtype].bytes > LONG_BYTES;
}

static Status
split_reduction(Expr *e, const Graph *in, const Op *op, Val x, Val *out)
{
    const int64_t *axes;
    const Type *t = val_type(in, op->out);
    int n = attr_ints(in->cx, op->attr, A_axes, &axes);
    DType dt = val_dtype(e->g, x);
    if (is_float(dt))
        x = x_cast(e, x, DT_f32); /* rounded once, at the end */
    TRY(e->st);
    for (int i = n - 1; i >= 0; i--)
        TRY(t_reduce(e->g, (TOp)op->code, x, &axes[i], 1, true, e->loc, &x));
    TRY(t_reshape(e->g, x, t->dim, t->rank, e->loc, &x));
    return t_cast(e->g, x, dt, e->loc, out);
}

/* ---- the walk ---- */

static Val
expand_neg(Expr *e, Val x)
{
    return mulc(e, x, -1);
}

static Val
expand_positive(Expr *e, Val x)
{
    (void)e;
    return x;
}

static Val
expand_isnan(Expr *e, Val x)
{
    return x_binary(e, T_not_equal, x, x);
}

static ExpandUnary *const unary[T_COUNT] = {
    [T_neg] = expand_neg,
    [T_positive] = expand_positive,
    [T_cbrt] = expand_cbrt,
    [T_exp2] = expand_exp2,
    [T_expm1] = expand_expm1,
    [T_log2] = expand_log2,
    [T_log10] = expand_log10,
    [T_log1p] = expand_log1p,
    [T_sin] = expand_sin,
    [T_cos] = expand_cos,
    [T_tan] = expand_tan,
    [T_arctan] = expand_arctan,
    [T_sinh] = expand_sinh,
    [T_cosh] = expand_cosh,
    [T_floor] = expand_floor,
    [T_ceil] = expand_ceil,
    [T_rint] = expand_rint,
    [T_trunc] = expand_trunc,
    [T_isnan] = expand_isnan,
    [T_invert] = expand_invert,
};
static ExpandBinary *const binary[T_COUNT] = {
    [T_div] = expand_div,
    [T_hypot] = expand_hypot,
    [T_logaddexp] = expand_logaddexp,
    [T_floor_divide] = expand_floor_divide,
    [T_remainder] = expand_remainder,
    [T_right_shift] = expand_right_shift,
};

static Val
expand(Expr *e, int op, Val a, Val b)
{
    return unary[op] ? unary[op](e, a) : binary[op](e, a, b);
}

/* One instruction in any float: nothing to gain from f32. */
static bool
is_one_step(int op)
{
    return op == T_neg || op == T_positive || op == T_isnan;
}

static Status
expand_op(const Rewrite *rw, const Op *op, Val a, Val b, Val *out)
{
    Graph *g = rw->g;
    const Interval *of = rw->env;
    DType dt = val_dtype(g, a);
    Expr e = {.g = g, .loc = op->loc, .dt = dt, .a = of[op_val(rw->in, op, 0).i]};
    e.b = op->nin > 1 ? of[op_val(rw->in, op, 1).i] : e.a;
    if (!unary[op->code] && !binary[op->code])
        return fail(g->cx, ST_BUG, op->loc, "NKI-4005 decompose: no rewriter for %s",
                    tensor_dialect.ops[op->code].name);
    if (!is_float(dt) || dtypes[dt].bytes >= 4 || is_one_step(op->code)) {
        *out = expand(&e, op->code, a, b);
        return e.st;
    }
    e.dt = DT_f32;
    a = x_cast(&e, a, DT_f32);
    b = x_cast(&e, b, DT_f32);
    *out = x_cast(&e, expand(&e, op->code, a, b), dt);
    return e.st;
}

static bool
is_empty(const Graph *g, Val v)
{
    return type_numel(val_type(g, v)) == 0;
}

/* What has no elements, or is made of what has none: nothing is left to compute. */
static bool
has_nothing_to_do(const Graph *in, const Op *op)
{
    if (op->code == T_input)
        return false;
    return is_empty(in, op->out) || (op->nin > 0 && op->code != T_concat && is_empty(in, op_val(in, op, 0)));
}

/* Parts of a concat that have elements. */
static Status
concat_rest(const Graph *in, Graph *g, const Op *op, const Val *map, Val *out)
{
    Val *part;
    int n = 0;
    NEW(g->cx, &g->cx->scratch, part, op->nin);
    for (int i = 0; i < op->nin; i++)
        if (!is_empty(in, op_val(in, op, i)))
            part[n++] = map[op_val(in, op, i).i];
    *out = part[0];
    return n == 1 ? ST_OK : t_concat(g, part, n, attr_int(in->cx, op->attr, A_axis, 0), op->loc, out);
}

/* ---- integers ---- */

static bool
is_arithmetic(int op)
{
    return op == T_add || op == T_sub || op == T_mul || op == T_neg || op == T_abs || op == T_square ||
           op == T_floor_divide || op == T_remainder || op == T_power || op == T_left_shift || op == T_invert;
}

/* Of numbers in words, the result is one of the small dtype again. */
static bool
is_bitwise(int op)
{
    return op == T_bitwise_and || op == T_bitwise_or || op == T_bitwise_xor || op == T_right_shift ||
           op == T_shift_down;
}

static bool
is_small_int(DType dt)
{
    return is_integer(dt) && dtypes[dt].bytes < 4;
}

/* Of 8 and 16 bits: the engines saturate what they store, so computed in words, then wrapped. */
static Status
expand_small(Expr *e, const Op *op, Val a, Val b, DType dt, Val *out)
{
    e->dt = DT_i32;
    a = x_cast(e, a, DT_i32);
    b = x_cast(e, b, DT_i32);
    Val zero = num(e, 0), v;
    switch (op->code) {
    case T_neg:
        v = sub(e, zero, a);
        break;
    case T_abs:
        v = x_where(e, x_binary(e, T_less, a, zero), sub(e, zero, a), a);
        break;
    case T_square:
        v = mul(e, a, a);
        break;
    case T_power:
        v = expand_int_power(e, a, b);
        break;
    case T_floor_divide:
    case T_remainder:
    case T_right_shift:
    case T_invert:
        v = expand(e, op->code, a, b);
        break;
    default:
        v = x_binary(e, (TOp)op->code, a, b);
    }
    *out = is_bitwise(op->code) ? x_rcast(e, v, dt) : wrapped(e, v, dt);
    return e->st;
}

static Status
rewrite_op(const Rewrite *rw, OpId o, Val *out)
{
    const Graph *in = rw->in;
    Graph *g = rw->g;
    const Op *op = graph_op(in, o);
    const Type *t = val_type(in, op->out);
    if (has_nothing_to_do(in, op)) /* sums and products of nothing are 0 */
        return t_full(g, (DType)t->dtype, t->rank, t->dim, 0, op->loc, out);
    if (op->code == T_concat)
        return concat_rest(in, g, op, rw->map, out);
    if (op->nin == 0)
        return rewrite_clone(rw, o, out);
    Val a = rw->map[op_val(in, op, 0).i], b = op->nin > 1 ? rw->map[op_val(in, op, 1).i] : a;
    if (op->code == T_cast)
        return expand_cast(g, op, a, out);
    Expr e = {.g = g, .loc = op->loc, .dt = (DType)t->dtype};
    if (op->code == T_matmul && !is_float(e.dt)) {
        const Interval *of = rw->env;
        return expand_int_matmul(&e, a, b, of[op_val(in, op, 0).i], of[op_val(in, op, 1).i], out);
    }
    if ((is_arithmetic(op->code) || is_bitwise(op->code)) && is_small_int(e.dt)) {
        TRY(expand_small(&e, op, a, b, e.dt, out));
        return rewrite_shaped(rw, op, *out, out);
    }
    if (op->code == T_power && is_integer(e.dt)) { /* exact, where the engine's power is f32 */
        *out = expand_int_power(&e, a, b);
        return e.st == ST_OK ? rewrite_shaped(rw, op, *out, out) : e.st;
    }
    if (op->code == T_reciprocal && !is_float((DType)t->dtype)) {
        *out = int_reciprocal(&e, a);
        return e.st;
    }
    if (op->code == T_square && is_integer((DType)t->dtype)) /* in words; the activation would compute it in f32 */
        return t_binary(g, T_mul, a, a, op->loc, out);
    if (is_long_reduction(g, op, a))
        return split_reduction(&e, in, op, a, out);
    if (op->flags & F_CORE)
        return rewrite_clone(rw, o, out);
    TRY(expand_op(rw, op, a, b, out));
    return rewrite_shaped(rw, op, *out, out);
}

Status
pass_decompose(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Graph *g;
    Interval *of;
    TRY(intervals(in, &in->cx->scratch, &of));
    TRY(graph_rewrite(in, opt, rewrite_op, of, &g));
    TRY(order_words(g, opt, &g));
    return graph_sweep(g, opt, out);
}
