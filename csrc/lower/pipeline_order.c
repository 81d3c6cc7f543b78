/* pipeline_order.c - the order of a straight program: some are looked for, the best gets addresses.
 *
 * in:   a straight program
 * out:  an order of its nodes with engines and addresses, and the program it is of: with long DMAs whole or in pieces
 * rule: same results, bit for bit. Tries differ in how many values of a buffer may be under way, and in whether engines
 *       are those chosen before or each node's own.
 */
#include "lower/pipeline.h"

#include <math.h>
#include <string.h>

#define CUT_US 2      /* DMAs of more are cut in pieces, */
#define CUT_MOST 1.15 /* unless that makes so many times more instructions */
#define ROUNDS 3      /* of justification: forwards with backwards between them */
#define ROOMS 3       /* orders that need less and less memory */
#define WAITING 1.04  /* times what an order takes when memory changes hands in no time */
#define NEAR 1.01     /* times the busiest engine: no other order is worth looking for */

typedef struct Try { /* one way to look for an order */
    bool cut, choose;
    uint32_t alive;
} Try;
static const Try tries[] = {{0, 1, 3}, {0, 0, 2}, {1, 1, 3}, {1, 0, 2}, {0, 1, 2}, {0, 0, 3},
                            {1, 1, 2}, {1, 0, 3}, {0, 1, 4}, {0, 0, 4}, {1, 1, 4}, {1, 0, 4}};

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
        if (!ok || round == (s->src->quick ? 1 : ROUNDS) || is_good(best))
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
limits_of(const Straight *s, bool choose, uint32_t alive)
{
    Limits lim = {.alive = alive, .choose = choose};
    for (int sp = SP_sbuf; sp <= SP_psum; sp++)
        for (uint32_t i = 0; i < s->room[sp].gap.n; i++)
            lim.room[sp] += s->room[sp].gap.p[i].hi - s->room[sp].gap.p[i].lo;
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
        Limits lim = limits_of(s, tries[i].choose, tries[i].alive);
        TRY(justify(s, &lim, best));
        most--;
    }
    return ST_OK;
}

/* Addresses; when the free memory is in pieces too small, or makes many wait, an order that needs less of it. */
static Status
place_best(Best *best, bool *ok)
{
    double alone = best->o.us;
    Best trial = *best;
    TRY(place_values(best->s, &best->o, ok));
    for (int i = 0; i < ROOMS && !(*ok && best->o.us < WAITING * alone); i++) {
        bool fits;
        Limits lim = trial.lim;
        lim.room[SP_sbuf] = lim.room[SP_sbuf] * 7 / 8 / PLACE_ALIGN * PLACE_ALIGN;
        trial = (Best){0};
        TRY(justify(best->s, &lim, &trial));
        if (!trial.s)
            return ST_OK;
        TRY(place_values(trial.s, &trial.o, &fits));
        if (fits && (!*ok || trial.o.us < best->o.us))
            *best = trial;
        *ok |= fits;
    }
    return ST_OK;
}

Status
order_find(const Straight *whole, bool parts, int most, Best *best, bool *ok)
{
    Straight *s, *cut;
    NEW(whole->g->cx, whole->a, s, 2);
    cut = s + 1;
    *best = (Best){0};
    *ok = false;
    TRY(straight_split(whole, INFINITY, s));
    TRY(straight_split(whole, CUT_US, cut));
    bool pays = !whole->src->quick && cut->node.n > s->node.n && cut->node.n < CUT_MOST * s->node.n;
    for (int k = 0; k < 1 + pays; k++) {
        if (parts)
            TRY(straight_parts(&s[k]));
        TRY(straight_link(&s[k]));
    }
    TRY(try_orders(s, pays ? cut : NULL, most, best));
    return best->s ? place_best(best, ok) : ST_OK;
}

Status
order_like(Straight *s, const Limits *like, Best *best, bool *ok)
{
    Limits lim = limits_of(s, like->choose, like->alive);
    *best = (Best){0};
    *ok = false;
    TRY(straight_link(s));
    TRY(justify(s, &lim, best));
    return best->s ? place_best(best, ok) : ST_OK;
}
