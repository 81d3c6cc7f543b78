/* same.c - whether a plan's text is of the program that is compiled.
 *
 * in:   the program in the text, and the one that the tensor passes have made
 * out:  ST_OK; or an error at the first line that differs
 * rule: both hang from one Ctx, so equal types and attributes have equal ids; names count as they are printed
 */
#include "plan/plan.h"

#include <math.h>

static bool
same_name(const Graph *a, const uint32_t *na, const Graph *b, const uint32_t *nb, Val v)
{
    return na[v.i] == nb[v.i] && (na[v.i] != 0 || a->vals.p[v.i].name.i == b->vals.p[v.i].name.i);
}

/* Whether two ops of one code have the same attributes; text has no signs and payloads of nan. */
static bool
same_attr(const Graph *g, const Op *x, const Op *y)
{
    return x->attr.i == y->attr.i || (x->code == T_full && isnan(attr_float(g->cx, x->attr, A_value, 0)) &&
                                      isnan(attr_float(g->cx, y->attr, A_value, 0)));
}

static bool
same_op(const Graph *a, const uint32_t *na, const Graph *b, const uint32_t *nb, OpId o)
{
    const Op *x = graph_op(a, o), *y = graph_op(b, o);
    if (x->code != y->code || x->nin != y->nin || x->out.i != y->out.i || !same_attr(a, x, y))
        return false;
    for (int i = 0; i < x->nin; i++)
        if (op_val(a, x, i).i != op_val(b, y, i).i)
            return false;
    return a->vals.p[x->out.i].type.i == b->vals.p[x->out.i].type.i && same_name(a, na, b, nb, x->out);
}

static bool
same_interface(const Graph *a, const Graph *b)
{
    bool same = a->outputs.n == b->outputs.n && a->aliases.n == b->aliases.n;
    for (uint32_t i = 0; same && i < a->outputs.n; i++)
        same = a->outputs.p[i].i == b->outputs.p[i].i;
    for (uint32_t i = 0; same && i < a->aliases.n; i++)
        same = a->aliases.p[i] == b->aliases.p[i];
    return same;
}

Status
plan_of_program(const PlanText *pt, const Graph *g)
{
    Ctx *cx = g->cx;
    const Graph *own = pt->g;
    uint32_t *na, *nb;
    OpId o = {1};
    TRY(val_numbers(own, &cx->scratch, &na));
    TRY(val_numbers(g, &cx->scratch, &nb));
    if (own->name.i != g->name.i)
        return fail_at(cx, pt->first_line, 1, "NKI-4505 plan: it is of @%s, what is compiled is @%s",
                       str_get(cx, own->name), str_get(cx, g->name));
    while (o.i < own->ops.n && o.i < g->ops.n && same_op(own, na, g, nb, o))
        o.i++;
    if (o.i == own->ops.n && o.i == g->ops.n && same_interface(own, g))
        return ST_OK;
    const Loc *loc = o.i < own->ops.n ? loc_get(cx, graph_op(own, o)->loc) : NULL;
    Text t;
    text_init(&t, cx, &cx->scratch);
    if (o.i < g->ops.n)
        TRY(print_op(g, o, &t));
    else
        text_puts(&t, o.i == own->ops.n ? "return of other values" : "return");
    TRY(t.st);
    return fail_at(cx, loc ? loc->line : pt->return_line, 3,
                   "NKI-4506 plan: this line is not of the program that is compiled, which has `%.200s` here", t.p);
}
