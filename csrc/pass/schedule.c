/* schedule.c - which engine runs what may run on several.
 *
 * in:   a lowered tile program
 * out:  the same instructions in the same order, with engines chosen
 * rule: fixed work is weighed first, then each flexible instruction goes, in program order, to the one of its two
 *       engines that will be done with all its work earlier. Weights are modelled microseconds times loop iterations.
 */
#include "pass/plan.h"

typedef struct Balance {
    const Graph *g;
    const Hw *hw;
    double load[EN_COUNT];
} Balance;

/* tensor_scalar on the scalar engine: multiply, add, or multiply then add. */
static bool
is_scale_and_add(const Graph *g, const Op *op)
{
    int64_t op0 = attr_int(g->cx, op->attr, A_op0, 0), op1 = attr_int(g->cx, op->attr, A_op1, 0);
    bool reversed = attr_int(g->cx, op->attr, A_reverse0, 0) || attr_int(g->cx, op->attr, A_reverse1, 0);
    bool forms = (op0 == ALU_multiply && (op1 == 0 || op1 == ALU_add)) || (op0 == ALU_add && op1 == 0);
    return forms && !reversed;
}

static bool
is_float_only(const Graph *g, const Op *op)
{
    for (int i = 0; i < op->nin; i++) {
        Val v = op_val(g, op, i);
        if (v.i && !is_float(val_dtype(g, v)))
            return false;
    }
    return true;
}

static bool
is_in_sbuf(const Graph *g, const Op *op)
{
    for (int i = 0; i < op->nin; i++) {
        Val v = op_val(g, op, i);
        if (v.i && val_type(g, v)->space != SP_sbuf)
            return false;
    }
    return true;
}

/* The engine other than vector that may run op just as well; EN_unknown: none. Generation 2 has no choice: its scalar
 * engine lacks these forms, and its gpsimd shares the vector engine's port to SBUF. */
static Engine
other_engine(const Balance *b, const Op *op)
{
    const Graph *g = b->g;
    int64_t alu = attr_int(g->cx, op->attr, A_op, 0);
    if (b->hw->gen < 3 || attr_find(g->cx, op->attr, A_engine) || !is_float_only(g, op))
        return EN_unknown;
    if (op->code == K_tensor_copy || (op->code == K_tensor_scalar && is_scale_and_add(g, op)))
        return EN_scalar;
    bool native = alu == ALU_add || alu == ALU_subtract || alu == ALU_multiply;
    return op->code == K_tensor_tensor && native && is_in_sbuf(g, op) ? EN_gpsimd : EN_unknown;
}

static double
weight(const Graph *g, const Op *op, int64_t times)
{
    return cost_instr(g, op).issue_us * (double)times;
}

typedef struct Walk { int64_t times[64]; int depth; } Walk; /* iterations of the open loops, multiplied up */

static void
walk(Walk *w, const Graph *g, const Op *op)
{
    int64_t now = w->times[MIN(w->depth, 63)];
    if (op->code == K_loop && w->depth < 62) {
        w->times[++w->depth] = now * attr_int(g->cx, op->attr, A_count, 1);
    } else if (op->code == K_end && w->depth > 0) {
        w->depth--;
    }
}

static void
weigh_fixed(Balance *b)
{
    Walk w = {.times = {1}};
    FOR_OPS(b->g, o) {
        const Op *op = graph_op(b->g, o);
        walk(&w, b->g, op);
        if (is_instr(b->g, op) && other_engine(b, op) == EN_unknown)
            b->load[instr_engine(b->g, op)] += weight(b->g, op, w.times[w.depth]);
    }
}

/* It adds to what it wrote the last time: links of one chain cannot overlap, so all go to the faster engine. */
static bool
is_chain(const Graph *g, const Op *op)
{
    return op->code == K_tensor_tensor && op_val(g, op, 0).i == op_val(g, op, 1).i &&
           op_in(g, op, 0)->ap.i == op_in(g, op, 1)->ap.i;
}

static Status
choose(Balance *b, const Op *op, Engine other, int64_t times, AttrId *attr)
{
    Ctx *cx = b->g->cx;
    AttrId moved;
    Op trial = *op;
    TRY(attr_with(cx, op->attr, AT_INT(A_engine, other), &moved));
    trial.attr = moved;
    double here = weight(b->g, op, times), there = weight(b->g, &trial, times);
    bool move = is_chain(b->g, op) ? there < here : b->load[other] + there < b->load[EN_vector] + here;
    b->load[move ? other : EN_vector] += move ? there : here;
    *attr = move ? moved : op->attr;
    return ST_OK;
}

static Status
rebuild(Balance *b, Graph *out)
{
    const Graph *g = b->g;
    Walk w = {.times = {1}};
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        AttrId attr = op->attr;
        TyId type = op->nout ? g->vals.p[op->out.i].type : (TyId){0};
        OpId made;
        walk(&w, g, op);
        Engine other = is_instr(g, op) ? other_engine(b, op) : EN_unknown;
        if (other != EN_unknown)
            TRY(choose(b, op, other, w.times[w.depth], &attr));
        TRY(graph_append(out, op->code, g->operands.p + op->in, op->nin, attr, op->loc, &type, op->nout, &made));
        if (op->nout)
            out->vals.p[out->ops.p[made.i].out.i].name = g->vals.p[op->out.i].name;
    }
    return ST_OK;
}

Status
copy_interface(const Graph *in, Graph *out)
{
    for (uint32_t i = 0; i < in->inputs.n; i++)
        VEC_PUSH(out->cx, &out->arena, &out->inputs, in->inputs.p[i]);
    for (uint32_t i = 0; i < in->outputs.n; i++)
        VEC_PUSH(out->cx, &out->arena, &out->outputs, in->outputs.p[i]);
    for (uint32_t i = 0; i < in->aliases.n; i++)
        VEC_PUSH(out->cx, &out->arena, &out->aliases, in->aliases.p[i]);
    return ST_OK;
}

Status
pass_schedule(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Balance b = {.g = in, .hw = hw_get(opt->target)};
    weigh_fixed(&b);
    TRY(graph_new(in->cx, in->dialect, str_get(in->cx, in->name), out));
    (*out)->target = in->target;
    TRY(rebuild(&b, *out));
    return copy_interface(in, *out);
}
