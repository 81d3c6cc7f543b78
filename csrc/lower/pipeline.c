/* pipeline.c - software pipelining: instructions in an order that keeps all engines busy.
 *
 * in:   a lowered program, and the same one with engines
 * out:  the same instructions in another order, with addresses; nothing when none was found
 * rule: same results, bit for bit. A program of up to STRAIGHT_MOST instructions loses its loops. In a longer one, long
 * loops run over blocks of iterations (pipeline_nest.c), and its text does not grow with the data.
 */
#include "lower/pipeline.h"

#define QUICK_TRIES 2
#define DEFAULT_TRIES 3
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

static Status
pipeline_whole(Source *src, int most, const Straight *like, Graph **out)
{
    Straight whole;
    Best best;
    bool ok;
    TRY(straight_expand(src, 1, src->g->ops.n, like, &whole));
    TRY(order_find(&whole, most, &best, &ok));
    return ok ? write_whole(src, &best, like->a, out) : ST_OK;
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
