/* canonicalize.c - rebuild a tensor graph from what its outputs need.
 *
 * in:   any verified tensor graph
 * out:  the same function as the builder makes it: folded, shared, without updates and ops that nobody uses
 */
#include "pass/pass.h"

Status
graph_sweep(Graph *g, const CompileOptions *opt, Graph **out)
{
    bool *live;
    uint32_t dead = 0;
    Status st = graph_live(g, &live);
    for (uint32_t o = 1; st == ST_OK && o < g->ops.n; o++)
        dead += !live[o];
    *out = st == ST_OK && dead == 0 ? g : NULL;
    if (*out)
        return ST_OK;
    if (st == ST_OK)
        st = pass_canonicalize(g, opt, out);
    graph_free(g);
    return st;
}

Status
pass_canonicalize(const Graph *in, const CompileOptions *opt, Graph **out)
{
    bool *live, updates = false;
    TRY(graph_live(in, &live));
    FOR_OPS(in, o)
        updates |= live[o.i] && graph_op(in, o)->code == T_update;
    if (!updates)
        return graph_rewrite(in, opt, rewrite_clone, NULL, out);
    TRY(resolve_updates(in, live, opt, out));
    return graph_sweep(*out, opt, out);
}
