/* realize.c - a plan carried out.
 *
 * in:   a plan with its decisions
 * out:  the program lowered, scheduled and allocated
 * rule: the plan is not changed; ST_LIMIT when it does not fit
 */
#include "lower/lower.h"
#include "pass/pass.h"

void
realized_free(Realized *r)
{
    for (int i = 0; i < COUNT_OF(r->stage); i++)
        if (r->stage[i])
            graph_free(r->stage[i]);
    *r = (Realized){{0}};
}

Status
plan_realize(const Plan *p, const CompileOptions *opt, Realized *out)
{
    *out = (Realized){{0}};
    Status st = pass_lower(p, opt, NULL, &out->stage[0]);
    if (st == ST_OK)
        st = pass_schedule(out->stage[0], opt, &out->stage[1]);
    if (st == ST_OK)
        st = pass_allocate(out->stage[1], opt, &out->stage[2]);
    if (st != ST_OK)
        realized_free(out);
    return st;
}
