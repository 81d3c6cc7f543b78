/* outputs.c - give every output an op of its own.
 *
 * in:   a decomposed tensor graph
 * out:  the same function; every output is the result of a different op that is neither a parameter nor a constant,
 *       so that each can be written straight to its buffer
 */
#include "pass/pass.h"

static Status
copy_output(Graph *g, Val v, Val *out)
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

Status
pass_outputs(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Val *map;
    uint8_t *taken;
    Graph *g;
    (void)opt;
    NEW(in->cx, &in->cx->scratch, map, in->vals.n);
    NEW(in->cx, &in->cx->scratch, taken, in->vals.n);
    TRY(graph_new(in->cx, in->dialect, str_get(in->cx, in->name), out));
    g = *out;
    FOR_OPS(in, o) {
        const Op *op = graph_op(in, o);
        if (op->nout)
            TRY(t_clone(g, in, o, map, &map[op->out.i]));
    }
    for (uint32_t v = 1; v < in->vals.n; v++)
        if (in->vals.p[v].name.i && map[v].i)
            g->vals.p[map[v].i].name = in->vals.p[v].name;
    for (uint32_t i = 0; i < in->outputs.n; i++) {
        Val old = in->outputs.p[i], v = map[old.i];
        if (taken[old.i] || is_source(g, v))
            TRY(copy_output(g, v, &v));
        taken[old.i] = 1;
        TRY(t_output(g, v));
    }
    for (uint32_t i = 0; i < in->aliases.n; i++)
        g->aliases.p[i] = in->aliases.p[i];
    return ST_OK;
}
