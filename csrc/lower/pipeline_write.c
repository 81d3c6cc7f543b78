/* pipeline_write.c - a straight program with an order, addresses and engines, as text.
 *
 * in:   nodes, their order and engines, the addresses of values
 * out:  the tile program: HBM buffers first, every other buffer declared just before its first touch
 * rule: a buffer that takes over an address waits there, so it is declared no earlier than needed
 */
#include "lower/pipeline.h"

typedef struct Write {
    const Straight *s;
    const Order *o;
    Graph *out;
    Val *map; /* by value */
    Val *hbm; /* by val of the input */
} Write;

static Status
copy_buffer(Write *w, const Op *op, AttrId attr, Val *out)
{
    const Graph *g = w->s->g;
    TyId type = g->vals.p[op->out.i].type;
    OpId made;
    TRY(graph_append(w->out, K_buffer, NULL, 0, attr, op->loc, &type, 1, &made));
    *out = graph_op(w->out, made)->out;
    w->out->vals.p[out->i].name = g->vals.p[op->out.i].name;
    return ST_OK;
}

static Status
declare_hbm(Write *w)
{
    const Graph *g = w->s->g;
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        if (op->code == K_buffer && val_type(g, op->out)->space == SP_hbm)
            TRY(copy_buffer(w, op, op->attr, &w->hbm[op->out.i]));
    }
    return ST_OK;
}

static Status
declare_values(Write *w, const Node *n)
{
    const Straight *s = w->s;
    for (uint32_t i = 0; i < n->nvalue; i++) {
        uint32_t v = s->used.p[n->value + i];
        AttrId attr;
        if (w->map[v].i)
            continue;
        TRY(attr_make(s->g->cx, &AT_INT(A_addr, w->o->addr[v]), 1, &attr));
        TRY(copy_buffer(w, val_def(s->g, s->value.p[v].val), attr, &w->map[v]));
    }
    return ST_OK;
}

static Status
write_operand(Write *w, const Touch *t, Operand *out)
{
    const Straight *s = w->s;
    const Value *v = &s->value.p[t->buf];
    Ap ap = {.part = affine_const(t->part), .off = affine_const(t->off), .nparts = t->ap->nparts, .ndim = t->ap->ndim};
    for (uint32_t d = 0; d < ap.ndim; d++)
        ap.dim[d] = t->ap->dim[d];
    out->v = v->chip ? w->map[t->buf] : w->hbm[v->val.i];
    return ap_make(s->g->cx, &ap, &out->ap);
}

/* The op's attributes on the engine of the schedule. */
static Status
write_attr(const Write *w, const Node *n, const Op *op, int engine, AttrId *out)
{
    Ctx *cx = w->s->g->cx;
    *out = op->attr;
    if (op_first(w->s->g, op).i && n->adds)
        return attr_with(cx, op->attr, AT_INT(A_accumulate, 1), out);
    if (engine == instr_engine(w->s->g, op))
        return ST_OK;
    if (engine == op_def(w->s->g, op)->engine)
        return attr_without(cx, op->attr, A_engine, out);
    return attr_with(cx, op->attr, AT_INT(A_engine, engine), out);
}

static Status
write_node(Write *w, uint32_t i)
{
    const Straight *s = w->s;
    const Node *n = &s->node.p[i];
    const Op *op = &s->g->ops.p[n->op];
    Operand operand[MAX_OPERANDS] = {{{0}, {0}}};
    AttrId attr;
    OpId made;
    TRY(declare_values(w, n));
    for (uint32_t t = n->touch; t < n->touch + n->ntouch; t++)
        TRY(write_operand(w, &s->touch.p[t], &operand[s->touch.p[t].operand]));
    TRY(write_attr(w, n, op, n->work[w->o->engine[i]].engine, &attr));
    return graph_append(w->out, op->code, operand, op->nin, attr, op->loc, NULL, 0, &made);
}

static Status
write_program(Write *w)
{
    const Graph *g = w->s->g;
    NEW(g->cx, w->s->scratch, w->map, w->s->value.n);
    NEW(g->cx, w->s->scratch, w->hbm, g->vals.n);
    TRY(declare_hbm(w));
    for (uint32_t k = 0; k < w->s->node.n; k++)
        TRY(write_node(w, w->o->node[k]));
    return graph_copy_interface(g, w->hbm, w->out);
}

Status
straight_write(const Straight *s, const Order *o, Graph **out)
{
    TRY(graph_new(s->g->cx, s->g->dialect, str_get(s->g->cx, s->g->name), out));
    (*out)->target = s->g->target;
    Write w = {.s = s, .o = o, .out = *out};
    arena_reset(s->scratch);
    return graph_end(write_program(&w), out);
}
