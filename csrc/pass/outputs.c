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

static bool
is_source(const Graph *g, Val v)
{
    int code = val_def(g, v)->code;
    return code == T_input || code == T_const || code == T_full;
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

static Status
count_uses(const Graph *g, uint32_t *uses)
{
    FOR_OPS(g, o)
        for (int i = 0; i < graph_op(g, o)->nin; i++)
            uses[op_val(g, graph_op(g, o), i).i]++;
    for (uint32_t i = 0; i < g->outputs.n; i++)
        uses[g->outputs.p[i].i]++;
    return ST_OK;
}

/* The concat of `in` anew, from parts that are its own. */
static Status
own_parts(const Graph *in, Graph *g, const Op *op, const uint32_t *uses, const Val *map, Val *out)
{
    Val *part;
    NEW(in->cx, &in->cx->scratch, part, op->nin);
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(in, op, i);
        const Op *def = val_def(in, u);
        part[i] = map[u.i];
        if (uses[u.i] > 1 || is_source(g, part[i]) || (op_def(in, def)->flags & F_LAYOUT) || def->code == T_cast)
            TRY(copy_of(g, part[i], &part[i]));
    }
    return t_concat(g, part, op->nin, attr_int(in->cx, op->attr, A_axis, 0), op->loc, out);
}

Status
pass_outputs(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Val *map;
    uint8_t *taken;
    uint32_t *uses;
    Graph *g;
    (void)opt;
    NEW(in->cx, &in->cx->scratch, map, in->vals.n);
    NEW(in->cx, &in->cx->scratch, taken, in->vals.n);
    NEW(in->cx, &in->cx->scratch, uses, in->vals.n);
    TRY(count_uses(in, uses));
    TRY(graph_new(in->cx, in->dialect, str_get(in->cx, in->name), out));
    g = *out;
    FOR_OPS(in, o) {
        const Op *op = graph_op(in, o);
        if (op->nout && is_long_concat(in, op))
            TRY(own_parts(in, g, op, uses, map, &map[op->out.i]));
        else if (op->nout)
            TRY(t_clone(g, in, o, map, &map[op->out.i]));
    }
    for (uint32_t v = 1; v < in->vals.n; v++)
        if (in->vals.p[v].name.i && map[v].i)
            g->vals.p[map[v].i].name = in->vals.p[v].name;
    for (uint32_t i = 0; i < in->outputs.n; i++) {
        Val old = in->outputs.p[i], v = map[old.i];
        if (taken[old.i] || is_source(g, v) || val_def(g, v)->code == T_slice)
            TRY(copy_of(g, v, &v));
        taken[old.i] = 1;
        TRY(t_output(g, v));
    }
    for (uint32_t i = 0; i < in->aliases.n; i++)
        g->aliases.p[i] = in->aliases.p[i];
    return ST_OK;
}
