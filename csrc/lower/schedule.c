/* schedule.c - which engine runs what may run on several.
 *
 * in:   a lowered tile program
 * out:  the same instructions in the same order, with engines chosen
 * rule: fixed work is weighed first, then each flexible instruction goes, in program order, to the one of its two
 *       engines that will be done with all its work earlier. Weights are modelled microseconds times loop iterations.
 */
#include "lower/pipeline.h"

#define MAX_DEPTH 62 /* loops nested deeper are not told apart */

typedef struct Walk { /* iterations of the open loops, multiplied up */
    int64_t times[MAX_DEPTH + 1];
    int depth;
} Walk;

typedef struct Balance {
    const Graph *g;
    double load[EN_COUNT];
    Walk walk; /* where the choices have come to */
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

/* Generation 2 has no choice: its scalar engine lacks these forms, and its gpsimd shares the vector engine's port to
 * SBUF. */
int
engine_choices(const Graph *g, const Op *op, Engine out[MAX_ENGINES])
{
    int64_t alu = attr_int(g->cx, op->attr, A_op, 0);
    int n = 0;
    out[n++] = (Engine)instr_engine(g, op);
    if (hw_get(g->target)->gen < 3 || attr_find(g->cx, op->attr, A_engine) || !is_float_only(g, op))
        return n;
    bool native = alu == ALU_add || alu == ALU_subtract || alu == ALU_multiply;
    if (op->code == K_tensor_copy || (op->code == K_tensor_scalar && is_scale_and_add(g, op)))
        out[n++] = EN_scalar;
    else if (op->code == K_tensor_tensor && native && is_in_sbuf(g, op))
        out[n++] = EN_gpsimd;
    return n;
}

/* The engine other than vector that may run op just as well; EN_unknown: none. */
static Engine
other_engine(const Graph *g, const Op *op)
{
    Engine of[MAX_ENGINES];
    return is_instr(g, op) && engine_choices(g, op, of) > 1 ? of[1] : EN_unknown;
}

static double
weight(const Graph *g, const Op *op, int64_t times)
{
    return cost_instr(g, op).issue_us * (double)times;
}

static void
step(Walk *w, const Graph *g, const Op *op)
{
    int64_t now = w->times[w->depth];
    if (op->code == K_loop && w->depth < MAX_DEPTH)
        w->times[++w->depth] = now * attr_int(g->cx, op->attr, A_count, 1);
    else if (op->code == K_end && w->depth > 0)
        w->depth--;
}

static void
weigh_fixed(Balance *b)
{
    Walk w = {.times = {1}};
    FOR_OPS(b->g, o) {
        const Op *op = graph_op(b->g, o);
        step(&w, b->g, op);
        if (is_instr(b->g, op) && other_engine(b->g, op) == EN_unknown)
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
choose(void *env, const Op *op, AttrId *attr)
{
    Balance *b = env;
    AttrId moved;
    Op trial = *op;
    step(&b->walk, b->g, op);
    Engine other = other_engine(b->g, op);
    if (other == EN_unknown)
        return ST_OK;
    TRY(attr_with(b->g->cx, op->attr, AT_INT(A_engine, other), &moved));
    trial.attr = moved;
    int64_t times = b->walk.times[b->walk.depth];
    double here = weight(b->g, op, times), there = weight(b->g, &trial, times);
    bool move = is_chain(b->g, op) ? there < here : b->load[other] + there < b->load[EN_vector] + here;
    b->load[move ? other : EN_vector] += move ? there : here;
    *attr = move ? moved : op->attr;
    return ST_OK;
}

Status
pass_schedule(const Graph *in, const CompileOptions *opt, Graph **out)
{
    (void)opt;
    Balance b = {.g = in, .walk = {.times = {1}}};
    weigh_fixed(&b);
    return program_retag(in, choose, &b, out);
}
