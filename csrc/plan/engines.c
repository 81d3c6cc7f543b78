/* engines.c - what computes an op, and which engine sums the rows of a group.
 *
 * in:   an op; a group that fuse has formed
 * out:  its row of select.def; whether sums that no other instruction carries are better off on the scalar engine
 * rule: work is counted in passes over a row: one for a function of one operand and for an extreme, two for an op on
 * two tensors. What either engine does is left out, it goes where there is room later.
 */
#include "plan/plan.h"

const Selection selection[T_COUNT] = {
#define SELECT(op, how, what) [T_##op] = {.by = BY_##how, .function = what},
#include "plan/select.def"
#undef SELECT
};

typedef struct Passes {
    double scalar, vector, sums;
} Passes;

/* A pass of the scalar engine is this many of the vector engine's, about: their clocks, of every generation. */
#define SCALAR_PASS 0.8

static bool
is_wide(const Plan *p, Val v, Span s)
{
    return s.role == RO_row && free_elems(val_type(p->g, v), s) >= SUM_ELEMS;
}

static bool
is_function(const Op *op)
{
    return selection[op->code].by == BY_activation;
}

/* Operands as long as the row of the result. */
static int
long_operands(const Plan *p, const Op *op, Span s)
{
    const Graph *g = p->g;
    int64_t row = free_elems(val_type(g, op->out), s);
    int n = 0;
    for (int i = 0; i < op->nin; i++) {
        Val v = op_val(g, op, i);
        n += !is_splat(g, v, NULL) && free_elems(val_type(g, v), operand_edge(g, op, i, s)) == row;
    }
    return n;
}

static void
count_passes(const Plan *p, const Op *op, Passes *n)
{
    const Graph *g = p->g;
    Span s = p->span[op->out.i];
    if (op->code == T_reduce_sum || op->code == T_reduce_max || op->code == T_reduce_min) {
        Val v = op_val(g, op, 0);
        bool wide = s.role == RO_row && is_wide(p, v, operand_edge(g, op, 0, s));
        bool carried = is_function(val_def(g, v));
        *(op->code == T_reduce_sum ? &n->sums : &n->vector) += wide && !carried;
    } else if ((op_def(g, op)->flags & F_EW) && is_wide(p, op->out, s)) {
        n->scalar += is_function(op) ? SCALAR_PASS : 0;
        n->vector += long_operands(p, op, s) > 1 ? 2 : 0;
    }
}

bool
sums_on_scalar(const Plan *p, const Group *gr)
{
    Passes n = {0};
    for (uint32_t k = 0; k < gr->n; k++)
        count_passes(p, graph_op(p->g, p->member.p[gr->first + k]), &n);
    return n.sums > 0 && n.scalar + SCALAR_PASS * n.sums <= n.vector + n.sums;
}
