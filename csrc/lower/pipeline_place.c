/* pipeline_place.c - addresses for the values of a scheduled straight program.
 *
 * in:   an order of the nodes, with times
 * out:  an address per value on chip; values that are alive together, from first to last touch in the text, are apart
 * rule: one walk over the text. Of the gaps that hold a value it takes the one that is free longest, so that memory
 *       which changes hands makes nobody wait; where that fragments too much, the tightest gap; at last large values
 *       from the bottom and small ones from the top.
 */
#include "lower/pipeline.h"

#include <string.h>

#define SMALL_BYTES 4096

typedef enum Policy { PL_oldest, PL_tightest, PL_ends, PL_COUNT } Policy;
typedef struct Hole { /* free bytes, and from when on */
    int64_t lo, hi;
    double since;
} Hole;
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
} Place;

static Status
find_spans(Place *p)
{
    const Straight *s = p->s;
    NEW(s->g->cx, s->scratch, p->span, s->value.n);
    NEW(s->g->cx, s->scratch, p->closed, s->value.n);
    for (uint32_t v = 0; v < s->value.n; v++)
        p->span[v].first = NO_VALUE;
    for (uint32_t k = 0; k < s->node.n; k++) {
        uint32_t i = p->o->node[k];
        const Node *n = &s->node.p[i];
        double end = p->o->end[i] + s->lags->us[DEP_raw][n->work[p->o->engine[i]].lane][LN_mixed];
        for (uint32_t j = 0; j < n->nvalue; j++) {
            uint32_t v = s->used.p[n->value + j];
            p->span[v].first = MIN(p->span[v].first, k);
            p->span[v].last = k;
            p->closed[v] = MAX(p->closed[v], end);
        }
    }
    return ST_OK;
}

typedef struct Fit { /* holes [from, to) as one */
    uint32_t from, to;
    double since;
    int64_t lo, hi, room;
} Fit;

/* Whether `a` is the better place for a value of `bytes`. */
static bool
is_better(const Place *p, const Fit *a, const Fit *b, int64_t bytes)
{
    if (p->policy == PL_oldest && a->since != b->since)
        return a->since < b->since;
    if (p->policy == PL_ends)
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
    bool top = p->policy == PL_ends && bytes < SMALL_BYTES;
    Hole rest = top ? (Hole){f->lo, f->hi - bytes, h[f->from].since} : (Hole){f->lo + bytes, f->hi, h[f->to - 1].since};
    uint32_t kept = rest.lo < rest.hi;
    if (kept)
        h[f->from] = rest;
    memmove(h + f->from + kept, h + f->to, sizeof(*h) * (p->hole[space].n - f->to));
    p->hole[space].n -= f->to - f->from - kept;
    return top ? f->hi - bytes : f->lo;
}

static Status
give_hole(Place *p, uint32_t v)
{
    const Value *x = &p->s->value.p[v];
    Hole new = {p->o->addr[v], p->o->addr[v] + x->bytes, p->closed[v]};
    uint32_t i, n = p->hole[x->space].n;
    VEC_PUSH(p->s->g->cx, p->s->scratch, &p->hole[x->space], new);
    Hole *h = p->hole[x->space].p;
    for (i = n; i > 0 && h[i - 1].lo > new.lo; i--)
        h[i] = h[i - 1];
    h[i] = new;
    for (int side = 0; side < 2 && p->policy != PL_oldest; side++) { /* neighbours become one: the one after, before */
        uint32_t a = side ? i - 1 : i;
        if ((side && i == 0) || a + 1 >= p->hole[x->space].n || h[a].hi != h[a + 1].lo)
            continue;
        h[a] = (Hole){h[a].lo, h[a + 1].hi, MAX(h[a].since, h[a + 1].since)};
        memmove(h + a + 1, h + a + 2, sizeof(*h) * (p->hole[x->space].n - a - 2));
        p->hole[x->space].n--;
    }
    return ST_OK;
}

static Status
place_node(Place *p, uint32_t k, bool *ok)
{
    const Node *n = &p->s->node.p[p->o->node[k]];
    for (uint32_t j = 0; j < n->nvalue; j++) {
        uint32_t v = p->s->used.p[n->value + j];
        const Value *x = &p->s->value.p[v];
        Fit f = {0};
        if (p->span[v].first != k)
            continue;
        *ok = find_fit(p, x->space, x->bytes, &f);
        if (!*ok)
            return ST_OK;
        p->o->addr[v] = take_fit(p, x->space, x->bytes, &f);
    }
    for (uint32_t j = 0; j < n->nvalue; j++) {
        uint32_t v = p->s->used.p[n->value + j];
        if (p->span[v].last == k)
            TRY(give_hole(p, v));
    }
    return ST_OK;
}

static Status
place_by(Place *p, bool *ok)
{
    for (int sp = SP_sbuf; sp <= SP_psum; sp++) {
        p->hole[sp].n = 0;
        for (uint32_t i = 0; i < p->s->room[sp].gap.n; i++) {
            Stretch x = p->s->room[sp].gap.p[i];
            VEC_PUSH(p->s->g->cx, p->s->scratch, &p->hole[sp], (Hole){x.lo, x.hi, 0});
        }
    }
    *ok = true;
    for (uint32_t k = 0; k < p->s->node.n && *ok; k++)
        TRY(place_node(p, k, ok));
    return ST_OK;
}

Status
place_values(const Straight *s, Order *o, bool *ok)
{
    Place p = {.s = s, .o = o};
    arena_reset(s->scratch);
    NEW(s->g->cx, s->a, o->addr, s->value.n);
    TRY(find_spans(&p));
    *ok = false;
    for (int policy = 0; policy < PL_COUNT && !*ok; policy++) {
        p.policy = (Policy)policy;
        TRY(place_by(&p, ok));
    }
    return ST_OK;
}
