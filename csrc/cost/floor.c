/* floor.c - what no program for a function can go below: bytes that must move, and passes over data.
 *
 * in:   the graph before decomposition, and the tile program that was made of it
 * out:  hbm_min and roofline_us of its cost
 * rule: an array counts once; of an input that is only sliced, and of an output that updates an input, only what the
 *       slices reach and the updates change. An op counts as one pass at the fastest documented rate when nothing else can carry
 *       it: functions of the scalar engine, element-wise ops of two whole arrays, extremes of what is not computed here,
 *       and the way of a product out of PSUM when no such op takes it. Passes are spread over the engines that can run
 *       them as if that cost nothing. Whatever may ride (scales, biases, conversions, sums, layout) is free
 */
#include <string.h>

#include "cost/cost.h"
#include "tensor/tensor.h"

/* ---- bytes ---- */

#define MAX_BOXES 64 /* slices of an input that are compared with each other; of more the sizes are added up */

typedef struct Reads { /* of an input */
    int64_t n;               /* elements, no more than there are */
    uint32_t nbox;
    const Op *box[MAX_BOXES]; /* slices that do not overlap */
} Reads;

typedef struct Piece { /* of an output: a value, and where in the output it lies */
    Val v;
    int64_t at[MAX_RANK];
    bool shared; /* others read it, too */
} Piece;

typedef struct Touched {
    const Graph *g;
    Arena *a;
    Reads *in;         /* by index */
    int64_t *out;      /* elements, by index */
    uint32_t *skipped; /* by value: reads of it by outputs that have it in place already */
    uint32_t *reads;   /* by value: all reads by what an output needs */
    VEC(Piece) pieces;
} Touched;

static const int64_t *
slice_ints(const Graph *g, const Op *op, Key key)
{
    return attr_find(g->cx, op->attr, key)->ints;
}

/* Two slices of one array have no element in common. */
static bool
are_apart(const Graph *g, const Op *a, const Op *b)
{
    const int64_t *a0 = slice_ints(g, a, A_start), *as = slice_ints(g, a, A_step), *an = slice_ints(g, a, A_size);
    const int64_t *b0 = slice_ints(g, b, A_start), *bs = slice_ints(g, b, A_step), *bn = slice_ints(g, b, A_size);
    int rank = val_type(g, a->out)->rank;

    for (int i = 0; i < rank; i++) {
        int64_t a1 = a0[i] + as[i] * (an[i] - 1), b1 = b0[i] + bs[i] * (bn[i] - 1);
        bool residue = as[i] == bs[i] && (a0[i] - b0[i]) % as[i] != 0;
        if (residue || MAX(a0[i], a1) < MIN(b0[i], b1) || MAX(b0[i], b1) < MIN(a0[i], a1))
            return true;
    }
    return false;
}

static void
add_slice(const Graph *g, Reads *r, const Op *op)
{
    bool apart = true;

    for (uint32_t i = 0; i < r->nbox && apart; i++)
        apart = are_apart(g, r->box[i], op);
    if (!apart && r->nbox < MAX_BOXES)
        return;
    if (r->nbox < MAX_BOXES)
        r->box[r->nbox++] = op;
    r->n += type_numel(val_type(g, op->out));
}

static int64_t
input_index(const Graph *g, Val v)
{
    return attr_int(g->cx, val_def(g, v)->attr, A_index, 0);
}

/* The piece is the input's own part at this place. */
static bool
is_in_place(const Graph *g, const Piece *p, int64_t input)
{
    const Op *op = val_def(g, p->v), *from = op->code == T_slice ? val_def(g, op_val(g, op, 0)) : op;
    bool same = from->code == T_input && input_index(g, from->out) == input;

    for (int i = 0; same && op->code == T_slice && i < val_type(g, p->v)->rank; i++)
        same = slice_ints(g, op, A_start)[i] == p->at[i] && slice_ints(g, op, A_step)[i] == 1;
    for (int i = 0; same && op->code == T_input && i < val_type(g, p->v)->rank; i++)
        same = p->at[i] == 0;
    return same;
}

static Status
push_parts(Touched *t, const Piece *whole)
{
    const Graph *g = t->g;
    const Op *op = val_def(g, whole->v);
    int64_t axis = attr_int(g->cx, op->attr, A_axis, 0);
    Piece part = *whole;

    for (int i = 0; i < op->nin; i++) {
        part.v = op_val(g, op, i);
        part.shared = whole->shared || t->reads[part.v.i] > 1;
        VEC_PUSH(g->cx, t->a, &t->pieces, part);
        part.at[axis] += val_type(g, part.v)->dim[axis];
    }
    return ST_OK;
}

/* Output k updates an input: only the parts that are not the input's own count. */
static Status
count_changed(Touched *t, uint32_t k)
{
    const Graph *g = t->g;
    Piece whole = {.v = g->outputs.p[k], .shared = t->reads[g->outputs.p[k].i] > 1};

    t->pieces.n = 0;
    VEC_PUSH(g->cx, t->a, &t->pieces, whole);
    while (t->pieces.n) {
        Piece p = t->pieces.p[--t->pieces.n];
        if (is_in_place(g, &p, g->aliases.p[k]))
            t->skipped[p.v.i] += !p.shared;
        else if (val_def(g, p.v)->code == T_concat)
            TRY(push_parts(t, &p));
        else
            t->out[k] += type_numel(val_type(g, p.v));
    }
    return ST_OK;
}

static void
count_reads(Touched *t)
{
    const Graph *g = t->g;

    for (uint32_t i = 0; i < g->outputs.n; i++)
        t->reads[g->outputs.p[i].i]++;
    for (uint32_t o = g->ops.n - 1; o > 0; o--) {
        const Op *op = graph_op(g, (OpId){o});
        for (int i = 0; op->out.i && t->reads[op->out.i] && i < op->nin; i++)
            t->reads[op_val(g, op, i).i]++;
    }
}

/* Reads of inputs by ops whose results are needed for more than to stay where they are. */
static void
count_inputs(Touched *t)
{
    const Graph *g = t->g;

    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        bool needed = op->out.i && t->reads[op->out.i] > t->skipped[op->out.i];
        for (int i = 0; needed && i < op->nin; i++) {
            Val v = op_val(g, op, i);
            if (val_def(g, v)->code != T_input)
                continue;
            Reads *r = &t->in[input_index(g, v)];
            if (op->code == T_slice)
                add_slice(g, r, op);
            else if (op->code != T_concat || t->reads[v.i] > t->skipped[v.i])
                r->n += type_numel(val_type(g, v));
        }
    }
    for (uint32_t k = 0; k < g->outputs.n; k++) /* an input that is another output is copied */
        if (val_def(g, g->outputs.p[k])->code == T_input && t->out[k])
            t->in[input_index(g, g->outputs.p[k])].n += t->out[k];
}

static Status
count_touched(Touched *t)
{
    const Graph *g = t->g;
    uint32_t inputs = 0;

    FOR_OPS(g, o)
        inputs += graph_op(g, o)->code == T_input;
    NEW(g->cx, t->a, t->in, inputs + 1);
    NEW(g->cx, t->a, t->out, g->outputs.n + 1);
    NEW(g->cx, t->a, t->skipped, g->vals.n + 1);
    NEW(g->cx, t->a, t->reads, g->vals.n + 1);
    count_reads(t);
    for (uint32_t k = 0; k < g->outputs.n; k++) {
        if (k < g->aliases.n && g->aliases.p[k] >= 0)
            TRY(count_changed(t, k));
        else
            t->out[k] = type_numel(val_type(g, g->outputs.p[k]));
    }
    count_inputs(t);
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
            bytes += MIN(kind == BK_input ? t->in[i].n : t->out[i], type_numel(ty)) * dtypes[ty->dtype].bytes;
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
floor_of(const Graph *canonical, const Graph *tile, Arena *a, Cost *out)
{
    Touched t = {.g = canonical, .a = a};
    double passes = 0;

    TRY(count_touched(&t));
    TRY(pass_us(canonical, hw_get(tile->target), a, &passes));
    out->hbm_min = bytes_to_touch(tile, &t);
    out->roofline_us = (double)out->hbm_min / cost_dma_bandwidth(hw_get(tile->target));
    out->roofline_us = MAX(MAX(out->roofline_us, out->tensor_us), passes);
    return ST_OK;
}

Status
cost_floor(const Graph *canonical, const Graph *tile, Cost *out)
{
    Arena a;
    Status st;

    arena_init(&a, &canonical->cx->mem);
    st = floor_of(canonical, tile, &a, out);
    arena_free(&a);
    return st;
}
