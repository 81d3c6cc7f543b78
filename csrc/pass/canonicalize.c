/* canonicalize.c - rebuild a tensor graph from what its outputs need.
 *
 * in:   any verified tensor graph
 * out:  the same function as the builder makes it: folded, shared, without ops that nobody uses
 * rule: inputs stay, all and in order; names and aliases stay.
 */
#include "pass/pass.h"

Status
graph_liveness(const Graph *g, bool **live)
{
    bool *l;
    NEW(g->cx, &g->cx->scratch, l, g->ops.n);
    for (uint32_t i = 0; i < g->inputs.n; i++)
        l[g->vals.p[g->inputs.p[i].i].def.i] = true;
    for (uint32_t i = 0; i < g->outputs.n; i++)
        l[g->vals.p[g->outputs.p[i].i].def.i] = true;
    for (uint32_t o = g->ops.n; o-- > 1;) {
        const Op *op = &g->ops.p[o];
        for (int i = 0; l[o] && i < op->nin; i++)
            l[g->vals.p[op_val(g, op, i).i].def.i] = true;
    }
    *live = l;
    return ST_OK;
}

Status
graph_finish(const Graph *in, Graph *g, const Val *map)
{
    for (uint32_t v = 1; v < in->vals.n; v++) {
        if (in->vals.p[v].name.i && map[v].i && !g->vals.p[map[v].i].name.i)
            g->vals.p[map[v].i].name = in->vals.p[v].name;
    }
    for (uint32_t i = 0; i < in->outputs.n; i++) {
        TRY(t_output(g, map[in->outputs.p[i].i]));
        g->aliases.p[i] = i < in->aliases.n ? in->aliases.p[i] : -1;
    }
    return ST_OK;
}

Status
graph_begin(const Graph *in, Graph **out)
{
    Ctx *cx = in->cx;
    TRY(graph_new(cx, &tensor_dialect, str_get(cx, in->name), out));
    Graph *g = *out;
    Status st = vec_reserve(cx, &g->arena, &g->ops, in->ops.n, sizeof(Op));
    if (st == ST_OK)
        st = vec_reserve(cx, &g->arena, &g->vals, in->vals.n, sizeof(ValDef));
    if (st == ST_OK)
        st = vec_reserve(cx, &g->arena, &g->operands, in->operands.n, sizeof(Operand));
    return graph_end(st, out);
}

Status
graph_end(Status st, Graph **out)
{
    if (st != ST_OK) {
        graph_free(*out);
        *out = NULL;
    }
    return st;
}

Status
graph_sweep(Graph *g, const CompileOptions *opt, Graph **out)
{
    bool *live;
    uint32_t dead = 0;
    Status st = graph_liveness(g, &live);
    for (uint32_t o = 1; st == ST_OK && o < g->ops.n; o++)
        dead += !live[o];
    *out = st == ST_OK ? g : NULL;
    if (st == ST_OK && dead == 0)
        return ST_OK;
    if (st == ST_OK)
        st = pass_canonicalize(g, opt, out);
    graph_free(g);
    return st;
}

static Status
rebuild(const Graph *in, Graph *g)
{
    bool *live;
    Val *map;
    TRY(graph_liveness(in, &live));
    NEW(g->cx, &g->cx->scratch, map, in->vals.n);
    FOR_OPS(in, o) {
        if (live[o.i])
            TRY(t_clone(g, in, o, map, &map[graph_op(in, o)->out.i]));
    }
    return graph_finish(in, g, map);
}

Status
pass_canonicalize(const Graph *in, const CompileOptions *opt, Graph **out)
{
    (void)opt;
    TRY(graph_begin(in, out));
    return graph_end(rebuild(in, *out), out);
}
