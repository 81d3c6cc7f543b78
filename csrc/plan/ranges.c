/* ranges.c - how the dims of a result correspond to those of an operand, for every class of op.
 *
 * in:   an op, and where a group's spine and outer dims lie in its result
 * out:  where they lie in operand i, or that the operand has none of them, or that the op is not row-local
 * rule: positional and local to one op, so that what fusion decides by it is safe whatever the rest of the graph does.
 */
#include "plan/plan.h"

static const Range NONE = {0, 0};

int64_t
range_size(const Type *t, Range r)
{
    int64_t n = 1;
    for (int i = r.lo; i < r.hi; i++)
        n *= t->dim[i];
    return n;
}

int64_t
free_elems(const Type *t, Span s)
{
    return type_numel(t) / MAX(range_size(t, s.spine), 1) / MAX(range_size(t, s.outer), 1);
}

/* The same run without the dims of size 1 at its ends, so that equal runs have equal ranges. */
Range
trim_range(const Type *t, Range r)
{
    while (r.hi - r.lo > 1 && t->dim[r.hi - 1] == 1)
        r.hi--;
    while (r.hi - r.lo > 1 && t->dim[r.lo] == 1)
        r.lo++;
    return r;
}

typedef enum Fit { FIT_bad, FIT_row, FIT_free } Fit;

/* Dims aligned at the right (broadcasting): equal all along the run, or absent all along it. `skip` trailing dims of
 * both sides do not take part (a matmul's last two). */
static Fit
fit_aligned(const Type *res, const Type *opd, Range r, Range *out)
{
    int shift = res->rank - opd->rank;
    bool equal = true, absent = true;
    for (int i = r.lo; i < r.hi; i++) {
        int64_t n = i - shift >= 0 ? opd->dim[i - shift] : 1;
        equal &= n == res->dim[i];
        absent &= n == 1;
    }
    *out = (Range){(int8_t)MAX(r.lo - shift, 0), (int8_t)MAX(r.hi - shift, 0)};
    if (equal)
        return FIT_row;
    return absent ? FIT_free : FIT_bad;
}

static Fit
fit_reduce(const Graph *g, const Op *op, const Type *opd, Range r, Range *out)
{
    const int64_t *axes;
    int n = attr_ints(g->cx, op->attr, A_axes, &axes);
    bool keep = attr_int(g->cx, op->attr, A_keepdims, 0) != 0;
    uint32_t reduced = 0;
    for (int i = 0; i < n; i++)
        reduced |= 1u << axes[i];
    int lo = -1, hi = -1, dim = 0;
    for (int i = 0; i < opd->rank; i++) {
        bool is_reduced = reduced >> i & 1;
        if (is_reduced && !keep) {
            if (lo >= 0 && dim < r.hi && opd->dim[i] != 1)
                return FIT_bad; /* a reduced dim inside the run */
            continue;
        }
        if (dim >= r.lo && dim < r.hi) {
            if (is_reduced && opd->dim[i] != 1)
                return FIT_bad;
            lo = lo < 0 ? i : lo;
            hi = i + 1;
        }
        dim++;
    }
    *out = (Range){(int8_t)lo, (int8_t)hi};
    return lo >= 0 ? FIT_row : FIT_bad;
}

static Fit
fit_transpose(const Graph *g, const Op *op, Range r, Range *out)
{
    const int64_t *perm;
    attr_ints(g->cx, op->attr, A_perm, &perm);
    for (int i = r.lo + 1; i < r.hi; i++)
        if (perm[i] != perm[i - 1] + 1)
            return FIT_bad;
    *out = (Range){(int8_t)perm[r.lo], (int8_t)(perm[r.hi - 1] + 1)};
    return FIT_row;
}

/* The run with the same elements before it and in it: then C order makes its flattened index the same. */
static Fit
fit_reshape(const Type *res, const Type *opd, Range r, Range *out)
{
    int64_t before = range_size(res, (Range){0, r.lo}), size = range_size(res, r), n = 1;
    int lo = 0;
    while (lo < opd->rank && n < before)
        n *= opd->dim[lo++];
    if (n != before)
        return FIT_bad;
    while (lo < opd->rank && opd->dim[lo] == 1 && size != 1)
        lo++;
    int hi = lo;
    for (n = 1; hi < opd->rank && (n < size || hi == lo);)
        n *= opd->dim[hi++];
    *out = (Range){(int8_t)lo, (int8_t)hi};
    return n == size && hi > lo ? FIT_row : FIT_bad;
}

static Fit
fit_slice(const Graph *g, const Op *op, const Type *opd, Range r, Range *out)
{
    const int64_t *start, *step, *size;
    attr_ints(g->cx, op->attr, A_start, &start);
    attr_ints(g->cx, op->attr, A_step, &step);
    attr_ints(g->cx, op->attr, A_size, &size);
    for (int i = r.lo; i < r.hi; i++)
        if (start[i] != 0 || step[i] != 1 || size[i] != opd->dim[i])
            return FIT_bad;
    *out = r;
    return FIT_row;
}

/* Operand 0 holds rows of the result, operand 1 its columns; a run of columns swaps the two. */
static Fit
fit_matmul(const Type *res, const Type *opd, int i, bool outer, Range r, Range *out)
{
    int rank = res->rank, own = i == 0 ? rank - 2 : rank - 1; /* the result dim only this operand has */
    bool batch = r.hi <= rank - 2;
    if (!batch && r.lo <= rank - 2 && r.hi == rank)
        return FIT_bad; /* rows and columns in one run */
    if (batch) {
        Fit f = fit_aligned(res, opd, r, out);
        return f == FIT_row && !outer && i == 1 ? FIT_bad : f; /* a batch of matrices cannot share partitions */
    }
    if (r.hi == own + 1 && r.lo == own) {
        int at = opd->rank - (i == 0 ? 2 : 1);
        *out = (Range){(int8_t)at, (int8_t)(at + 1)};
        return FIT_row;
    }
    if (r.hi == rank - 1 && r.lo < rank - 2) { /* batch and rows flattened: over one matrix for all of the batch */
        if (i == 0)
            return fit_aligned(res, opd, r, out) == FIT_row ? FIT_row : FIT_bad;
        int64_t n = 1;
        for (int d = r.lo; d < rank - 2; d++)
            n *= d - (rank - opd->rank) >= 0 ? opd->dim[d - (rank - opd->rank)] : 1;
        return n == 1 ? FIT_free : FIT_bad;
    }
    return FIT_free;
}

static Fit
fit(const Graph *g, const Op *op, int i, bool outer, Range r, Range *out)
{
    const Type *res = val_type(g, op->out), *opd = val_type(g, op_val(g, op, i));
    uint16_t flags = op_def(g, op)->flags;
    *out = NONE;
    if (r.lo == r.hi)
        return FIT_row; /* one row, no dims: everything carries it */
    if ((flags & F_EW) || op->code == T_broadcast_to)
        return fit_aligned(res, opd, r, out);
    if (flags & F_REDUCE)
        return fit_reduce(g, op, opd, r, out);
    switch (op->code) {
    case T_matmul:
        return fit_matmul(res, opd, i, outer, r, out);
    case T_transpose:
        return fit_transpose(g, op, r, out);
    case T_reshape:
        return fit_reshape(res, opd, r, out);
    case T_slice:
        return fit_slice(g, op, opd, r, out);
    case T_concat: {
        int64_t axis = attr_int(g->cx, op->attr, A_axis, 0);
        *out = r;
        return axis >= r.lo && axis < r.hi ? FIT_bad : FIT_row;
    }
    default:
        return FIT_bad;
    }
}

int
operand_dims(const Graph *g, const Op *op, int i, Range r, Range *out)
{
    Fit f = fit(g, op, i, true, r, out);
    return f == FIT_row ? 1 : f == FIT_free ? 0 : -1;
}

Edge
operand_edge(const Graph *g, const Op *op, int i, Span s)
{
    Edge e = {.role = RO_none};
    Range spine = NONE, outer = NONE;
    if (s.role == RO_acc) /* the span is the operand's own */
        return (Edge){.role = RO_row, .spine = s.spine, .outer = s.outer};
    Fit fs = fit(g, op, i, false, s.spine, &spine);
    Fit fo = fit(g, op, i, true, s.outer, &outer);
    if (fo == FIT_bad || (s.role == RO_row && fs == FIT_bad))
        return e;
    e.outer = fo == FIT_row ? outer : NONE;
    if (s.col.lo < s.col.hi && operand_dims(g, op, i, s.col, &e.col) != 1)
        e.col = NONE;
    if (op->code == T_matmul && i == mat_of(g, op, s.spine).full_arg) {
        e.role = RO_mat;
    } else if (s.role == RO_row && fs == FIT_row) {
        e.role = RO_row;
        e.spine = trim_range(val_type(g, op_val(g, op, i)), spine);
    } else {
        e.role = RO_free;
    }
    return e;
}
