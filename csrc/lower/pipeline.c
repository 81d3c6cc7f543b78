/* pipeline.c - software pipelining: instructions in an order that keeps all engines busy.
 *
 * in:   a lowered program, and the same one with engines
 * out:  the same instructions in another order, with addresses; nothing when none was found
 * rule: same results, bit for bit. A program of up to STRAIGHT_MOST instructions loses its loops. In a longer one, long
 * loops run over blocks of iterations (pipeline_nest.c), and its text does not grow with the data.
 */
#include "lower/pipeline.h"

#include <math.h>

#define QUICK_TRIES 2
#define DEFAULT_TRIES 3
#define NEAR 1.01 /* times the busiest engine: nothing faster is worth looking for */
#define SEARCH_TRIES 12

static Status
write_whole(Source *src, const Best *best, Arena *a, Graph **out)
{
    Emit e;
    Status st = emit_begin(src, a, &e);
    if (st == ST_OK)
        st = straight_write(&e, best->s, &best->o, NULL);
    return emit_end(st, &e, out);
}

/* Keeps `g` when it is faster than *out. *good: no engine is busy for much less than all takes. */
static Status
keep_faster(Graph *g, double *least, bool *good, Graph **out)
{
    Cost *c;
    double busy = 0;
    NEW(g->cx, &g->cx->scratch, c, 1);
    Status st = cost_program(g, c);
    for (int e = 0; e < EN_COUNT; e++)
        busy = MAX(busy, c->engine_us[e]);
    *good = c->time_us < NEAR * busy;
    if (st == ST_OK && (!*out || c->time_us < *least)) {
        Graph *slower = *out;
        *out = g;
        *least = c->time_us;
        g = slower;
    }
    if (g)
        graph_free(g);
    return st;
}

/* With large values as they are, and in parts, but for a quick price. */
static Status
pipeline_whole(Source *src, int most, const Straight *like, Graph **out)
{
    Straight whole;
    double least = INFINITY;
    bool good = false;
    TRY(straight_expand(src, 1, src->g->ops.n, like, &whole));
    for (int parts = 0; parts < (src->quick ? 1 : 2) && !good; parts++) {
        Best best;
        Graph *g;
        bool ok;
        TRY(order_find(&whole, parts, most, &best, &ok));
        if (!ok)
            continue;
        TRY(write_whole(src, &best, like->a, &g));
        TRY(keep_faster(g, &least, &good, out));
    }
    return ST_OK;
}

static Status
pipeline_in(const Graph *lowered, const Graph *in, const CompileOptions *opt, Arena *a, Arena *scratch, Graph **out)
{
    int most = opt->quick ? QUICK_TRIES : opt->optimize == OPT_search ? SEARCH_TRIES : DEFAULT_TRIES;
    Source src;
    Straight like = {.a = a, .scratch = scratch, .room = src.room};
    if (in->ops.n > ORDERED_MOST)
        return ST_OK;
    TRY(source_init(in, lowered, opt, a, &src));
    if (src.inside[0] == 0)
        return ST_OK;
    if (src.inside[0] <= STRAIGHT_MOST)
        TRY(pipeline_whole(&src, most, &like, out));
    return *out ? ST_OK : pipeline_nests(&src, most, a, scratch, out);
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
    Status st = pipeline_in(lowered, scheduled, opt, &a, &scratch, out);
    if (st != ST_OK && *out) {
        graph_free(*out);
        *out = NULL;
    }
    arena_free(&a);
    arena_free(&scratch);
    return st;
}

/* A program given as text: engines that it names stay. */
Status
pass_pipeline(const Graph *in, const CompileOptions *opt, Graph **out)
{
    TRY(pipeline_tile(in, in, opt, out));
    return *out ? ST_OK : fail(in->cx, ST_LIMIT, (LocId){0}, "NKI-4701 pipeline: no better order was found");
}
