/* keep.c - a plan once more, with what its groups hand over kept in SBUF.
 *
 * in:   a plan with its decisions, and the program that carries them out
 * out:  the same with homes in SBUF, or as it was
 * rule: homes stay when the program is modelled about as fast. A group that has no room beside them is cut down until
 *       copies are all that is left, then the homes that save least are given back.
 */
#include "lower/lower.h"
#include "pass/pass.h"

#include <string.h>

#define KEEP_WORK 53248   /* SBUF left for the tiles of groups, twice: loaded and stored while others are computed */
#define KEEP_MEMBERS 8000 /* of larger programs nothing is kept: every trial lowers all of them */
#define BYTES_WORTH 0.4   /* modelled time, as a share, that all bytes of HBM are worth, */
#define MOST_WORTH 0.15   /* and that any are */
#define DMA_SHARE 0.1

typedef struct Price {
    double us, bytes;
} Price;

static Status
price_of(const Realized *r, Ctx *cx, Price *out)
{
    Cost *c;
    NEW(cx, &cx->scratch, c, 1);
    TRY(cost_program(r->stage[2], c));
    out->us = c->time_us + INSTR_US * (double)c->instr_total + DMA_SHARE * c->engine_us[EN_dma];
    out->bytes = (double)(c->hbm_read + c->hbm_write);
    return ST_OK;
}

static bool
is_worth(const Price *kept, const Price *apart)
{
    double saved = apart->bytes > 0 ? 1 - kept->bytes / apart->bytes : 0;
    return kept->us <= apart->us * (1 + MIN(BYTES_WORTH * saved, MOST_WORTH));
}

/* One step smaller; false when there is none. */
static bool
cut_down(Group *gr)
{
    if (!gr->in_place)
        gr->in_place = true;
    else if (gr->per_tile > 1)
        gr->per_tile /= 2;
    else if (gr->psum_bufs > 1)
        gr->psum_bufs = 1;
    else if (gr->bufs > 1)
        gr->bufs = 1;
    else if (gr->resident > 0)
        gr->resident = gr->resident > 65536 ? gr->resident / 2 : 0;
    else if (gr->psum_width > 512)
        gr->psum_width = 512;
    else
        return false;
    return true;
}

/* Which groups have no room, by group: beside the homes that live through them, each has all of it to itself. */
static Status
find_over(const Plan *p, const CompileOptions *opt, bool *over)
{
    Ctx *cx = p->g->cx;
    Graph *code = NULL;
    OpId *first;
    bool *missed;
    NEW(cx, &cx->scratch, first, p->groups.n);
    Status st = pass_lower(p, opt, first, &code);
    bool lowered = st == ST_OK;
    if (lowered)
        st = allocate_misses(code, opt, &cx->scratch, &missed);
    for (uint32_t k = 0; k < p->groups.n; k++) {
        uint32_t end = k + 1 < p->groups.n ? first[k + 1].i : code ? code->ops.n : 0;
        over[k] = !lowered && first[k].i && (k + 1 == p->groups.n || !first[k + 1].i); /* the one that failed */
        for (uint32_t o = first[k].i; st == ST_OK && o < end; o++)
            over[k] |= missed[o];
    }
    if (code)
        graph_free(code);
    return !lowered && st == ST_LIMIT ? ST_OK : st;
}

/* *smaller: group k takes less than before. */
static Status
make_room(Plan *p, uint32_t k, bool *smaller)
{
    Group *gr = &p->groups.p[k];
    *smaller = false;
    if (gr->homes > gr->resident && gr->bufs == 1)
        TRY(drop_home(p, k, smaller));
    *smaller = *smaller || cut_down(gr);
    cut_columns(p, gr);
    return ST_OK;
}

static Status
fit(Plan *p, const CompileOptions *opt, Realized *out)
{
    bool *over;
    NEW(p->g->cx, &p->g->cx->scratch, over, p->groups.n);
    for (;;) {
        Status st = plan_realize(p, opt, out);
        bool any = false, smaller;
        if (st != ST_LIMIT)
            return st;
        TRY(find_over(p, opt, over));
        for (uint32_t k = 0; k < p->groups.n; k++) {
            if (!over[k])
                continue;
            TRY(make_room(p, k, &smaller));
            if (!smaller)
                return ST_LIMIT;
            any = true;
        }
        if (!any)
            return ST_LIMIT;
    }
}

/* What was decided for a group that had all of SBUF, and rows as it liked. */
static void
decide_beside(Plan *p, const Hw *hw, Group *gr)
{
    if (gr->has_matmul)
        gr->resident = MAX(MIN(gr->resident, (int64_t)hw->sbuf_usable - KEEP_WORK - gr->homes), 0);
    else if (gr->blocked)
        gr->per_tile = 1; /* rows of a home lie 128 apart: more of them are as many runs */
    cut_columns(p, gr);
}

Status
plan_keep(Plan *p, const CompileOptions *opt, Realized *best)
{
    const Hw *hw = hw_get(opt->target);
    Ctx *cx = p->g->cx;
    Realized homes;
    Group *groups;
    Price apart, kept = {0};
    bool any;
    if (p->groups.n < 2 || p->member.n > KEEP_MEMBERS)
        return ST_OK;
    NEW(cx, &cx->scratch, groups, p->groups.n);
    memcpy(groups, p->groups.p, p->groups.n * sizeof(Group));
    TRY(choose_homes(p, opt, (int64_t)hw->sbuf_usable - 2 * KEEP_WORK, &any));
    if (!any)
        return ST_OK;
    TRY(price_of(best, cx, &apart));
    for (uint32_t k = 0; k < p->groups.n; k++)
        decide_beside(p, hw, &p->groups.p[k]);
    Status st = fit(p, opt, &homes);
    if (st == ST_OK)
        TRY(price_of(&homes, cx, &kept));
    if (st == ST_OK && is_worth(&kept, &apart)) {
        realized_free(best);
        *best = homes;
        return ST_OK;
    }
    if (st == ST_OK)
        realized_free(&homes);
    memcpy(p->groups.p, groups, p->groups.n * sizeof(Group));
    memset(p->home, 0, p->g->vals.n * sizeof *p->home);
    return st == ST_LIMIT ? ST_OK : st;
}
