/* moves.c - whether a value that is only moved goes in blocks, by itself, or as the rows of a group.
 *
 * in:   a layout op or a copy, and the span that suits a group of it best; or a view, and the span of who reads it
 * out:  that blocks of it (lower/blocks.c) take less time than the row tiles of that group; or what the reader's loads
 *       take beyond those of a value that has been put in order
 * rule: both are priced by the runs of their DMAs and the lanes that are busy, ns per element.
 */
#include "lower/blocks.h"
#include "pass/pass.h"

#define SCATTERED_BYTES 512 /* of a run of a concat's part that moves at its full rate */
#define PASSES 4            /* of a value put in order: read, written, and read again in long runs; and some doubt */
#define BLOCK_NS 65.0       /* a block of 32 x 32 on the vector engine */

/* The strides of op's result in what lies deepest below it. */
static bool
deepest_view(const Graph *g, const Op *op, View *out)
{
    Val base = op_val(g, op, 0), u = base;
    View w;
    if (!view_step(g, op, &(View){.base = u}, &w))
        return false;
    for (Val at = u; is_layout(g, at);) {
        at = op_val(g, val_def(g, at), 0);
        if (!view_between(g, at, u, &w) || !view_step(g, op, &w, &w))
            break;
        base = at;
    }
    return view_between(g, base, u, &w) && view_step(g, op, &w, out);
}

typedef struct Row { /* of a view, in a partition */
    int64_t stride;  /* from one row to the next */
    int64_t run;     /* elements of its innermost run in memory */
    int64_t elems;   /* free ones */
    int dims;        /* free ones with more than one element */
    bool whole;      /* it is one run */
    bool repeats;    /* along some dim it has the same elements */
} Row;

static Row
row_of(const Type *t, const View *w, Span s)
{
    Row r = {.run = 1, .elems = 1, .whole = true};
    view_uniform(t, w, s.spine, &r.stride);
    for (int i = t->rank; i-- > 0;) {
        bool is_free = (i < s.spine.lo || i >= s.spine.hi) && (i < s.outer.lo || i >= s.outer.hi);
        if (!is_free || t->dim[i] == 1)
            continue;
        r.dims++;
        r.elems *= t->dim[i];
        r.repeats |= w->stride[i] == 0;
        r.whole = r.whole && w->stride[i] == r.run;
        r.run *= r.whole ? t->dim[i] : 1;
    }
    return r;
}

/* ns of an element between chip and HBM in row tiles: through a transpose where rows are neighbours in memory. */
static double
rows_ns(const Hw *hw, const Type *t, const View *w, Span s, bool load)
{
    Row r = row_of(t, w, s);
    int64_t bytes = dtypes[t->dtype].bytes;
    bool turns = load && r.dims == 1 && r.stride == 1 && r.run == 1;
    if (r.dims == 0 && r.stride == 1)
        return move_ns(hw, (int64_t)hw->dma_good_bytes, bytes);
    if (turns && hw->dma_transpose)
        return move_ns(hw, (int64_t)hw->pmax, bytes) / hw->dma_transpose_hbm;
    if (turns)
        return MAX(move_ns(hw, (int64_t)hw->pmax, bytes), 2 * BLOCK_NS / (hw->vector_transpose * hw->vector_transpose));
    return move_ns(hw, r.run, bytes);
}

static bool
moves_in_blocks(const Plan *p, const Op *op, Span s)
{
    const Graph *g = p->g;
    const Type *t = val_type(g, op->out);
    const Hw *hw = hw_get(p->target);
    View from, to = view_stored(p, op->out);
    Blocks b;
    if ((!(op_def(g, op)->flags & F_LAYOUT) && op->code != T_copy) || is_reversal(g, op->out) ||
        !deepest_view(g, op, &from) || val_dtype(g, from.base) != (DType)t->dtype)
        return false;
    Strided m = {.n = 0};
    for (int i = 0; i < t->rank; i++)
        strided_add(&m, t->dim[i], to.stride[i], from.stride[i]);
    if (!choose_blocks(&m, hw, dtypes[t->dtype].bytes, &b))
        return false;
    int64_t rows = range_size(t, s.spine), outer = range_size(t, s.outer);
    double busy = (double)MIN(rows, (int64_t)hw->pmax) / hw->pmax;
    double ns = (rows_ns(hw, t, &from, s, true) + rows_ns(hw, t, &to, s, false)) / busy;
    return b.ns < ns + (outer > 1 ? OUTER_NS * (double)outer / (double)type_numel(t) : 0);
}

/* Elements of a run that a row tile of the view moves in; 0: a broadcast, or a transpose that is loaded, which have
 * ways of their own. */
static int64_t
run_of_rows(const Type *t, const View *w, Span s, bool load)
{
    Row r = row_of(t, w, s);
    int64_t rows = range_size(t, s.spine);
    if (r.repeats || r.stride == 0 || rows == 1 || (r.stride == 1 && (r.dims == 0 || (load && r.dims == 1))))
        return 0;
    if (r.whole)
        return r.stride == r.run ? r.run * rows : r.run;
    int64_t per = r.stride == 1 ? MIN(TILE_BYTES / (r.elems * dtypes[t->dtype].bytes), rows / 512) : 1;
    return MAX(per >= INSIDE_ROWS ? per : 1, r.run);
}

static double
excess_ns(const Plan *p, Val v, const View *w, Span s, bool load)
{
    const Type *t = val_type(p->g, v);
    const Hw *hw = hw_get(p->target);
    int64_t bytes = dtypes[t->dtype].bytes, run = s.role == RO_row ? run_of_rows(t, w, s, load) : 0;
    if (run == 0 || run * bytes >= hw->dma_good_bytes)
        return 0;
    double good = move_ns(hw, (int64_t)hw->dma_good_bytes / bytes, bytes);
    return (double)type_numel(t) * (move_ns(hw, run, bytes) - PASSES * good);
}

double
load_excess_ns(const Plan *p, Val v, const View *w, Span s)
{
    return excess_ns(p, v, w, s, true);
}

/* Of a concat that only scattered rows suit, long runs of the parts move faster by themselves. */
static bool
parts_are_long(const Plan *p, const Op *op, Span s)
{
    const Graph *g = p->g;
    View w = view_identity(g, op->out);
    if (op->code != T_concat || !scatters_rows(g, op->out, &w, s) || excess_ns(p, op->out, &w, s, false) < HANDOVER_NS)
        return false;
    int64_t axis = attr_int(g->cx, op->attr, A_axis, 0), least = INT64_MAX;
    for (int i = 0; i < op->nin; i++)
        least = MIN(least, val_type(g, op_val(g, op, i))->dim[axis]);
    return least * w.stride[axis] * dtypes[val_dtype(g, op->out)].bytes >= SCATTERED_BYTES;
}

bool
moves_better(const Plan *p, const Op *op, Span s)
{
    return op->code == T_concat ? parts_are_long(p, op, s) : moves_in_blocks(p, op, s);
}
