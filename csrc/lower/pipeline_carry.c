/* pipeline_carry.c - what a straight program finds when another runs before it.
 *
 * in:   the carry of the one before
 * out:  queues that are still busy, memory that is not free yet
 * rule: memory that it did not have is free when all of it is done
 */
#include "lower/pipeline.h"

/* The queues are still busy with what came before. */
void
machine_carry(Machine *m, const Carry *before)
{
    for (int l = 0; before && l < LN_load; l++)
        m->clock[l] = before->clock[l];
}

Status
aged_room(const Straight *s, int space, Arena *a, Hole **out, uint32_t *n)
{
    VEC(Hole) all = {0};
    const Carry *c = s->before;
    for (uint32_t i = 0, k = 0; i < s->room[space].gap.n; i++) {
        Stretch x = s->room[space].gap.p[i];
        while (x.lo < x.hi) {
            while (c && k < c->hole[space].n && c->hole[space].p[k].hi <= x.lo)
                k++;
            bool known = c && k < c->hole[space].n && c->hole[space].p[k].lo < x.hi;
            Hole h = {x.lo, x.hi, c ? c->us : 0};
            if (known && c->hole[space].p[k].lo <= x.lo)
                h = (Hole){x.lo, MIN(x.hi, c->hole[space].p[k].hi), c->hole[space].p[k].since};
            else if (known)
                h.hi = c->hole[space].p[k].lo;
            VEC_PUSH(s->g->cx, a, &all, h);
            x.lo = h.hi;
        }
    }
    *out = all.p;
    *n = all.n;
    return ST_OK;
}
