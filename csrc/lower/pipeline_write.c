/* pipeline_write.c - straight programs with an order, addresses and engines, as text, and the loops around them.
 *
 * in:   nodes, their order and engines, the addresses of values
 * out:  the tile program: HBM buffers first, every other buffer declared just before its first touch
 * rule: a buffer that takes over an address waits there, so it is declared no earlier than needed
 */
#include "lower/pipeline.h"

typedef struct Write {
    Emit *e;
    const Straight *s;
    const Order *o;
    Val *map; /* by value */
} Write;

static Status
copy_buffer(Emit *e, const Op *op, TyId type, AttrId attr, Val *out)
{
    const Graph *g = e->src->g;
    OpId made;
    TRY(graph_append(e->out, K_buffer, NULL, 0, attr, op->loc, &type, 1, &made));
    *out = graph_op(e->out, made)->out;
    e->out->vals.p[out->i].name = g->vals.p[op->out.i].name;
    return ST_OK;
}

static Status
declare_hbm(Emit *e)
{
    const Graph *g = e->src->g;
    NEW(g->cx, e->a, e->map, g->vals.n);
    NEW(g->cx, e->a, e->kept, g->vals.n);
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        if (op->code == K_buffer && val_type(g, op->out)->space == SP_hbm)
            TRY(copy_buffer(e, op, g->vals.p[op->out.i].type, op->attr, &e->map[op->out.i]));
    }
    return ST_OK;
}

Status
emit_begin(const Source *src, Arena *a, Emit *e)
{
    const Graph *g = src->g;
    *e = (Emit){.src = src, .a = a};
    TRY(graph_new(g->cx, g->dialect, str_get(g->cx, g->name), &e->out));
    e->out->target = g->target;
    return declare_hbm(e);
}

Status
emit_end(Status st, Emit *e, Graph **out)
{
    if (st == ST_OK)
        st = graph_copy_interface(e->src->g, e->map, e->out);
    *out = e->out;
    return graph_end(st, out);
}

Status
emit_buffer(Emit *e, Val v, int64_t addr)
{
    const Op *op = val_def(e->src->g, v);
    AttrId attr;
    TRY(attr_with(e->src->g->cx, op->attr, AT_INT(A_addr, addr), &attr));
    return copy_buffer(e, op, e->src->g->vals.p[v.i].type, attr, &e->map[v.i]);
}

Status
emit_place(Emit *e, const Value *v, int64_t addr, Val *out)
{
    const Graph *g = e->src->g;
    const Type *ty = val_type(g, v->val);
    const int64_t dim[] = {ty->dim[0], v->elems};
    TyId part = g->vals.p[v->val.i].type;
    AttrId attr;
    if (v->elems)
        TRY(type_make(g->cx, TY_buffer, (Space)ty->space, (DType)ty->dtype, 2, dim, &part));
    TRY(attr_make(g->cx, &AT_INT(A_addr, addr), 1, &attr));
    return copy_buffer(e, val_def(g, v->val), part, attr, out);
}

Status
emit_loop(Emit *e, uint32_t loop, int64_t count, int64_t scale)
{
    const Op *op = &e->src->g->ops.p[loop];
    Val var;
    TRY(k_loop(e->out, count, op->loc, &var));
    e->kept[op->out.i] = (Kept){var, scale};
    return ST_OK;
}

Status
emit_loop_end(Emit *e, uint32_t loop)
{
    e->kept[e->src->g->ops.p[loop].out.i] = (Kept){{0}, 0};
    return k_end(e->out, e->src->g->ops.p[loop].loc);
}

/* The part of an affine form that moves with the loops of the new program. */
static Affine
kept_terms(const Emit *e, const Affine *a, int64_t at)
{
    Affine out = affine_const(at);
    for (uint32_t i = 0; i < a->nterms; i++) {
        Kept k = e->kept[a->term[i].var.i];
        if (k.var.i)
            out = affine_add(out, affine_var(k.var, a->term[i].coef * k.scale));
    }
    return out;
}

static Status
declare_values(Write *w, const Node *n)
{
    const Straight *s = w->s;
    for (uint32_t i = 0; i < n->nvalue; i++) {
        uint32_t v = s->used.p[n->value + i];
        if (!w->map[v].i)
            TRY(emit_place(w->e, &s->value.p[v], w->o->addr[v], &w->map[v]));
    }
    return ST_OK;
}

static Status
write_operand(Write *w, const Touch *t, Operand *out)
{
    const Emit *e = w->e;
    Ap ap = {.part = affine_const(t->part), .off = affine_const(t->off), .nparts = t->ap->nparts, .ndim = t->ap->ndim};
    for (uint32_t d = 0; d < ap.ndim; d++)
        ap.dim[d] = t->ap->dim[d];
    if (t->moves) {
        ap.part = kept_terms(e, &t->ap->part, t->part);
        ap.off = kept_terms(e, &t->ap->off, t->off);
    }
    out->v = w->map[t->buf].i ? w->map[t->buf] : e->map[w->s->value.p[t->buf].val.i];
    return ap_make(w->s->g->cx, &ap, &out->ap);
}

/* The op's attributes on the engine of the schedule. `adds`: it did not say so itself. */
static Status
write_attr(const Write *w, const Op *op, int engine, bool adds, AttrId *out)
{
    Ctx *cx = w->s->g->cx;
    *out = op->attr;
    if (adds)
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
    Val first = op_first(s->g, op);
    AttrId attr;
    OpId made;
    TRY(declare_values(w, n));
    for (uint32_t t = n->touch; t < n->touch + n->ntouch; t++)
        TRY(write_operand(w, &s->touch.p[t], &operand[s->touch.p[t].operand]));
    if (first.i && !n->adds)
        operand[KM_first].v = w->e->kept[first.i].var;
    TRY(write_attr(w, op, n->work[w->o->engine[i]].engine, first.i && n->adds, &attr));
    return graph_append(w->e->out, op->code, operand, op->nin, attr, op->loc, NULL, 0, &made);
}

Status
straight_write(Emit *e, const Straight *s, const Order *o, const Val *cross)
{
    Write w = {.e = e, .s = s, .o = o};
    NEW(s->g->cx, s->a, w.map, s->value.n + 1);
    for (uint32_t v = 0; cross && v < s->value.n; v++)
        w.map[v] = cross[v];
    for (uint32_t k = 0; k < s->node.n; k++)
        TRY(write_node(&w, o->node[k]));
    return ST_OK;
}

Status
emit_op(Emit *e, uint32_t o)
{
    const Graph *g = e->src->g;
    const Op *op = &g->ops.p[o];
    Operand operand[MAX_OPERANDS] = {{{0}, {0}}};
    Val first = op_first(g, op);
    OpId made;
    for (int i = 0; i < op->nin; i++) {
        const Operand *in = op_in(g, op, i);
        if (!in->v.i || !in->ap.i)
            continue;
        Ap ap = *ap_get(g->cx, in->ap);
        ap.off = kept_terms(e, &ap.off, ap.off.c);
        ap.part = kept_terms(e, &ap.part, ap.part.c);
        operand[i].v = e->map[in->v.i];
        TRY(ap_make(g->cx, &ap, &operand[i].ap));
    }
    if (first.i)
        operand[KM_first].v = e->kept[first.i].var;
    return graph_append(e->out, op->code, operand, op->nin, op->attr, op->loc, NULL, 0, &made);
}
