/* pipeline_place.c - addresses for the values of a scheduled straight program.
 *
 * in:   an order of the nodes, with times
 * out:  an address per value on chip; values that are alive together, from first to last touch in the text, are apart.
 *       The times are those with memory that changes hands
 * rule: one walk over the text per policy, the fastest is kept: of the gaps that hold a value the one that is free
 *       longest, the same with small values at the top, the tightest gap, large values from the bottom and small ones
 *       from the top.
 */
#include "lower/pipeline.h"

#include <string.h>

#define SMALL_BYTES 4096

typedef enum Policy { PL_oldest, PL_apart, PL_tightest, PL_ends, PL_COUNT } Policy;
typedef struct Life { /* positions in the text */
    uint32_t first, last;
} Life;
typedef struct Place {
    const Straight *s;
    Order *o;
    Policy policy;
    VEC(Hole) hole[SP_COUNT]; /* ascending; neighbours may touch while they differ in age */
    Life *span;               /* by value */
    double *closed;           /* by value */
    Machine m;
    double *start, *end; /* by node */
    int64_t *addr;       /* by value */
    double us;
} Place;
#define NEAR 1.005 /* times what the order takes by itself: addresses make nobody wait */

static Status
find_spans(Place *p)
{
    const Straight *s = p->s;
    NEW(s->g->cx, s->scratch, p->span, s->value.n);
    NEW(s->g->cx, s->scratch, p->closed, s->value.n);
    NEW(s->g->cx, s->scratch, p->start, s->node.n);
    NEW(s->g->cx, s->scratch, p->end, s->node.n);
    NEW(s->g->cx, s->scratch, p->addr, s->value.n);
    for (uint32_t v = 0; v < s->value.n; v++)
        p->span[v].first = NO_VALUE;
    for (uint32_t k = 0; k < s->node.n; k++) {
        const Node *n = &s->node.p[p->o->node[k]];
        for (uint32_t j = 0; j < n->nvalue; j++) {
            uint32_t v = s->used.p[n->value + j];
            p->span[v].first = MIN(p->span[v].first, k);
            p->span[v].last = k;
        }
    }
    return ST_OK;
}

typedef struct Fit { /* holes [from, to) as one */
    uint32_t from, to;
    double since;
    int64_t lo, hi, room;
} Fit;

static bool
goes_up(const Place *p, int64_t bytes)
{
    return (p->policy == PL_ends || p->policy == PL_apart) && bytes < SMALL_BYTES;
}

/* Whether `a` is the better place for a value of `bytes`. */
static bool
is_better(const Place *p, const Fit *a, const Fit *b, int64_t bytes)
{
    if (p->policy <= PL_apart && a->since != b->since && !goes_up(p, bytes))
        return a->since < b->since;
    if (p->policy == PL_ends || goes_up(p, bytes))
        return bytes < SMALL_BYTES ? a->lo > b->lo : a->lo < b->lo;
    return a->room != b->room ? a->room < b->room : a->since < b->since;
}

/* The best run of holes that hold `bytes`; false: none. */
static bool
find_fit(const Place *p, int space, int64_t bytes, Fit *best)
{
    const Hole *h = p->hole[space].p;
    uint32_t n = p->hole[space].n;
    bool found = false;
    for (uint32_t i = 0; i < n; i++) {
        Fit f = {.from = i, .to = i, .lo = h[i].lo, .hi = h[i].lo};
        while (f.to < n && h[f.to].lo == f.hi && f.hi - f.lo < bytes) {
            f.since = MAX(f.since, h[f.to].since);
            f.hi = h[f.to++].hi;
        }
        f.room = f.hi - f.lo;
        if (f.room < bytes || (found && !is_better(p, &f, best, bytes)))
            continue;
        *best = f;
        found = true;
    }
    return found;
}

/* Takes the bytes from a fit: holes [from, to) become what is left of the last one. */
static int64_t
take_fit(Place *p, int space, int64_t bytes, const Fit *f)
{
    Hole *h = p->hole[space].p;
    bool top = goes_up(p, bytes);
    Hole rest = top ? (Hole){f->lo, f->hi - bytes, h[f->from].since} : (Hole){f->lo + bytes, f->hi, h[f->to - 1].since};
    uint32_t kept = rest.lo < rest.hi;
    if (kept)
        h[f->from] = rest;
    memmove(h + f->from + kept, h + f->to, sizeof(*h) * (p->hole[space].n - f->to));
    p->hole[space].n -= f->to - f->from - kept;
    return top ? f->hi - bytes : f->lo;
}

/* Where policies do not ask for ages, neighbours become one. */
static Status
add_hole(Place *p, int space, Hole new)
{
    uint32_t i, n = p->hole[space].n;
    VEC_PUSH(p->s->g->cx, p->s->scratch, &p->hole[space], new);
    Hole *h = p->hole[space].p;
    for (i = n; i > 0 && h[i - 1].lo > new.lo; i--)
        h[i] = h[i - 1];
    h[i] = new;
    for (int side = 0; side < 2 && p->policy > PL_apart; side++) { /* with the one after, with the one before */
        uint32_t a = side ? i - 1 : i;
        if ((side && i == 0) || a + 1 >= p->hole[space].n || h[a].hi != h[a + 1].lo)
            continue;
        h[a] = (Hole){h[a].lo, h[a + 1].hi, MAX(h[a].since, h[a + 1].since)};
        memmove(h + a + 1, h + a + 2, sizeof(*h) * (p->hole[space].n - a - 2));
        p->hole[space].n--;
    }
    return ST_OK;
}

/* When the node runs, not before `since`. */
static void
run_node(Place *p, uint32_t i, double since)
{
    const Straight *s = p->s;
    const Node *n = &s->node.p[i];
    const Work *w = &n->work[p->o->engine[i]];
    for (uint32_t e = n->pred; e < n->pred + n->npred; e++) {
        uint32_t from = s->pred.p[e].node;
        const Work *x = &s->node.p[from].work[p->o->engine[from]];
        for (int d = 0; d < DEP_COUNT; d++)
            if (s->pred.p[e].why >> d & 1)
                since = MAX(since, p->end[from] + s->lags->us[d][x->lane][w->lane]);
    }
    p->end[i] = machine_run(&p->m, w, &since);
    p->start[i] = since;
}

static Status
place_node(Place *p, uint32_t k, bool *ok)
{
    uint32_t i = p->o->node[k];
    const Node *n = &p->s->node.p[i];
    double since = 0;
    for (uint32_t j = 0; j < n->nvalue; j++) {
        uint32_t v = p->s->used.p[n->value + j];
        const Value *x = &p->s->value.p[v];
        Fit f = {0};
        if (p->span[v].first != k)
            continue;
        *ok = find_fit(p, x->space, x->bytes, &f);
        if (!*ok)
            return ST_OK;
        since = MAX(since, f.since);
        p->addr[v] = take_fit(p, x->space, x->bytes, &f);
    }
    run_node(p, i, since);
    double closed = p->end[i] + p->s->lags->us[DEP_raw][n->work[p->o->engine[i]].lane][LN_mixed];
    for (uint32_t j = 0; j < n->nvalue; j++) {
        uint32_t v = p->s->used.p[n->value + j];
        p->closed[v] = MAX(p->closed[v], closed);
        if (p->span[v].last == k)
            TRY(add_hole(p, p->s->value.p[v].space,
                         (Hole){p->addr[v], p->addr[v] + p->s->value.p[v].bytes, p->closed[v]}));
    }
    return ST_OK;
}

static Status
place_by(Place *p, bool *ok)
{
    for (int sp = SP_sbuf; sp <= SP_psum; sp++) {
        Hole *h;
        uint32_t n;
        p->hole[sp].n = 0;
        TRY(aged_room(p->s, sp, p->s->scratch, &h, &n));
        for (uint32_t i = 0; i < n; i++)
            TRY(add_hole(p, sp, h[i]));
    }
    memset(p->closed, 0, sizeof(*p->closed) * p->s->value.n);
    machine_init(&p->m, p->s->hw);
    machine_carry(&p->m, p->s->before);
    *ok = true;
    for (uint32_t k = 0; k < p->s->node.n && *ok; k++)
        TRY(place_node(p, k, ok));
    p->us = machine_end(&p->m);
    return ST_OK;
}

/* Ages, with the end of the last load as time 0. */
static Status
leave(const Place *p, Carry *out)
{
    double base = p->m.clock[LN_load];
    *out = (Carry){.us = MAX(p->us - base, 0)};
    for (int l = 0; l < LN_COUNT; l++)
        out->clock[l] = MAX(p->m.clock[l] - base, 0);
    for (int sp = SP_sbuf; sp <= SP_psum; sp++) {
        for (uint32_t i = 0; i < p->hole[sp].n; i++) {
            Hole h = p->hole[sp].p[i];
            h.since = MAX(h.since - base, 0);
            VEC_PUSH(p->s->g->cx, p->s->a, &out->hole[sp], h);
        }
    }
    return ST_OK;
}

static Status
keep(const Place *p, Order *o)
{
    memcpy(o->addr, p->addr, sizeof(*o->addr) * p->s->value.n);
    memcpy(o->start, p->start, sizeof(*o->start) * p->s->node.n);
    memcpy(o->end, p->end, sizeof(*o->end) * p->s->node.n);
    o->us = p->us;
    return leave(p, o->left);
}

Status
place_values(const Straight *s, Order *o, bool *ok)
{
    Place p = {.s = s, .o = o};
    double goal = NEAR * o->us;
    arena_reset(s->scratch);
    NEW(s->g->cx, s->a, o->addr, s->value.n + 1);
    NEW(s->g->cx, s->a, o->left, 1);
    TRY(find_spans(&p));
    *ok = false;
    for (int policy = 0; policy < PL_COUNT && !(*ok && o->us <= goal); policy++) {
        bool fits;
        p.policy = (Policy)policy;
        TRY(place_by(&p, &fits));
        if (fits && (!*ok || p.us < o->us))
            TRY(keep(&p, o));
        *ok |= fits;
    }
    return ST_OK;
}
