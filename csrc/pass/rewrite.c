/* rewrite.c - the walk that all tensor passes share: a graph rebuilt op by op from what its outputs need.
 *
 * in:   any verified tensor graph, and what becomes of an op
 * out:  the graph that the builder makes of it
 * rule: inputs stay, all and in order; names and aliases stay; an op that no output needs is not looked at.
 */
#include "pass/pass.h"

Status
graph_live(const Graph *g, bool **live)
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

/* Carries names, outputs and aliases over. */
static Status
finish(const Rewrite *rw)
{
    const Graph *in = rw->in;
    Graph *g = rw->g;
    for (uint32_t v = 1; v < in->vals.n; v++) {
        Val new = rw->map[v];
        if (in->vals.p[v].name.i && new.i && !g->vals.p[new.i].name.i)
            g->vals.p[new.i].name = in->vals.p[v].name;
    }
    for (uint32_t i = 0; i < in->outputs.n; i++) {
        TRY(t_output(g, rw->map[in->outputs.p[i].i]));
        g->aliases.p[i] = i < in->aliases.n ? in->aliases.p[i] : -1;
    }
    return ST_OK;
}

static Status
reserve(Rewrite *rw)
{
    const Graph *in = rw->in;
    Graph *g = rw->g;
    TRY(vec_reserve(g->cx, &g->arena, &g->ops, in->ops.n, sizeof(Op)));
    TRY(vec_reserve(g->cx, &g->arena, &g->vals, in->vals.n, sizeof(ValDef)));
    TRY(vec_reserve(g->cx, &g->arena, &g->operands, in->operands.n, sizeof(Operand)));
    NEW(g->cx, &g->cx->scratch, rw->map, in->vals.n);
    return ST_OK;
}

static Status
walk(Rewrite *rw, RewriteOp *rewrite)
{
    const Graph *in = rw->in;
    bool *live;
    TRY(reserve(rw));
    TRY(graph_live(in, &live));
    FOR_OPS(in, o) {
        if (live[o.i])
            TRY(rewrite(rw, o, &rw->map[graph_op(in, o)->out.i]));
    }
    return finish(rw);
}

Status
graph_rewrite(const Graph *in, const CompileOptions *opt, RewriteOp *rewrite, void *env, Graph **out)
{
    TRY(graph_new(in->cx, &tensor_dialect, str_get(in->cx, in->name), out));
    Rewrite rw = {.in = in, .g = *out, .opt = opt, .env = env};
    return graph_end(walk(&rw, rewrite), out);
}

static Status
walk_order(Rewrite *rw, const OpId *order, uint32_t n)
{
    TRY(reserve(rw));
    for (uint32_t i = 0; i < n; i++)
        TRY(rewrite_clone(rw, order[i], &rw->map[graph_op(rw->in, order[i])->out.i]));
    return finish(rw);
}

Status
graph_reorder(const Graph *in, const CompileOptions *opt, const OpId *order, uint32_t n, Graph **out)
{
    TRY(graph_new(in->cx, &tensor_dialect, str_get(in->cx, in->name), out));
    Rewrite rw = {.in = in, .g = *out, .opt = opt};
    return graph_end(walk_order(&rw, order, n), out);
}

Status
rewrite_clone(const Rewrite *rw, OpId o, Val *out)
{
    return t_clone(rw->g, rw->in, o, rw->map, out);
}

Status
rewrite_shaped(const Rewrite *rw, const Op *op, Val v, Val *out)
{
    const Type *t = val_type(rw->in, op->out);
    *out = v;
    if (rw->g->vals.p[v.i].type.i == rw->in->vals.p[op->out.i].type.i)
        return ST_OK;
    return t_broadcast_to(rw->g, v, t->dim, t->rank, op->loc, out);
}
