/* fit.c - which spans a group can compute an op with.
 *
 * in:   an op and a span
 * out:  why not; NULL: it can
 * rule: local to the op. Fusion asks before it places an op, and the check asks of what somebody placed.
 */
#include "plan/plan.h"

int64_t
row_bytes(const Graph *g, Val v, Span s)
{
    const Type *t = val_type(g, v);
    return free_elems(t, s) * MAX(dtypes[t->dtype].bytes, 2); /* a pattern counts up to 65535 elements */
}

/* The spine of a product must hold its rows or its columns, the outer loop neither; dims of size 1 behind the spine
 * count as held. */
static bool
holds_matrix_dim(const Type *t, Range spine, Range outer)
{
    int hi = spine.hi;
    while (hi < t->rank - 1 && t->dim[hi] == 1)
        hi++;
    return outer.hi <= t->rank - 2 && spine.lo < spine.hi && hi >= t->rank - 1;
}

const char *
span_misfit(const Plan *p, const Graph *g, const Op *op, Span s)
{
    const Type *t = val_type(g, op->out);
    if (is_reversal(g, op->out))
        return "a slice that goes backwards moves in a group of its own";
    if (s.role == RO_free && (op->code == T_matmul || op->code == T_concat))
        return "a product or a concat has rows";
    if (p && p->part_of[op->out.i].i && s.role == RO_row) { /* its rows lie in a larger value */
        View w = view_stored(p, op->out);
        int64_t stride;
        if (!view_uniform(t, &w, s.spine, &stride) || !view_uniform(t, &w, s.outer, &stride))
            return "its rows do not lie evenly in the concat that it is written into";
    }
    if (op->code == T_matmul && !holds_matrix_dim(t, s.spine, s.outer))
        return "the rows of a group are the rows or the columns of its products, and no outer loop goes over those";
    for (int i = 0; i < op->nin; i++)
        if (operand_edge(g, op, i, s).role == RO_none)
            return "a row of it takes more than one row of what it reads";
    return NULL;
}

const char *
acc_misfit(const Graph *g, const Op *op, Span s)
{
    const int64_t *axes;
    uint32_t reduced = 0, run = ((1u << s.spine.hi) - 1) & ~((1u << s.spine.lo) - 1);
    if (!(op_def(g, op)->flags & F_REDUCE))
        return "only a reduction is summed up over the rows";
    for (int n = attr_ints(g->cx, op->attr, A_axes, &axes); n-- > 0;)
        reduced |= 1u << axes[n];
    if (run == 0 || (run & reduced) != run || s.outer.lo < s.outer.hi)
        return "the rows of an acc are dims of its operand that it reduces, without an outer loop";
    return NULL;
}
