/* search.c - the decisions of one group: candidates, priced.
 *
 * in:   a group with the decisions that sizes suggest
 * out:  decisions with which it fits, about the fastest of those tried
 * rule: every candidate is priced in the order in which it was lowered, which is cheap; the most promising are priced
 *       again as pipelined, where the program is short enough for that. Knobs that depend on each other are tried
 *       together, the next ones around the best so far. Work is bounded, so of a large group fewer candidates are
 *       tried, and never none because of its size. What does not fit is cut down in several ways; the fastest stays.
 */
#include "pass/search.h"

#define ABOUT 1.03    /* as fast as the fastest: the model is no more exact than that */
#define PARTS 8       /* that a single tile comes in, roughly: columns, blocks */
#define ROOMY 0.33    /* share of SBUF that a tile may have, so that loading, computing and storing overlap */
#define CROWDED 1.5   /* what more of it costs */
#define SHORT_TEXT 64 /* instructions that do not matter */
#define MAX_TRIED 64

typedef struct Tried {
    Group gr;
    Price loops;  /* as it is lowered */
    Price price;  /* the same, or in straight order once it is `ordered` */
    double guess; /* what straight order may come to */
    bool ordered;
} Tried;

typedef struct Search {
    Pricer *pr;
    uint32_t k;
    const Bounds *b;
    int64_t until; /* work */
    bool ordered;  /* one of them is */
    Tried tried[MAX_TRIED];
    int n;
} Search;

/* ---- candidates ---- */
static bool
same_decisions(const Group *a, const Group *b)
{
    return a->per_tile == b->per_tile && a->in_place == b->in_place && a->bufs == b->bufs &&
           a->psum_width == b->psum_width && a->psum_bufs == b->psum_bufs && a->resident == b->resident &&
           a->panel == b->panel && a->scalar_sums == b->scalar_sums;
}

static const Tried *
find(const Search *s, const Group *gr)
{
    for (const Tried *t = s->tried; t < s->tried + s->n; t++)
        if (same_decisions(&t->gr, gr))
            return t;
    return NULL;
}

/* Straight order comes near the busiest engine, but where the first and the last tile wait for each other, and where
 * there is no room for two of them. */
static double
guess_order(const Group *gr, const Price *p)
{
    int64_t tiles = CEIL_DIV(gr->rows, 128 * (int64_t)gr->per_tile) * gr->outer;
    double apart = MAX(1.0 / (double)MAX(tiles, PARTS), CROWDED * (p->full - ROOMY));
    return p->busy_us + apart * (p->time_us - p->busy_us) + (p->us - p->time_us);
}

static bool
may_go_on(const Search *s)
{
    return s->n < MAX_TRIED && (s->n == 0 || s->pr->work < s->until);
}

static Status
consider(Search *s, Group gr)
{
    Tried *t = &s->tried[s->n];
    cut_columns(s->pr->p, &gr);
    if (!may_go_on(s) || find(s, &gr))
        return ST_OK;
    *t = (Tried){.gr = gr};
    TRY(price_group(s->pr, s->k, &gr, s->b->taken, PRICE_loops, &t->loops));
    t->price = t->loops;
    t->guess = guess_order(&gr, &t->price);
    s->n++;
    return ST_OK;
}

/* ---- the best ---- */
/* The program that runs has no loops. */
static bool
is_straight(const Search *s, const Tried *t)
{
    return s->b->orders && s->b->others + s->b->copies * t->loops.instr <= STRAIGHT_MOST;
}

/* A straight program is fetched from memory as it runs, which no model here prices: its text stays near the shortest.
 */
static bool
is_short(const Search *s, const Tried *t)
{
    int64_t fewest = t->loops.instr;
    if (t->loops.us < 0 || !is_straight(s, t))
        return t->loops.us >= 0;
    for (const Tried *o = s->tried; o < s->tried + s->n; o++)
        fewest = o->loops.us >= 0 ? MIN(fewest, o->loops.instr) : fewest;
    return t->loops.instr <= fewest + MAX(fewest / 3, SHORT_TEXT);
}

/* The most promising of those that are not in straight order yet; NULL: none is. */
static Tried *
most_promising(Search *s)
{
    Tried *next = NULL;
    double least = -1;
    for (Tried *t = s->tried; t < s->tried + s->n; t++) {
        bool open = s->b->orders && !t->ordered && is_short(s, t);
        next = open && (!next || t->guess < next->guess) ? t : next;
        least = t->ordered && (least < 0 || t->price.us < least) ? t->price.us : least;
    }
    return next && (least < 0 || next->guess < least) ? next : NULL;
}

/* Puts the most promising candidates in straight order, at most so many; those of equal code have equal orders. */
static Status
order_best(Search *s, int most)
{
    for (; most > 0; most--) {
        Tried *next = most_promising(s);
        Price p;
        if (!next || (s->ordered && s->pr->work + order_work(&next->loops) > s->until))
            return ST_OK;
        TRY(price_group(s->pr, s->k, &next->gr, s->b->taken, PRICE_straight, &p));
        for (Tried *t = s->tried; t < s->tried + s->n; t++)
            if (t->loops.code == next->loops.code && t->loops.us >= 0) {
                t->price = p;
                t->ordered = true;
            }
        s->ordered = true;
    }
    return ST_OK;
}

/* The candidate with the fewest instructions among those about as fast as the fastest; NULL: none fits. */
static const Tried *
best_of(const Search *s)
{
    const Tried *best = NULL;
    double least = -1;
    for (const Tried *t = s->tried; t < s->tried + s->n; t++)
        if (is_short(s, t) && (least < 0 || t->price.us < least))
            least = t->price.us;
    for (const Tried *t = s->tried; t < s->tried + s->n; t++) {
        const Price *a = &t->price, *b = best ? &best->price : NULL;
        if (is_short(s, t) && a->us <= least * ABOUT &&
            (!b || a->instr < b->instr || (a->instr == b->instr && a->us < b->us)))
            best = t;
    }
    return best;
}

/* ---- what does not fit ---- */
typedef enum Cut { CUT_none, CUT_in_place, CUT_per_tile, CUT_resident, CUT_bufs, CUT_width, CUT_psum_bufs } Cut;
#define CUTS 6

/* Several row tiles read the same operands; a single one streams them. */
static bool
has_tiles(const Group *gr)
{
    return gr->has_matmul && gr->rows > 128 * (int64_t)gr->per_tile;
}

/* One step smaller; false when there is none. */
static bool
cut_one(Group *gr, Cut cut)
{
    Group old = *gr;
    if (cut == CUT_in_place)
        gr->in_place = true;
    else if (cut == CUT_per_tile)
        gr->per_tile = MAX(gr->per_tile / 2, 1);
    else if (cut == CUT_resident && has_tiles(gr))
        gr->resident = gr->resident > 32768 ? gr->resident * 3 / 4 : 0;
    else if (cut == CUT_bufs)
        gr->bufs = 1;
    else if (cut == CUT_width)
        gr->psum_width = 512;
    else if (cut == CUT_psum_bufs)
        gr->psum_bufs = 1;
    return !same_decisions(&old, gr);
}

static bool
cut_down(Group *gr, const uint8_t *cuts)
{
    for (int i = 0; i < CUTS; i++)
        if (cut_one(gr, (Cut)cuts[i]))
            return true;
    return false;
}

/* Smaller and smaller until it fits; *ok: it does. */
static Status
descend(Search *s, const uint8_t *cuts, Group *gr, Price *p, bool *ok)
{
    static const uint8_t psum[CUTS] = {CUT_width, CUT_psum_bufs};
    do {
        cut_columns(s->pr->p, gr);
        TRY(price_group(s->pr, s->k, gr, s->b->taken, PRICE_fit, p));
        *ok = p->us >= 0;
    } while (!*ok && cut_down(gr, p->missing == SP_psum ? psum : cuts));
    return ST_OK;
}

/* What is given up first decides what is left. */
static const uint8_t ways[][CUTS] = {
    {CUT_in_place, CUT_per_tile, CUT_resident, CUT_width, CUT_bufs, CUT_psum_bufs},
    {CUT_per_tile, CUT_in_place, CUT_bufs, CUT_resident, CUT_width, CUT_psum_bufs},
    {CUT_resident, CUT_width, CUT_per_tile, CUT_in_place, CUT_bufs, CUT_psum_bufs},
};

Status
fit_group(Pricer *pr, uint32_t k, int64_t taken, Group *gr, Price *out)
{
    Bounds b = {.taken = taken};
    Search s = {.pr = pr, .k = k, .b = &b};
    bool ok;
    TRY(descend(&s, ways[0], gr, out, &ok));
    if (!ok)
        TRY(price_group(pr, k, gr, taken, PRICE_loops, out)); /* says what there is no room for */
    return ok ? ST_OK : ST_LIMIT;
}

/* ---- moves ---- */
/* Around what the next knobs are turned: the best as far as is known. */
static Group
lead(Search *s)
{
    const Tried *best = best_of(s);
    for (const Tried *t = s->tried; t < s->tried + s->n && !s->ordered; t++)
        if (s->b->orders && is_short(s, t) && t->guess < best->guess)
            best = t;
    return best->gr;
}

/* With overwriting only where there is little room without. */
static Status
consider_full(Search *s, Group gr)
{
    gr.in_place = false;
    TRY(consider(s, gr));
    cut_columns(s->pr->p, &gr);
    const Tried *t = find(s, &gr);
    gr.in_place = true;
    return t && (t->loops.us < 0 || t->loops.full > 0.5) ? consider(s, gr) : ST_OK;
}

/* Row tiles of another size. */
static Status
try_tiles(Search *s, Group base)
{
    static const int eighths[] = {8, 10, 12, 16, 32, 4}; /* how many tiles, against those of the base */
    int64_t rows = MAX(base.rows / 128, 1), tiles = CEIL_DIV(rows, base.per_tile), last = 0;
    for (int i = 0; i < COUNT_OF(eighths); i++) {
        Group gr = base;
        gr.per_tile = (int32_t)CEIL_DIV(rows, MAX(tiles * eighths[i] / 8, 1));
        if (gr.per_tile != last)
            TRY(consider_full(s, gr));
        last = gr.per_tile;
    }
    return ST_OK;
}

/* Windows of a product in PSUM, and what stays on chip of its operands. */
static Status
try_windows(Search *s, Group base)
{
    static const struct {
        int32_t width, bufs;
    } psum[] = {{512, 2}, {1024, 2}, {2048, 2}, {2048, 1}, {1024, 1}};
    int64_t usable = (int64_t)hw_get(s->pr->p->target)->sbuf_usable - s->b->taken;
    const int64_t resident[] = {base.resident, usable * 7 / 8, usable / 2, usable / 4, 0};
    for (int r = 0; r < (has_tiles(&base) ? COUNT_OF(resident) : 1); r++)
        for (int w = 0; w < COUNT_OF(psum); w++) {
            Group gr = base;
            gr.psum_width = psum[w].width;
            gr.psum_bufs = psum[w].bufs;
            gr.resident = resident[r];
            TRY(consider_full(s, gr));
        }
    return ST_OK;
}

/* Copies of what rotates. */
static Status
try_copies(Search *s, Group base)
{
    for (int bufs = 1; bufs <= 3; bufs++) {
        Group gr = base;
        gr.bufs = bufs;
        TRY(consider(s, gr));
    }
    return ST_OK;
}

static Status
improve(Search *s)
{
    TRY(try_tiles(s, lead(s)));
    if (s->pr->p->groups.p[s->k].has_matmul)
        TRY(try_windows(s, lead(s)));
    TRY(order_best(s, 4));
    return s->ordered ? ST_OK : try_copies(s, lead(s));
}

Status
search_group(Pricer *pr, uint32_t k, const Bounds *b, const Group *first, Group *gr, Price *out)
{
    Search s = {.pr = pr, .k = k, .b = b, .until = pr->work + b->work};
    TRY(consider(&s, *gr));
    for (int i = 1; i < COUNT_OF(ways) && !same_decisions(first, gr); i++) {
        Group other = *first;
        Price p;
        bool ok;
        TRY(descend(&s, ways[i], &other, &p, &ok));
        TRY(consider(&s, other));
    }
    TRY(improve(&s));
    *gr = best_of(&s)->gr;
    *out = best_of(&s)->price;
    return ST_OK;
}
