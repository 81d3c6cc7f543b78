/* pipeline_pool.c - on-chip memory while a schedule is made: room, and whether the rest still fits.
 *
 * in:   nodes in the order in which they are chosen
 * out:  from when on there is room for what a node opens; whether it may open it
 * rule: what has run and what has not, the latter in the naive order, fits at every moment (the banker's test). So the
 *       next node of the naive order may always run. Memory is a fluid here: addresses are pipeline_place.c's business.
 */
#include "lower/pipeline.h"

#include <math.h>
#include <string.h>

static uint32_t
position(const Pool *p, uint32_t node)
{
    return p->back ? p->s->node.n - 1 - node : node;
}

/* Where the value is needed first and last. */
static uint32_t
first_position(const Pool *p, const Value *v)
{
    return position(p, p->s->users[v->user + (p->back ? v->nuser - 1 : 0)]);
}

static uint32_t
far_position(const Pool *p, uint32_t v)
{
    return position(p, p->s->users[p->s->value.p[v].user + p->far[v]]);
}

static bool
is_throttled(const Pool *p, const Value *v)
{
    return p->s->turns.p[v->kin] > p->lim->alive;
}

static void
add_profile(Pool *p, int space, uint32_t from, uint32_t to, int64_t bytes)
{
    int64_t *at = p->profile[space];
    for (uint32_t k = from; k < to; k++)
        at[k] += bytes;
}

#define MOST_CHUNKS 64

/* Sorted by time; of many the two that are free first become one. */
static Status
give_bytes(Pool *p, int space, double at, int64_t bytes)
{
    uint32_t i;
    VEC_PUSH(p->s->g->cx, p->s->scratch, &p->free[space], (Chunk){at, bytes});
    Chunk *c = p->free[space].p;
    for (i = p->free[space].n - 1; i > 0 && c[i - 1].at > at; i--)
        c[i] = c[i - 1];
    c[i] = (Chunk){at, bytes};
    if (p->free[space].n <= MOST_CHUNKS)
        return ST_OK;
    c[1].bytes += c[0].bytes;
    memmove(c, c + 1, sizeof(*c) * --p->free[space].n);
    return ST_OK;
}

/* All that the limits allow, the part that is free last left out. */
static Status
init_free(Pool *p, int space)
{
    int64_t left = p->lim->room[space];
    Hole *h;
    uint32_t n;
    if (p->back || !p->s->before)
        return give_bytes(p, space, 0, left);
    TRY(aged_room(p->s, space, p->s->scratch, &h, &n));
    for (uint32_t i = 0; i < n; i++)
        TRY(give_bytes(p, space, h[i].since, h[i].hi - h[i].lo));
    for (uint32_t i = 0; i < p->free[space].n; i++) {
        Chunk *c = &p->free[space].p[i];
        c->bytes = MIN(c->bytes, left);
        left -= c->bytes;
    }
    return ST_OK;
}

static Status
init_profiles(Pool *p)
{
    const Straight *s = p->s;
    for (int sp = SP_sbuf; sp <= SP_psum; sp++) {
        NEW(s->g->cx, s->scratch, p->profile[sp], s->node.n + 2);
        NEW(s->g->cx, s->scratch, p->peak[sp], s->node.n + 2);
        TRY(init_free(p, sp));
    }
    for (uint32_t v = 0; v < s->value.n; v++) {
        const Value *x = &s->value.p[v];
        p->left[v] = x->nuser;
        p->far[v] = p->back || !x->nuser ? 0 : x->nuser - 1;
        if (!x->nuser)
            continue;
        p->profile[x->space][first_position(p, x)] += x->bytes; /* differences, summed up below */
        p->profile[x->space][far_position(p, v) + 1] -= x->bytes;
    }
    for (int sp = SP_sbuf; sp <= SP_psum; sp++)
        for (uint32_t k = 1; k < s->node.n; k++)
            p->profile[sp][k] += p->profile[sp][k - 1];
    return ST_OK;
}

Status
pool_init(const Straight *s, const Limits *lim, bool back, Pool *out)
{
    Ctx *cx = s->g->cx;
    *out = (Pool){.s = s, .lim = lim, .back = back, .version = 1};
    NEW(cx, s->scratch, out->done, s->node.n + 1);
    NEW(cx, s->scratch, out->left, s->value.n);
    NEW(cx, s->scratch, out->far, s->value.n);
    NEW(cx, s->scratch, out->closing, s->value.n);
    NEW(cx, s->scratch, out->open, s->value.n);
    NEW(cx, s->scratch, out->slots, s->turns.n);
    NEW(cx, s->scratch, out->room, s->node.n);
    NEW(cx, s->scratch, out->looked, s->node.n);
    NEW(cx, s->scratch, out->unsafe, s->node.n);
    return init_profiles(out);
}

/* Bytes by space of the values that the node opens; false: none. */
static bool
opened_bytes(const Pool *p, const Node *n, int64_t need[SP_COUNT])
{
    bool any = false;
    memset(need, 0, sizeof(*need) * SP_COUNT);
    for (uint32_t i = 0; i < n->nvalue; i++) {
        uint32_t v = p->s->used.p[n->value + i];
        if (p->open[v])
            continue;
        need[p->s->value.p[v].space] += p->s->value.p[v].bytes;
        any = true;
    }
    return any;
}

/* The slot of a buffer that is free first. */
static double *
first_slot(const Pool *p, const Value *v)
{
    double *at = p->slots[v->kin].at;
    uint32_t best = 0;
    for (uint32_t i = 1; i < p->lim->alive; i++)
        if (at[i] < at[best])
            best = i;
    return &at[best];
}

static double
look_for_room(const Pool *p, uint32_t node)
{
    const Node *n = &p->s->node.p[node];
    int64_t need[SP_COUNT];
    double at = 0;
    if (!opened_bytes(p, n, need))
        return 0;
    for (uint32_t i = 0; position(p, node) != p->low && i < n->nvalue; i++) {
        const Value *v = &p->s->value.p[p->s->used.p[n->value + i]];
        if (!p->open[v - p->s->value.p] && is_throttled(p, v))
            at = MAX(at, *first_slot(p, v));
    }
    for (int sp = SP_sbuf; sp <= SP_psum; sp++) {
        int64_t missing = need[sp];
        for (uint32_t i = 0; i < p->free[sp].n && missing > 0; i++) {
            at = MAX(at, p->free[sp].p[i].at);
            missing -= p->free[sp].p[i].bytes;
        }
        if (missing > 0)
            return INFINITY;
    }
    return at;
}

double
pool_room(Pool *p, uint32_t node)
{
    if (p->looked[node] != p->version || position(p, node) == p->low) {
        p->room[node] = look_for_room(p, node);
        p->looked[node] = p->version;
    }
    return p->room[node];
}

/* The most of [low, until), which is looked at once per state of the pool. */
static int64_t
peak_until(Pool *p, int space, uint32_t until)
{
    int64_t *peak = p->peak[space];
    if (until <= p->low)
        return 0;
    for (uint32_t k = p->peaked[space]; k < until; k++)
        peak[k] = MAX(p->profile[space][k], k > p->low ? peak[k - 1] : 0);
    p->peaked[space] = MAX(p->peaked[space], until);
    return peak[until - 1];
}

/* Until it is needed in the naive order, what the node opens comes on top of everything. */
static bool
fits_early(Pool *p, const Node *n)
{
    int64_t need[SP_COUNT];
    uint32_t until = 0;
    opened_bytes(p, n, need);
    for (uint32_t i = 0; i < n->nvalue; i++) {
        uint32_t v = p->s->used.p[n->value + i];
        if (!p->open[v])
            until = MAX(until, first_position(p, &p->s->value.p[v]));
    }
    for (int sp = SP_sbuf; sp <= SP_psum; sp++) {
        if (need[sp] && peak_until(p, sp, until) + need[sp] > p->lim->room[sp])
            return false;
    }
    return true;
}

bool
pool_is_safe(Pool *p, uint32_t node)
{
    int64_t need[SP_COUNT];
    if (position(p, node) == p->low || !opened_bytes(p, &p->s->node.p[node], need))
        return true;
    if (p->unsafe[node] == p->version)
        return false;
    if (fits_early(p, &p->s->node.p[node]))
        return true;
    p->unsafe[node] = p->version;
    return false;
}

static void
take_bytes(Pool *p, int space, int64_t bytes)
{
    uint32_t used = 0;
    Chunk *c = p->free[space].p;
    while (bytes > 0 && used < p->free[space].n) {
        int64_t n = MIN(bytes, c[used].bytes);
        bytes -= n;
        c[used].bytes -= n;
        if (c[used].bytes == 0)
            used++;
    }
    p->free[space].n -= used;
    memmove(c, c + used, sizeof(*c) * p->free[space].n);
}

static void
open_value(Pool *p, uint32_t v)
{
    const Value *x = &p->s->value.p[v];
    p->open[v] = true;
    add_profile(p, x->space, p->low, first_position(p, x), x->bytes);
    take_bytes(p, x->space, x->bytes);
    if (is_throttled(p, x))
        *first_slot(p, x) = INFINITY;
    p->version++;
}

static Status
close_value(Pool *p, uint32_t v, uint32_t at)
{
    const Value *x = &p->s->value.p[v];
    double *slot = p->slots[x->kin].at;
    add_profile(p, x->space, p->low, at + 1, -x->bytes);
    p->version++;
    for (uint32_t i = 0; is_throttled(p, x) && i < p->lim->alive; i++) {
        if (slot[i] == INFINITY) {
            slot[i] = p->closing[v];
            break;
        }
    }
    return give_bytes(p, x->space, p->closing[v], x->bytes);
}

/* The node has run: the value is not needed for it any more. */
static Status
leave_value(Pool *p, uint32_t v, uint32_t at)
{
    const Value *x = &p->s->value.p[v];
    uint32_t far = far_position(p, v);
    if (--p->left[v] == 0)
        return close_value(p, v, far);
    if (at != far)
        return ST_OK;
    while (p->done[far_position(p, v)])
        p->far[v] += p->back ? 1 : UINT32_MAX; /* one on, or one back */
    add_profile(p, x->space, far_position(p, v) + 1, far + 1, -x->bytes);
    p->version++;
    return ST_OK;
}

Status
pool_commit(Pool *p, uint32_t node, int lane, double end)
{
    const Node *n = &p->s->node.p[node];
    uint32_t at = position(p, node);
    end += p->s->lags->us[DEP_raw][lane][LN_mixed];
    for (uint32_t i = 0; i < n->nvalue; i++)
        if (!p->open[p->s->used.p[n->value + i]])
            open_value(p, p->s->used.p[n->value + i]);
    p->done[at] = true;
    for (uint32_t i = 0; i < n->nvalue; i++) {
        uint32_t v = p->s->used.p[n->value + i];
        p->closing[v] = MAX(p->closing[v], end);
        TRY(leave_value(p, v, at));
    }
    while (p->low < p->s->node.n && p->done[p->low])
        p->low++;
    p->peaked[SP_sbuf] = p->peaked[SP_psum] = p->low;
    return ST_OK;
}
