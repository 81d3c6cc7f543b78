/* pipeline.c - software pipelining: short programs become straight code in an order that keeps all engines busy.
 *
 * in:   a lowered program, and the same one with engines
 * out:  the same instructions without loops, in another order, with addresses; nothing when none was found
 * rule: same results, bit for bit. Some orders are tried (how many values of a buffer may be under way, engines chosen
 *       before or one by one, long DMAs whole or in pieces), the best is placed. Text stays short: above MAX_NODES
 *       instructions loops stay loops.
 */
#include "lower/pipeline.h"

#include <string.h>

#define MAX_NODES 2000
#define CUT_US 2      /* DMAs of more are cut in pieces, */
#define CUT_MOST 1.15 /* unless that makes so many times more instructions */
#define ROUNDS 3      /* of justification: forwards with backwards between them */
#define DEFAULT_TRIES 3
#define NEAR 1.01     /* times the busiest engine: no other order is worth looking for */

typedef struct Try { /* one way to look for an order */
    bool cut, choose;
    uint32_t alive;
} Try;
static const Try tries[] = {{0, 1, 3}, {0, 0, 2}, {1, 1, 3}, {1, 0, 2}, {0, 1, 2}, {0, 0, 3},
                            {1, 1, 2}, {1, 0, 3}, {0, 1, 4}, {0, 0, 4}, {1, 1, 4}, {1, 0, 4}};

typedef struct Best { /* so far */
    const Straight *s;
    Order o;
    Limits lim;
    double us; /* with its instructions */
} Best;

static const double *
turned_keys(const Straight *s, const Order *o, bool back, double *key)
{
    for (uint32_t i = 0; i < s->node.n; i++)
        key[i] = back ? o->us - o->end[i] : -o->end[i];
    return key;
}

/* Nothing waits that could be done earlier: the busiest engine of the best order is never idle for long. */
static bool
is_good(const Best *best)
{
    const Straight *s = best->s;
    double busy[EN_COUNT] = {0}, most = 0;
    for (uint32_t i = 0; s && i < s->node.n; i++) {
        const Work *w = &s->node.p[i].work[best->o.engine[i]];
        busy[w->engine] += w->issue;
        most = MAX(most, busy[w->engine]);
    }
    return s && best->o.us < NEAR * most;
}

/* Forwards in the naive order, then backwards and forwards with the times of the pass before as priorities. */
static Status
justify(const Straight *s, const Limits *lim, Best *best)
{
    Order fore, back;
    bool ok;
    double *key;
    NEW(s->g->cx, s->a, key, s->node.n);
    for (uint32_t i = 0; i < s->node.n; i++)
        key[i] = i;
    for (int round = 1;; round++) {
        TRY(list_schedule(s, lim, key, false, &fore, &ok));
        double us = fore.us + INSTR_US * s->node.n;
        if (ok && (!best->s || us < best->us - 1e-9))
            *best = (Best){s, fore, *lim, us};
        if (!ok || round == ROUNDS || is_good(best))
            return ST_OK;
        Limits fixed = *lim;
        fixed.choose = false;
        fixed.engine = fore.engine;
        TRY(list_schedule(s, &fixed, turned_keys(s, &fore, false, key), true, &back, &ok));
        if (!ok)
            return ST_OK;
        turned_keys(s, &back, true, key);
    }
}

static Limits
limits_of(const Hw *hw, const Try *t)
{
    Limits lim = {.alive = t->alive, .choose = t->choose};
    lim.room[SP_sbuf] = (int64_t)hw->sbuf_usable / PLACE_ALIGN * PLACE_ALIGN;
    lim.room[SP_psum] = (int64_t)hw->psum_bytes;
    return lim;
}

/* whole and cut: the program with long DMAs as they are and in pieces; cut may be NULL */
static Status
try_orders(const Straight *whole, const Straight *cut, int most, Best *best)
{
    for (int i = 0; i < COUNT_OF(tries) && most > 0 && !is_good(best); i++) {
        const Straight *s = tries[i].cut ? cut : whole;
        if (!s)
            continue;
        Limits lim = limits_of(s->hw, &tries[i]);
        TRY(justify(s, &lim, best));
        most--;
    }
    return ST_OK;
}

/* Addresses; when the free memory is in pieces too small, an order that needs less of it. */
static Status
place_best(Best *best, bool *ok)
{
    TRY(place_values(best->s, &best->o, ok));
    for (int i = 0; i < 3 && !*ok; i++) {
        const Straight *s = best->s;
        Limits lim = best->lim;
        lim.room[SP_sbuf] = lim.room[SP_sbuf] * 7 / 8 / PLACE_ALIGN * PLACE_ALIGN;
        *best = (Best){0};
        TRY(justify(s, &lim, best));
        if (!best->s)
            return ST_OK;
        TRY(place_values(best->s, &best->o, ok));
    }
    return ST_OK;
}

static Status
pipeline_in(const Graph *lowered, const Graph *in, int most, Arena *a, Arena *scratch, Graph **out)
{
    Straight whole, cut;
    Best best = {0};
    bool fits;
    TRY(straight_expand(in, lowered, a, scratch, MAX_NODES, &whole, &fits));
    if (!fits)
        return ST_OK;
    TRY(straight_split(&whole, CUT_US, &cut));
    TRY(straight_link(&whole));
    bool pays = cut.node.n > whole.node.n && cut.node.n < CUT_MOST * whole.node.n;
    if (pays)
        TRY(straight_link(&cut));
    TRY(try_orders(&whole, pays ? &cut : NULL, most, &best));
    if (!best.s)
        return ST_OK;
    TRY(place_best(&best, &fits));
    return fits ? straight_write(best.s, &best.o, out) : ST_OK;
}

Status
pipeline_tile(const Graph *lowered, const Graph *scheduled, const CompileOptions *opt, Graph **out)
{
    Arena a, scratch;
    *out = NULL;
    if (opt->optimize == OPT_fast)
        return ST_OK;
    arena_init(&a, &scheduled->cx->mem);
    arena_init(&scratch, &scheduled->cx->mem);
    Status st = pipeline_in(lowered, scheduled, opt->optimize == OPT_search ? COUNT_OF(tries) : DEFAULT_TRIES, &a,
                            &scratch, out);
    arena_free(&a);
    arena_free(&scratch);
    return st;
}

/* A program given as text: engines that it names stay. */
Status
pass_pipeline(const Graph *in, const CompileOptions *opt, Graph **out)
{
    TRY(pipeline_tile(in, in, opt, out));
    return *out ? ST_OK : fail(in->cx, ST_LIMIT, (LocId){0}, "NKI-4701 pipeline: no straight form was found");
}
