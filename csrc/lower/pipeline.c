/* pipeline.c - software pipelining: short programs become straight code in an order that keeps all engines busy.
 *
 * in:   a lowered program, and the same one with engines
 * out:  the same instructions without loops, in another order, with addresses; nothing when that is no faster
 * rule: same results, bit for bit. Some orders are tried (how many values of a buffer may be under way, engines chosen
 *       before or one by one, long DMAs whole or in pieces), the best is placed and priced. Text stays short: above
 *       MAX_NODES instructions loops stay loops.
 */
#include "lower/pipeline.h"

#include <string.h>

#include <stdio.h>
#include <stdlib.h>
#define MAX_NODES 2000
#define INSTR_US 0.04 /* what an instruction is worth avoiding */

typedef struct Best { /* so far */
    Straight s;
    Order o;
    double us; /* with its instructions */
    bool found;
} Best;

typedef struct Tries {
    Arena *a;
    Best best;
} Tries;

static double *
turned_keys(const Straight *s, const Order *o, bool back, double *key)
{
    for (uint32_t i = 0; i < s->node.n; i++)
        key[i] = back ? o->us - o->end[i] : -o->end[i];
    return key;
}

/* Forwards in the naive order, then backwards and forwards with the times of the pass before as priorities. */
static Status
justify(const Straight *s, Limits lim, int rounds, Best *best, double *key)
{
    Order fore, back;
    bool ok;
    for (uint32_t i = 0; i < s->node.n; i++)
        key[i] = i;
    for (int round = 0; round < rounds; round++) {
        TRY(list_schedule(s, &lim, key, false, &fore, &ok));
        if (!ok)
            return ST_OK;
        double us = fore.us + INSTR_US * s->node.n;
        if (getenv("PLOG"))
            printf("   alive %u choose %d nodes %u round %d: %.2f\n", lim.alive, lim.choose, s->node.n, round, fore.us);
        if (!best->found || us < best->us - 1e-9)
            *best = (Best){*s, fore, us, true};
        if (round + 1 == rounds)
            break;
        Limits fixed = lim;
        fixed.choose = false;
        fixed.engine = fore.engine;
        TRY(list_schedule(s, &fixed, turned_keys(s, &fore, false, key), true, &back, &ok));
        if (!ok)
            return ST_OK;
        turned_keys(s, &back, true, key);
    }
    return ST_OK;
}

static Status
try_orders(const Straight *s, Best *best)
{
    const Hw *hw = s->hw;
    double *key;
    NEW(s->g->cx, s->a, key, s->node.n);
    for (int choose = 0; choose < 2; choose++) {
        for (uint32_t alive = 2; alive <= MAX_ALIVE; alive++) {
            Limits lim = {.alive = alive, .choose = choose};
            lim.room[SP_sbuf] = (int64_t)hw->sbuf_usable / PLACE_ALIGN * PLACE_ALIGN;
            lim.room[SP_psum] = (int64_t)hw->psum_bytes;
            TRY(justify(s, lim, 3, best, key));
        }
    }
    return ST_OK;
}

static Status
pipeline_in(const Graph *lowered, const Graph *in, Arena *a, Arena *scratch, Graph **out)
{
    Straight whole, cut;
    Best best = {.found = false};
    bool fits;
    TRY(straight_expand(in, lowered, a, scratch, MAX_NODES, &whole, &fits));
    if (!fits)
        return ST_OK;
    TRY(straight_split(&whole, 2, &cut));
    TRY(straight_link(&whole));
    TRY(try_orders(&whole, &best));
    if (cut.node.n > whole.node.n) {
        TRY(straight_link(&cut));
        TRY(try_orders(&cut, &best));
    }
    if (!best.found)
        return ST_OK;
    TRY(place_values(&best.s, &best.o, &fits));
    if (getenv("PLOG"))
        printf("best %.2f placed %d\n", best.us, fits);
    return fits ? straight_write(&best.s, &best.o, out) : ST_OK;
}

Status
pipeline_tile(const Graph *lowered, const Graph *scheduled, const CompileOptions *opt, Graph **out)
{
    Arena a, scratch;
    *out = NULL;
    (void)opt;
    arena_init(&a, &scheduled->cx->mem);
    arena_init(&scratch, &scheduled->cx->mem);
    Status st = pipeline_in(lowered, scheduled, &a, &scratch, out);
    arena_free(&a);
    arena_free(&scratch);
    return st;
}

/* A program given as text: engines that it names stay. */
Status
pass_pipeline(const Graph *in, const CompileOptions *opt, Graph **out)
{
    TRY(pipeline_tile(in, in, opt, out));
    return *out ? ST_OK : fail(in->cx, ST_LIMIT, (LocId){0}, "no straight form");
}
