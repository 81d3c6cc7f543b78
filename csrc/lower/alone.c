/* alone.c - one group of a plan as a program of its own, to be verified and priced.
 *
 * in:   a plan, and the decisions of one of its groups
 * out:  the code that the whole program would have for the group, with what it reads as inputs and what it stores as
 *       outputs
 * rule: work and memory grow with the group, not with the program around it. Group after group shares one Lower, whose
 *       tables of values are cleaned after each.
 */
#include "lower/context.h"

Status
lower_begin(const Plan *p, const CompileOptions *opt, Arena *a, Lower **out)
{
    Lower *l;
    NEW(p->g->cx, a, l, 1);
    *l = (Lower){.cx = p->g->cx, .p = p, .g = p->g, .hw = hw_get(opt->target), .a = a, .epoch = 1};
    TRY(lower_alloc(l));
    l->a = &l->cx->scratch;
    *out = l;
    return ST_OK;
}

static Status
declare(Lower *l, Val v, BufKind kind)
{
    const Type *t = val_type(l->g, v);
    Val *buf = &l->hbm[v.i];
    if (buf->i)
        return ST_OK;
    if (kind == BK_tile)
        return hbm_buffer(l, v, buf);
    uint32_t index = kind == BK_input ? l->out->inputs.n : l->out->outputs.n;
    TRY(k_buffer(l->out, SP_hbm, kind, (DType)t->dtype, t->rank, t->dim, 1, (int)index, NULL, val_def(l->g, v)->loc,
                 buf));
    if (kind == BK_input)
        VEC_PUSH(l->cx, &l->out->arena, &l->out->inputs, *buf);
    else
        VEC_PUSH(l->cx, &l->out->arena, &l->out->outputs, *buf);
    VEC_PUSH(l->cx, l->a, &l->in_hbm, v);
    return ST_OK;
}

/* Other groups write the rest of it: to this one it is memory. */
static bool
is_in_parts(const Lower *l, const Op *op)
{
    bool parts = l->p->part_of[op->out.i].i != 0;
    for (int i = 0; op->code == T_concat && i < op->nin; i++)
        parts = parts || l->p->part_of[op_val(l->g, op, i).i].i == op->out.i;
    return parts;
}

/* What is written first, then what is read: a buffer that is both belongs to the group. */
static Status
declare_all(Lower *l)
{
    const Group *gr = l->gr;
    for (uint32_t k = 0; k < gr->n; k++) {
        const Op *op = graph_op(l->g, l->p->member.p[gr->first + k]);
        if (l->p->stored[op->out.i])
            TRY(declare(l, view_stored(l->p, op->out).base, is_in_parts(l, op) ? BK_tile : BK_output));
    }
    for (uint32_t k = 0; k < gr->n; k++) {
        const Op *op = graph_op(l->g, l->p->member.p[gr->first + k]);
        for (int i = 0; i < op->nin; i++) {
            Val v = op_val(l->g, op, i), base = l->p->view_base[v.i].i ? l->p->view_base[v.i] : v;
            int code = val_def(l->g, base)->code;
            if (!is_member(l, v) && l->p->home[base.i].chip && !is_source(l->g, base))
                TRY(home_declare(l, base)); /* others have written it */
            else if (!is_member(l, v) && code != T_full)
                TRY(declare(l, base, code == T_const ? BK_tile : BK_input));
        }
    }
    return ST_OK;
}

static void
forget(Lower *l)
{
    for (uint32_t i = 0; i < l->in_hbm.n; i++)
        l->hbm[l->in_hbm.p[i].i].i = 0;
    for (uint32_t i = 0; i < l->chips.n; i++)
        l->chip[l->chips.p[i].i].buf.i = 0;
    l->chips.p = NULL;
    l->chips.n = l->chips.cap = 0;
    l->in_hbm.p = NULL; /* it was in scratch memory, and so were leaves and windows */
    l->in_hbm.n = l->in_hbm.cap = 0;
    l->leaves.p = NULL;
    l->leaves.n = l->leaves.cap = 0;
    l->windows.p = NULL;
    l->windows.n = l->windows.cap = 0;
}

static Status
lower_into(Lower *l, const Group *gr, uint32_t k)
{
    l->gr = gr;
    l->group = k + 1;
    VEC_PUSH(l->cx, l->a, &l->leaves, (Leaf){0});
    TRY(declare_all(l));
    return lower_group(l);
}

Status
lower_alone(Lower *l, uint32_t k, const Group *gr, Graph **out)
{
    TRY(graph_new(l->cx, &tile_dialect, str_get(l->cx, l->g->name), out));
    l->out = *out;
    l->out->target = (uint8_t)l->p->target;
    Status st = lower_into(l, gr, k);
    forget_uses(l);
    forget(l);
    return graph_end(st, out);
}
