/* view.c - a value as a strided view of what lies in HBM.
 *
 * Layout ops compose into one offset and one stride per dim, until a reshape meets strides that it cannot express.
 * The composition of a chain never copies anything: it becomes the access pattern of a DMA.
 */
#include "plan/plan.h"

View
view_identity(const Graph *g, Val v)
{
    View w = {.base = v};
    const Type *t = val_type(g, v);
    int64_t s = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        w.stride[i] = s;
        s *= t->dim[i];
    }
    return w;
}

View
view_stored(const Plan *p, Val v)
{
    int64_t off = 0;
    Val root = v, dense = v; /* a part has the rank and the strides of a concat; a reshape is the last of a chain */
    while (p->part_of[root.i].i) {
        off += p->part_at[root.i];
        root = p->part_of[root.i];
        dense = val_def(p->g, root)->code == T_concat ? root : dense;
    }
    View w = view_identity(p->g, dense);
    w.base = root;
    w.off = off;
    return w;
}

/* Dims [lo, hi) step through memory as one dim would: with the stride of the last of them. */
static bool
run_stride(const Type *t, const int64_t *stride, int lo, int hi, int64_t *unit)
{
    int64_t next = 0;
    bool seen = false;
    *unit = 0;
    for (int d = hi - 1; d >= lo; d--) {
        if (t->dim[d] == 1)
            continue;
        if (!seen)
            *unit = stride[d];
        else if (stride[d] != next)
            return false;
        seen = true;
        next = stride[d] * t->dim[d];
    }
    return true;
}

/* Strides by the result's dims, from those by the operand's. */
static bool
through_reshape(const Type *res, const Type *opd, const int64_t *from, int64_t *to)
{
    int i = 0, j = 0;
    for (int k = 0; k < res->rank; k++)
        to[k] = 0;
    while (i < res->rank || j < opd->rank) { /* match runs of dims with equal products */
        int i0 = i, j0 = j;
        int64_t a = i < res->rank ? res->dim[i++] : 1, b = j < opd->rank ? opd->dim[j++] : 1;
        while (a != b) {
            if (a < b) {
                if (i == res->rank)
                    return false;
                a *= res->dim[i++];
            } else {
                if (j == opd->rank)
                    return false;
                b *= opd->dim[j++];
            }
        }
        int64_t unit;
        if (!run_stride(opd, from, j0, j, &unit))
            return false;
        for (int d = i - 1; d >= i0; d--) {
            to[d] = unit;
            unit *= res->dim[d];
        }
    }
    return true;
}

/* A widening conversion keeps every value: a DMA does it on the way. */
bool
is_exact_cast(const Graph *g, const Op *op)
{
    if (op->code != T_cast)
        return false;
    DType from = val_dtype(g, op_val(g, op, 0)), to = val_dtype(g, op->out);
    return is_float(from) && is_float(to) && dtype_holds(to, from);
}

/* The view of op's result, given the view of its operand. */
bool
view_step(const Graph *g, const Op *op, const View *from, View *to)
{
    const Type *res = val_type(g, op->out), *opd = val_type(g, op_val(g, op, 0));
    const int64_t *a, *b;
    *to = (View){.base = from->base, .off = from->off};
    int shift = res->rank - opd->rank;
    switch (op->code) {
    case T_reshape:
        return type_numel(res) > 0 && through_reshape(res, opd, from->stride, to->stride);
    case T_transpose:
        attr_ints(g->cx, op->attr, A_perm, &a);
        for (int i = 0; i < res->rank; i++)
            to->stride[i] = from->stride[a[i]];
        return true;
    case T_broadcast_to:
        for (int i = shift; i < res->rank; i++)
            to->stride[i] = opd->dim[i - shift] == res->dim[i] ? from->stride[i - shift] : 0;
        return true;
    case T_slice:
        attr_ints(g->cx, op->attr, A_start, &a);
        attr_ints(g->cx, op->attr, A_step, &b);
        for (int i = 0; i < res->rank; i++) {
            to->off += a[i] * from->stride[i];
            to->stride[i] = b[i] * from->stride[i];
        }
        return true;
    case T_cast:
    case T_copy:
        for (int i = 0; i < res->rank; i++)
            to->stride[i] = from->stride[i];
        return op->code == T_copy || is_exact_cast(g, op);
    default:
        return false;
    }
}

uint32_t
backward_axes(const Graph *g, const Op *op)
{
    const int64_t *step;
    uint32_t axes = 0;
    if (op->code != T_slice || type_numel(val_type(g, op->out)) == 0)
        return 0;
    for (int i = attr_ints(g->cx, op->attr, A_step, &step); i-- > 0;)
        axes |= (uint32_t)(step[i] < 0) << i;
    return axes;
}

bool
is_reversal(const Graph *g, Val v)
{
    return backward_axes(g, val_def(g, v)) != 0;
}

bool
is_layout(const Graph *g, Val v)
{
    const Op *op = val_def(g, v);
    return ((op_def(g, op)->flags & F_LAYOUT) && !is_reversal(g, v)) || is_exact_cast(g, op);
}

bool
view_between(const Graph *g, Val base, Val v, View *out)
{
    Val chain[32]; /* canonical graphs merge neighbours of a kind: chains are short */
    int n = 0;
    while (v.i != base.i) {
        if (n == COUNT_OF(chain) || !is_layout(g, v))
            return false;
        chain[n++] = v;
        v = op_val(g, val_def(g, v), 0);
    }
    *out = view_identity(g, base);
    while (n-- > 0) {
        View next;
        if (!view_step(g, val_def(g, chain[n]), out, &next))
            return false;
        *out = next;
    }
    return true;
}

bool
view_uniform(const Type *t, const View *w, Range r, int64_t *stride)
{
    return run_stride(t, w->stride, r.lo, r.hi, stride);
}

bool
scatters_rows(const Graph *g, Val v, const View *w, Span s)
{
    const Type *t = val_type(g, v);
    View whole = view_identity(g, v);
    int64_t stride;
    w = w ? w : &whole;
    return s.spine.lo < s.spine.hi && view_uniform(t, w, s.spine, &stride) && stride == 1 && free_elems(t, s) > 1;
}
