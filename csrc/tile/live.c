/* live.c - when the buffers of a tile program are live, loops included.
 *
 * in:   a graph that passes graph_check
 * out:  per value the first and the last op between which it holds data that matters; {0, 0}: never touched
 * rule: a buffer declared in a loop body is a new one each iteration: live from its first to its last touch. With
 *       bufs > 1 its copies rotate, so it is live over the whole loop. A touch inside loops that the declaration is
 *       not in counts for the whole outermost of them. A loop variable's entry is its loop and the matching end.
 */
#include "tile/tile.h"

typedef VEC(OpId) Stack;

/* Where a buffer was declared: how many loops were open, and whether its copies rotate over the innermost. */
typedef struct Home {
    uint32_t depth;
    bool rotates;
} Home;

/* The op that stands for a touch at `o`: a loop, when the data must survive that loop's iterations. */
static OpId
touch_scope(const Stack *loops, Home home, OpId o)
{
    if (home.rotates && home.depth > 0 && home.depth <= loops->n)
        return loops->p[home.depth - 1];
    if (home.depth < loops->n)
        return loops->p[home.depth];
    return o;
}

static void
touch(Live *l, OpId scope)
{
    if (l->first.i == 0)
        l->first = scope;
    l->last = scope;
}

static Status
walk_control(const Graph *g, Arena *a, OpId o, Stack *loops, Home *home, Live *live)
{
    const Op *op = graph_op(g, o);
    if (op->code == K_loop) {
        live[op->out.i].first = o;
        VEC_PUSH(g->cx, a, loops, o);
    } else if (op->code == K_end && loops->n > 0) {
        live[graph_op(g, loops->p[--loops->n])->out.i].last = o;
    } else if (op->code == K_buffer) {
        home[op->out.i].depth = loops->n;
        home[op->out.i].rotates = attr_int(g->cx, op->attr, A_bufs, 1) > 1;
    }
    return ST_OK;
}

Status
tile_liveness(const Graph *g, Arena *a, Live **by_val)
{
    Live *live;
    Home *home;
    Stack loops = {0};

    NEW(g->cx, a, live, g->vals.n + 1);
    NEW(g->cx, a, home, g->vals.n + 1);
    FOR_OPS(g, o)
    {
        const Op *op = graph_op(g, o);
        if (!is_instr(g, op)) {
            TRY(walk_control(g, a, o, &loops, home, live));
            continue;
        }
        for (int i = 0; i < op->nin; i++) {
            Val v = op_val(g, op, i);
            if (v.i != 0 && op_in(g, op, i)->ap.i != 0)
                touch(&live[v.i], touch_scope(&loops, home[v.i], o));
        }
    }
    for (uint32_t v = 1; v < g->vals.n; v++) { /* a scope that is a loop lasts until its end */
        const Op *last = graph_op(g, live[v].last);
        if (live[v].last.i != 0 && last->code == K_loop)
            live[v].last = live[last->out.i].last;
    }
    *by_val = live;
    return ST_OK;
}
