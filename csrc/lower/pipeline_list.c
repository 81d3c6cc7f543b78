/* pipeline_list.c - list scheduling: always the instruction that can start first, with memory as a resource.
 *
 * in:   a linked straight program, priorities, limits
 * out:  an order of its nodes that keeps all edges, with times; forwards, or backwards from the end
 * rule: of the nodes that a queue could start at once the one with the least key goes first, then over all queues the
 *       one that starts first. A node that opens a value waits for room, and for the pool to say that the rest fits.
 */
#include "lower/pipeline.h"

#include <math.h>
#include <string.h>

#define WINDOW 32 /* nodes of a queue that are looked at, least key first; all, when none of them may run */
#define SOON 0.1 /* us: above the lag between dependent nodes of one queue; who is later than that waits its turn */

typedef struct Pick { /* a node on one of its engines */
    uint32_t node;
    uint8_t engine; /* index into its work */
    double start, score;
} Pick;
typedef struct Ready {
    VEC(Pick) pick; /* least key first */
} Ready;

typedef struct Run {
    const Straight *s;
    const Limits *lim;
    const double *key;
    bool back;
    Machine m;
    Pool pool;
    Order *o;
    Ready ready[LN_mixed];
    uint32_t *waits; /* by node: edges that are open */
} Run;

static double
lag(const Straight *s, unsigned why, int from, int to)
{
    double most = 0;
    for (int d = 0; d < DEP_COUNT; d++)
        if (why >> d & 1)
            most = MAX(most, s->lags->us[d][from][to]);
    return most;
}

static int
lane_of_node(const Run *r, uint32_t node)
{
    return r->s->node.p[node].work[r->o->engine[node]].lane;
}

/* When everything that the node waits for is done, on this lane. */
static double
ready_time(const Run *r, uint32_t node, int lane)
{
    const Node *n = &r->s->node.p[node];
    const Arc *e = r->back ? r->s->succ + n->succ : r->s->pred.p + n->pred;
    uint32_t count = r->back ? n->nsucc : n->npred;
    double at = 0;
    for (uint32_t i = 0; i < count; i++) {
        int other = lane_of_node(r, e[i].node);
        double wait = r->back ? lag(r->s, e[i].why, lane, other) : lag(r->s, e[i].why, other, lane);
        at = MAX(at, r->o->end[e[i].node] + wait);
    }
    return at;
}

static bool
comes_before(const Run *r, uint32_t a, uint32_t b)
{
    if (r->key[a] != r->key[b])
        return r->key[a] < r->key[b];
    return r->back ? a > b : a < b;
}

static Status
make_ready(Run *r, int lane, Pick p)
{
    Ready *c = &r->ready[lane];
    uint32_t i = c->pick.n;
    VEC_PUSH(r->s->g->cx, r->s->scratch, &c->pick, p);
    for (; i > 0 && comes_before(r, p.node, c->pick.p[i - 1].node); i--)
        c->pick.p[i] = c->pick.p[i - 1];
    c->pick.p[i] = p;
    return ST_OK;
}

static Status
release(Run *r, uint32_t node)
{
    const Node *n = &r->s->node.p[node];
    int begin = r->lim->choose ? 0 : r->o->engine[node], end = r->lim->choose ? n->nwork : begin + 1;
    for (int i = begin; i < end; i++) {
        int lane = n->work[i].lane;
        Pick p = {.node = node, .engine = (uint8_t)i, .start = ready_time(r, node, lane)};
        TRY(make_ready(r, lane, p));
    }
    return ST_OK;
}

static double
lane_free(const Run *r, int lane)
{
    return lane == LN_load || lane == LN_store ? r->m.gap[r->m.ngaps - 1].a : r->m.clock[lane];
}

/* An activation that fits the current table could start at once: others then wait for theirs. */
static bool
keeps_table(const Run *r, int lane, double free)
{
    const Ready *c = &r->ready[lane];
    for (uint32_t i = 0; lane == LN_scalar && i < c->pick.n; i++) {
        int table = r->s->node.p[c->pick.p[i].node].work[c->pick.p[i].engine].table;
        if (table && table == r->m.table && c->pick.p[i].start <= free)
            return true;
    }
    return false;
}

static bool
is_before(const Run *r, const Pick *a, const Pick *b)
{
    return a->score != b->score ? a->score < b->score : comes_before(r, a->node, b->node);
}

/* The best of the first `most` nodes of a lane that may run; false: none. */
static bool
pick_of_lane(Run *r, int lane, uint32_t most, Pick *best)
{
    Ready *c = &r->ready[lane];
    double free = lane_free(r, lane), change = r->m.hw->act_table_ns * 1e-3;
    bool hot = keeps_table(r, lane, free), found = false;
    for (uint32_t i = 0; i < MIN(most, c->pick.n); i++) {
        Pick p = c->pick.p[i];
        int table = r->s->node.p[p.node].work[p.engine].table;
        p.start = MAX(MAX(p.start, pool_room(&r->pool, p.node)), free);
        p.score = MAX(p.start, free + SOON) + (hot && table && table != r->m.table ? change : 0);
        if (p.start == INFINITY || (found && !is_before(r, &p, best)) || !pool_is_safe(&r->pool, p.node))
            continue;
        *best = p;
        found = true;
    }
    return found;
}

static bool
pick_node(Run *r, uint32_t most, Pick *best)
{
    bool found = false;
    for (int lane = 0; lane < LN_mixed; lane++) {
        Pick p;
        if (!r->ready[lane].pick.n || !pick_of_lane(r, lane, most, &p))
            continue;
        p.score = p.start;
        if (!found || is_before(r, &p, best))
            *best = p;
        found = true;
    }
    return found;
}

/* Of the engines that the node may run on, the one where it ends first. */
static void
choose_engine(const Run *r, Pick *p)
{
    const Node *n = &r->s->node.p[p->node];
    double best = INFINITY;
    for (int i = 0; r->lim->choose && i < n->nwork; i++) {
        int lane = n->work[i].lane;
        double start = MAX(ready_time(r, p->node, lane), lane_free(r, lane));
        start = MAX(start, r->pool.room[p->node]);
        if (start + n->work[i].issue < best) {
            best = start + n->work[i].issue;
            p->engine = (uint8_t)i;
        }
    }
}

static void
withdraw(Run *r, uint32_t node)
{
    const Node *n = &r->s->node.p[node];
    for (int e = 0; e < n->nwork; e++) {
        Ready *c = &r->ready[n->work[e].lane];
        for (uint32_t i = 0; i < c->pick.n; i++) {
            if (c->pick.p[i].node == node) {
                memmove(c->pick.p + i, c->pick.p + i + 1, sizeof(Pick) * (--c->pick.n - i));
                break;
            }
        }
    }
}

static Status
run_node(Run *r, Pick p, uint32_t k)
{
    const Node *n = &r->s->node.p[p.node];
    Order *o = r->o;
    choose_engine(r, &p);
    const Work *w = &n->work[p.engine];
    withdraw(r, p.node);
    o->engine[p.node] = p.engine;
    o->node[k] = p.node;
    o->start[p.node] = MAX(ready_time(r, p.node, w->lane), r->pool.room[p.node]);
    o->end[p.node] = machine_run(&r->m, w, &o->start[p.node]);
    TRY(pool_commit(&r->pool, p.node, w->lane, o->end[p.node]));
    const Arc *e = r->back ? r->s->pred.p + n->pred : r->s->succ + n->succ;
    uint32_t count = r->back ? n->npred : n->nsucc;
    for (uint32_t i = 0; i < count; i++)
        if (--r->waits[e[i].node] == 0)
            TRY(release(r, e[i].node));
    return ST_OK;
}

static Status
order_init(const Straight *s, const Limits *lim, Order *o)
{
    Ctx *cx = s->g->cx;
    *o = (Order){0};
    NEW(cx, s->a, o->node, s->node.n);
    NEW(cx, s->a, o->start, s->node.n);
    NEW(cx, s->a, o->end, s->node.n);
    NEW(cx, s->a, o->engine, s->node.n);
    if (lim->engine && !lim->choose)
        memcpy(o->engine, lim->engine, s->node.n);
    return ST_OK;
}

Status
list_schedule(const Straight *s, const Limits *lim, const double *key, bool backwards, Order *out, bool *ok)
{
    Run r = {.s = s, .lim = lim, .key = key, .back = backwards, .o = out};
    Pick p;
    arena_reset(s->scratch);
    TRY(order_init(s, lim, out));
    NEW(s->g->cx, s->scratch, r.waits, s->node.n);
    TRY(pool_init(s, lim, backwards, &r.pool));
    machine_init(&r.m, s->hw);
    if (!backwards)
        machine_carry(&r.m, s->before);
    for (uint32_t i = 0; i < s->node.n; i++) {
        r.waits[i] = backwards ? s->node.p[i].nsucc : s->node.p[i].npred;
        if (r.waits[i] == 0)
            TRY(release(&r, i));
    }
    *ok = true;
    for (uint32_t k = 0; k < s->node.n && *ok; k++) {
        *ok = pick_node(&r, WINDOW, &p) || pick_node(&r, UINT32_MAX, &p);
        if (*ok)
            TRY(run_node(&r, p, k));
    }
    out->us = machine_end(&r.m);
    return ST_OK;
}
