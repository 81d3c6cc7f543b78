/* floor.c - what no program for a function can go below: bytes that must move, and passes over data.
 *
 * in:   the traced graph (bytes), the graph before decomposition (passes), and the tile program that was made of them
 * out:  hbm_min and roofline_us of its cost
 * rule: an array counts once; of an input that is only sliced, and of an output that updates an input, only what the
 *       slices and updates reach. An op counts as one pass at the fastest documented rate when nothing else can carry
 *       it: functions of the scalar engine, element-wise ops of two whole arrays, extremes of what is not computed here,
 *       and the way of a product out of PSUM when no such op takes it. Passes are spread over the engines that can run
 *       them as if that cost nothing. Whatever may ride (scales, biases, conversions, sums, layout) is free
 */
#include <string.h>

#include "cost/cost.h"
#include "tensor/tensor.h"

/* ---- bytes ---- */

typedef struct Touched { /* elements, by index */
    int64_t *in, *out;
    bool *live; /* by value: an output needs it */
    bool *base; /* by value: an input that an output updates, at some time before the output */
} Touched;

static void
mark_live(const Graph *g, const Touched *t)
{
    for (uint32_t i = 0; i < g->outputs.n; i++)
        t->live[g->outputs.p[i].i] = true;
    for (uint32_t o = g->ops.n - 1; o > 0; o--) {
        const Op *op = graph_op(g, (OpId){o});
        for (int i = 0; op->out.i && t->live[op->out.i] && i < op->nin; i++)
            t->live[op_val(g, op, i).i] = true;
    }
}

/* Follows an output back through its updates; true when an input is what they began from. */
static bool
follow_updates(const Graph *g, const Touched *t, uint32_t k, bool mark)
{
    Val v = g->outputs.p[k];
    int64_t written = 0, all = type_numel(val_type(g, v));
    const Op *op = val_def(g, v);

    for (; op->code == T_update; op = val_def(g, v)) {
        if (mark)
            t->base[v.i] = true;
        written += type_numel(val_type(g, op_val(g, op, 1)));
        v = op_val(g, op, 0);
    }
    if (mark)
        t->base[v.i] = true;
    t->out[k] = MIN(written, all);
    return op->code == T_input;
}

static int64_t
input_index(const Graph *g, Val v)
{
    return attr_int(g->cx, val_def(g, v)->attr, A_index, 0);
}

/* What op reads of its operand i. */
static void
add_reads(const Graph *g, const Touched *t, const Op *op, int i)
{
    Val v = op_val(g, op, i), from = v;
    bool chain = op->code == T_update && i == 0 && t->base[op->out.i];
    int64_t n = type_numel(val_type(g, op->code == T_slice ? op->out : v));

    if (chain)
        return;
    while (t->base[from.i] && val_def(g, from)->code == T_update)
        from = op_val(g, val_def(g, from), 0);
    if (val_def(g, from)->code == T_input)
        t->in[input_index(g, from)] += n;
}

static Status
count_touched(const Graph *g, Arena *a, Touched *t)
{
    uint32_t inputs = 0;

    FOR_OPS(g, o)
        inputs += graph_op(g, o)->code == T_input;
    NEW(g->cx, a, t->in, inputs + 1);
    NEW(g->cx, a, t->out, g->outputs.n + 1);
    NEW(g->cx, a, t->live, g->vals.n + 1);
    NEW(g->cx, a, t->base, g->vals.n + 1);
    mark_live(g, t);
    for (uint32_t k = 0; k < g->outputs.n; k++) {
        bool aliased = k < g->aliases.n && g->aliases.p[k] >= 0;
        if (!aliased || !follow_updates(g, t, k, false))
            t->out[k] = type_numel(val_type(g, g->outputs.p[k]));
        else
            follow_updates(g, t, k, true);
    }
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        for (int i = 0; op->out.i && t->live[op->out.i] && i < op->nin; i++)
            add_reads(g, t, op, i);
    }
    for (uint32_t k = 0; k < g->outputs.n; k++) /* an input that is an output is copied */
        if (val_def(g, g->outputs.p[k])->code == T_input && !t->base[g->outputs.p[k].i])
            t->in[input_index(g, g->outputs.p[k])] += type_numel(val_type(g, g->outputs.p[k]));
    return ST_OK;
}

static int64_t
bytes_to_touch(const Graph *tile, const Touched *t)
{
    int64_t bytes = 0;

    FOR_OPS(tile, o) {
        const Op *op = graph_op(tile, o);
        int kind = op->code == K_buffer ? (int)attr_int(tile->cx, op->attr, A_kind, BK_tile) : BK_tile;
        const Type *ty = kind == BK_input || kind == BK_output ? val_type(tile, op->out) : NULL;
        int64_t i = attr_int(tile->cx, op->attr, A_index, 0);
        if (ty)
            bytes += MIN(kind == BK_input ? t->in[i] : t->out[i], type_numel(ty)) * dtypes[ty->dtype].bytes;
    }
    return bytes;
}

/* ---- passes ---- */

enum { ON_vector = 1, ON_scalar = 2, ON_gpsimd = 4, ON_all = 7 }; /* engines that can run a pass, as a set */

typedef struct Passes {
    const Graph *g;
    const Hw *hw;
    double work[ON_all + 1]; /* elements per lane, by the set of engines */
    Val *product;            /* by value: the product in PSUM that it is, or is computed from by what rides; 0: none */
    bool *evicted;           /* by value: such a product has its pass */
    bool *computed;          /* by value: an instruction of this function makes it */
} Passes;

/* As many elements as op's result, and no broadcast of fewer. */
static bool
is_whole(const Passes *p, const Op *op, int i)
{
    Val v = op_val(p->g, op, i);
    int code = val_def(p->g, v)->code;

    return code != T_broadcast_to && code != T_full
           && type_numel(val_type(p->g, v)) == type_numel(val_type(p->g, op->out));
}

static bool
is_scalar_function(int code)
{
    switch (code) {
    case T_exp: case T_exp2: case T_expm1: case T_log: case T_log2: case T_log10: case T_log1p:
    case T_sin: case T_cos: case T_tan: case T_sin_pi: case T_arctan: case T_arctan_small:
    case T_sinh: case T_cosh: case T_tanh: case T_sigmoid: case T_silu: case T_gelu_tanh:
        return true;
    default:
        return false;
    }
}

/* The engines for the pass that op needs of its own; 0: it may ride in another instruction. */
static int
engines_of(const Passes *p, const Op *op)
{
    const OpDef *def = op_def(p->g, op);
    Val a = op->nin ? op_val(p->g, op, 0) : (Val){0};

    if (!op->out.i || !is_float(val_dtype(p->g, op->nin ? a : op->out)))
        return 0;
    if (is_scalar_function(op->code))
        return ON_scalar;
    if (op->code == T_reduce_max || op->code == T_reduce_min)
        return p->computed[a.i] ? 0 : ON_vector;
    if (!(def->flags & F_EW) || op->nin != 2 || !is_whole(p, op, 0) || !is_whole(p, op, 1))
        return 0;
    if (op->code == T_mul && a.i == op_val(p->g, op, 1).i)
        return ON_all;
    bool sum = op->code == T_add || op->code == T_sub; /* which PSUM accumulates */
    bool product = p->product[a.i].i || p->product[op_val(p->g, op, 1).i].i;
    return sum && product ? 0 : ON_vector | ON_gpsimd;
}

static void
evict(Passes *p, Val v)
{
    Val m = p->product[v.i];

    if (m.i && !p->evicted[m.i])
        p->work[ON_vector | ON_scalar] += (double)type_numel(val_type(p->g, m)) / p->hw->pmax;
    p->evicted[m.i] = true;
}

static void
count_op(Passes *p, const Op *op)
{
    const Graph *g = p->g;
    int on = engines_of(p, op);

    if (op->code == T_matmul) {
        evict(p, op_val(g, op, 0));
        evict(p, op_val(g, op, 1));
        p->product[op->out.i] = op->out;
        return;
    }
    for (int i = 0; i < op->nin; i++) {
        Val v = op_val(g, op, i);
        if (on == 0 && p->product[v.i].i)
            p->product[op->out.i] = p->product[v.i];
        p->computed[op->out.i] |= p->computed[v.i];
    }
    if (on) {
        Val large = op_def(g, op)->flags & F_REDUCE ? op_val(g, op, 0) : op->out;
        p->work[on] += (double)type_numel(val_type(g, large)) / p->hw->pmax;
        p->computed[op->out.i] = true;
    }
}

/* The largest bound of any set of engines: the passes that only they can run, at their rates together. */
static double
spread_us(const Passes *p)
{
    const double rate[3] = {p->hw->clock_vector, p->hw->clock_scalar,
                            p->hw->vector_gpsimd_parallel > 0 ? p->hw->clock_gpsimd / 2 : 0};
    double most = 0;

    for (int set = 1; set <= ON_all; set++) {
        double work = 0, all = 0;
        for (int k = 1; k <= ON_all; k++)
            work += (k & ~set) == 0 ? p->work[k] : 0;
        for (int e = 0; e < 3; e++)
            all += set >> e & 1 ? rate[e] : 0;
        if (all > 0)
            most = MAX(most, work / all * 1e-3);
    }
    return most;
}

static Status
pass_us(const Graph *g, const Hw *hw, Arena *a, double *us)
{
    Passes p = {.g = g, .hw = hw};

    NEW(g->cx, a, p.product, g->vals.n + 1);
    NEW(g->cx, a, p.evicted, g->vals.n + 1);
    NEW(g->cx, a, p.computed, g->vals.n + 1);
    FOR_OPS(g, o)
        count_op(&p, graph_op(g, o));
    for (uint32_t i = 0; i < g->outputs.n; i++)
        evict(&p, g->outputs.p[i]);
    *us = spread_us(&p);
    return ST_OK;
}

static Status
floor_of(const Graph *traced, const Graph *canonical, const Graph *tile, Arena *a, Cost *out)
{
    Touched t = {0};
    double passes = 0;

    TRY(count_touched(traced, a, &t));
    TRY(pass_us(canonical, hw_get(tile->target), a, &passes));
    out->hbm_min = bytes_to_touch(tile, &t);
    out->roofline_us = (double)out->hbm_min / cost_dma_bandwidth(hw_get(tile->target));
    out->roofline_us = MAX(MAX(out->roofline_us, out->tensor_us), passes);
    return ST_OK;
}

Status
cost_floor(const Graph *traced, const Graph *canonical, const Graph *tile, Cost *out)
{
    Arena a;
    Status st;

    arena_init(&a, &traced->cx->mem);
    st = floor_of(traced, canonical, tile, &a, out);
    arena_free(&a);
    return st;
}
