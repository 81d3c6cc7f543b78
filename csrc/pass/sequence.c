/* sequence.c - the order in which a wide graph is computed.
 *
 * in:   a decomposed tensor graph, every output an op of its own
 * out:  the same ops. When more is alive at once than fits on chip, each value stands as close before its readers as a
 *       walk from the outputs brings it, if less is alive then.
 * rule: of two operands the one that needs more room while it is computed comes first (Sethi and Ullman, in bytes).
 *       Inputs and constants lie in HBM and count nothing.
 */
#include "pass/pass.h"
#include "tile/tile.h"

typedef VEC(OpId) Order;
typedef struct Visit { /* an op whose operands are on their way */
    OpId op;
    int next; /* how many of them have been looked at */
} Visit;
typedef struct Walk {
    const Graph *g;
    Arena *a;
    bool *seen;    /* by op */
    int64_t *need; /* by value: bytes alive at once while it is computed from nothing */
    VEC(Visit) stack;
    Order order;
} Walk;

static int64_t
held(const Graph *g, Val v)
{
    return is_source(g, v) ? 0 : type_numel(val_type(g, v)) * dtypes[val_type(g, v)->dtype].bytes;
}

/* Operand i of the walk: the needier of two is the first. */
static Val
operand_at(const Walk *w, const Op *op, int i)
{
    Val a = op_val(w->g, op, 0), b = op_val(w->g, op, op->nin > 1);
    bool swap = op->nin == 2 && w->need[b.i] - held(w->g, b) > w->need[a.i] - held(w->g, a);
    return op_val(w->g, op, swap ? 1 - i : i);
}

static void
find_needs(Walk *w)
{
    FOR_OPS(w->g, o) {
        const Op *op = graph_op(w->g, o);
        int64_t before = 0, most = 0;
        for (int i = 0; i < op->nin; i++) {
            Val v = operand_at(w, op, i);
            most = MAX(most, before + w->need[v.i]);
            before += held(w->g, v);
        }
        w->need[op->out.i] = MAX(most, before + held(w->g, op->out));
    }
}

static Status
visit(Walk *w, Val v)
{
    OpId o = w->g->vals.p[v.i].def;
    if (w->seen[o.i])
        return ST_OK;
    w->seen[o.i] = true;
    VEC_PUSH(w->g->cx, w->a, &w->stack, ((Visit){.op = o}));
    return ST_OK;
}

/* v and all that it needs and that does not stand yet. */
static Status
walk_from(Walk *w, Val v)
{
    TRY(visit(w, v));
    while (w->stack.n > 0) {
        Visit *top = &w->stack.p[w->stack.n - 1];
        const Op *op = graph_op(w->g, top->op);
        if (top->next < op->nin) {
            TRY(visit(w, operand_at(w, op, top->next++)));
            continue;
        }
        VEC_PUSH(w->g->cx, w->a, &w->order, top->op);
        w->stack.n--;
    }
    return ST_OK;
}

static Status
walk_outputs(const Graph *g, Arena *a, Order *order)
{
    Walk w = {.g = g, .a = a};
    NEW(g->cx, a, w.seen, g->ops.n);
    NEW(g->cx, a, w.need, g->vals.n);
    find_needs(&w);
    for (uint32_t i = 0; i < g->inputs.n; i++)
        TRY(walk_from(&w, g->inputs.p[i]));
    for (uint32_t i = 0; i < g->outputs.n; i++)
        TRY(walk_from(&w, g->outputs.p[i]));
    *order = w.order;
    return ST_OK;
}

static Status
program_order(const Graph *g, Arena *a, Order *order)
{
    bool *live;
    TRY(graph_live(g, &live));
    FOR_OPS(g, o) {
        if (live[o.i])
            VEC_PUSH(g->cx, a, order, o);
    }
    return ST_OK;
}

/* The most bytes that are alive at once, from a value's op to its last reader. */
static Status
peak_bytes(const Graph *g, const Order *order, int64_t *peak)
{
    uint32_t *left; /* by value: readers to come */
    int64_t now = 0;
    *peak = 0;
    NEW(g->cx, &g->cx->scratch, left, g->vals.n);
    for (uint32_t k = 0; k < order->n; k++) {
        const Op *op = graph_op(g, order->p[k]);
        for (int i = 0; i < op->nin; i++)
            left[op_val(g, op, i).i]++;
    }
    for (uint32_t k = 0; k < order->n; k++) {
        const Op *op = graph_op(g, order->p[k]);
        now += held(g, op->out);
        *peak = MAX(*peak, now);
        for (int i = 0; i < op->nin; i++)
            now -= --left[op_val(g, op, i).i] == 0 ? held(g, op_val(g, op, i)) : 0;
        now -= left[op->out.i] == 0 ? held(g, op->out) : 0; /* an output leaves the chip */
    }
    return ST_OK;
}

Status
pass_sequence(const Graph *in, const CompileOptions *opt, Graph **out)
{
    const Hw *hw = hw_get(opt->target);
    Arena *a = &in->cx->scratch;
    Order order = {0}, nearer = {0};
    int64_t peak, less;
    TRY(program_order(in, a, &order));
    TRY(peak_bytes(in, &order, &peak));
    if (peak > hw->sbuf_usable * hw->pmax) {
        TRY(walk_outputs(in, a, &nearer));
        TRY(peak_bytes(in, &nearer, &less));
        order = less < peak ? nearer : order;
    }
    return graph_reorder(in, opt, order.p, order.n, out);
}
