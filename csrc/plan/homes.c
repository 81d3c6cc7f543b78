/* homes.c - values that live in SBUF between groups: from when to when, and what follows for the groups.
 *
 * in:   a plan, and which of its values have a home in SBUF
 * out:  the groups that such a home lives through; how rows lie in them, and the room that they have left
 * rule: a value lives from the first group that computes a part of it, or loads it, to the last one that reads it
 */
#include "plan/plan.h"

static void
live(Stay *l, uint32_t group)
{
    if (l->last == 0)
        *l = (Stay){group, group + 1};
    l->first = MIN(l->first, group);
    l->last = MAX(l->last, group + 1);
}

Status
home_lives(const Plan *p, Arena *a, Stay **out)
{
    const Graph *g = p->g;
    NEW(g->cx, a, *out, g->vals.n);
    for (uint32_t k = 0; k < p->groups.n; k++)
        for (uint32_t m = 0; m < p->groups.p[k].n; m++) {
            const Op *op = graph_op(g, p->member.p[p->groups.p[k].first + m]);
            if (p->stored[op->out.i])
                live(&(*out)[view_stored(p, op->out).base.i], k);
            for (int i = 0; i < op->nin; i++)
                live(&(*out)[view_root(p, op_val(g, op, i)).i], k);
        }
    return ST_OK;
}

int64_t
home_bytes(const Graph *g, Val v, Range rows)
{
    const Type *t = val_type(g, v);
    int64_t n = MAX(range_size(t, rows), 1), slot = type_numel(t) / n, slots = CEIL_DIV(n, HOME_LANES);
    return slots > 1 && slot > HOME_SLOT ? -1 : ALIGN_UP(slots * slot * dtypes[t->dtype].bytes, HOME_ALIGN);
}

/* A group that touches a home has its rows as they lie there. */
static bool
touches_home(const Plan *p, const Group *gr)
{
    bool any = false;
    for (uint32_t m = 0; m < gr->n && !gr->moves; m++) {
        const Op *op = graph_op(p->g, p->member.p[gr->first + m]);
        any |= p->stored[op->out.i] && p->home[view_stored(p, op->out).base.i].chip;
        for (int i = 0; i < op->nin; i++)
            any |= p->home[view_root(p, op_val(p->g, op, i)).i].chip;
    }
    return any;
}

/* Which homes only products read. */
static void
find_multiplied(Plan *p)
{
    for (uint32_t v = 0; v < p->g->vals.n; v++)
        p->home[v].multiplied = p->home[v].chip;
    for (uint32_t m = 0; m < p->member.n; m++) {
        const Op *op = graph_op(p->g, p->member.p[m]);
        for (int i = 0; i < op->nin && op->code != T_matmul; i++)
            p->home[view_root(p, op_val(p->g, op, i)).i].multiplied = false;
    }
}

Status
homes_settle(Plan *p)
{
    const Graph *g = p->g;
    Stay *life;
    TRY(home_lives(p, &g->cx->scratch, &life));
    find_multiplied(p);
    for (uint32_t k = 0; k < p->groups.n; k++) {
        p->groups.p[k].homes = 0;
        p->groups.p[k].blocked = touches_home(p, &p->groups.p[k]);
    }
    for (uint32_t v = 1; v < g->vals.n; v++)
        for (uint32_t k = life[v].first; p->home[v].chip && k < life[v].last; k++)
            p->groups.p[k].homes += home_bytes(g, (Val){v}, p->home[v].rows);
    return ST_OK;
}
