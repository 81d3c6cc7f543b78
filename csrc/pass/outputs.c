/* outputs.c - give what is written to a buffer of its own an op of its own.
 *
 * in:   a decomposed tensor graph
 * out:  the same function; every output is the result of a different op that is neither a parameter, a constant nor a
 *       slice, so that each can be written straight to its buffer, and a slice stays a view that any tiling can load.
 *       The parts of a concat too long for one row on chip are computed by ops that nothing else reads, so that each
 *       can be written straight to its place.
 */
#include "pass/pass.h"

#define LONG_BYTES 8192 /* the shortest row limit that groups are formed under */

static Status
copy_of(Graph *g, Val v, Val *out)
{
    TyId type = g->vals.p[v.i].type;
    Operand in = {.v = v};
    OpId o;
    TRY(graph_append(g, T_copy, &in, 1, (AttrId){0}, val_def(g, v)->loc, &type, 1, &o));
    *out = graph_op(g, o)->out;
    return ST_OK;
}

/* Whichever dims are its rows, a row of it is long. */
static bool
is_long_concat(const Graph *g, const Op *op)
{
    if (op->code != T_concat)
        return false;
    const Type *t = val_type(g, op->out);
    int64_t axis = attr_int(g->cx, op->attr, A_axis, 0), before = 1, after = 1;
    for (int i = 0; i < t->rank; i++) {
        before *= i < axis ? t->dim[i] : 1;
        after *= i > axis ? t->dim[i] : 1;
    }
    return t->dim[axis] * MIN(before, after) * dtypes[t->dtype].bytes > LONG_BYTES;
}

static void
count_uses(const Graph *g, uint32_t *uses)
{
    FOR_OPS(g, o)
        for (int i = 0; i < graph_op(g, o)->nin; i++)
            uses[op_val(g, graph_op(g, o), i).i]++;
    for (uint32_t i = 0; i < g->outputs.n; i++)
        uses[g->outputs.p[i].i]++;
}

/* A long concat from parts that are its own; any other op as it is. env: uses by value. */
static Status
own_parts(const Rewrite *rw, OpId o, Val *out)
{
    const Graph *in = rw->in;
    const Op *op = graph_op(in, o);
    const uint32_t *uses = rw->env;
    Val *part;
    if (!is_long_concat(in, op))
        return rewrite_clone(rw, o, out);
    NEW(in->cx, &in->cx->scratch, part, op->nin);
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(in, op, i);
        const Op *def = val_def(in, u);
        bool view = ((op_def(in, def)->flags & F_LAYOUT) && !is_reversal(in, u)) || def->code == T_cast;
        part[i] = rw->map[u.i];
        if (uses[u.i] > 1 || is_source(rw->g, part[i]) || view)
            TRY(copy_of(rw->g, part[i], &part[i]));
    }
    return t_concat(rw->g, part, op->nin, attr_int(in->cx, op->attr, A_axis, 0), op->loc, out);
}

static Status
own_outputs(Graph *g)
{
    bool *taken; /* by value: it is an output already */
    NEW(g->cx, &g->cx->scratch, taken, g->vals.n);
    for (uint32_t i = 0; i < g->outputs.n; i++) {
        Val v = g->outputs.p[i];
        bool view = val_def(g, v)->code == T_slice && !is_reversal(g, v);
        if (taken[v.i] || is_source(g, v) || view)
            TRY(copy_of(g, v, &g->outputs.p[i]));
        taken[v.i] = true;
    }
    return ST_OK;
}

Status
pass_outputs(const Graph *in, const CompileOptions *opt, Graph **out)
{
    uint32_t *uses;
    NEW(in->cx, &in->cx->scratch, uses, in->vals.n);
    count_uses(in, uses);
    TRY(graph_rewrite(in, opt, own_parts, uses, out));
    return graph_end(own_outputs(*out), out);
}
