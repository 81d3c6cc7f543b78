/* strides.c - how NumPy lays arrays out in memory, which decides what is a view and what a copy.
 *
 * in:   dims and strides of arrays; strides count elements, NULL stands for C order
 * out:  the strides of what is made of them
 * rule: NumPy's own rules: _attempt_nocopy_reshape, the axis order of nditer with order 'K', PyArray_NewLikeArray.
 *       Strides are facts about NumPy's memory, not about ours: values have none.
 */
#include "tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

void
strides_c(const Type *t, int64_t *stride)
{
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= t->dim[i];
    }
}

bool
strides_are_c(const Type *t, const int64_t *stride)
{
    int64_t step = 1;
    if (type_numel(t) == 0)
        return true;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->dim[i] != 1 && stride[i] != step)
            return false;
        step *= t->dim[i];
    }
    return true;
}

/* Dims other than 1 and their strides; how many. */
static int
long_axes(const Type *t, const int64_t *stride, int64_t *dim, int64_t *by)
{
    int n = 0;
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] == 1)
            continue;
        dim[n] = t->dim[i];
        by[n++] = stride[i];
    }
    return n;
}

bool
strides_reshape(const Type *t, const int64_t *stride, const Type *to, int64_t *out)
{
    int64_t dim[MAX_RANK], by[MAX_RANK];
    int n = long_axes(t, stride, dim, by), from = 0, at = 0;
    if (type_numel(t) == 0) {
        strides_c(to, out);
        return true;
    }
    while (at < to->rank && from < n) { /* runs of axes with as many elements on either side */
        int from_end = from + 1, end = at + 1;
        int64_t had = dim[from], has = to->dim[at];
        while (had != has) {
            if (has < had)
                has *= to->dim[end++];
            else
                had *= dim[from_end++];
        }
        for (int i = from; i + 1 < from_end; i++)
            if (by[i] != dim[i + 1] * by[i + 1])
                return false;
        out[end - 1] = by[from_end - 1];
        for (int i = end - 1; i > at; i--)
            out[i - 1] = out[i] * to->dim[i];
        at = end;
        from = from_end;
    }
    for (int i = at; i < to->rank; i++)
        out[i] = at ? out[at - 1] : 1;
    return true;
}

/* ---- new arrays in the order of others ---- */

static int64_t
stride_along(const Laid *a, int axis, int rank)
{
    int own = axis - (rank - a->type->rank);
    return own < 0 || a->type->dim[own] == 1 ? 0 : llabs(a->stride[own]);
}

typedef enum Order { O_unknown, O_stay, O_swap } Order;

/* Whether axis a, inside of axis b so far, should move outside of it. */
static Order
compare_axes(const Laid *in, int n, int rank, int a, int b)
{
    Order r = O_unknown;
    for (int k = 0; k < n; k++) {
        int64_t sa = stride_along(&in[k], a, rank), sb = stride_along(&in[k], b, rank);
        if (sa == 0 || sb == 0)
            continue;
        if (sb <= sa)
            r = O_stay; /* in doubt, C order wins */
        else if (r == O_unknown)
            r = O_swap;
    }
    return r;
}

/* Axes of the result, innermost first. */
static void
keep_order(const Laid *in, int n, int rank, int *perm)
{
    for (int i = 0; i < rank; i++)
        perm[i] = rank - 1 - i;
    for (int i = 1; i < rank; i++) {
        int axis = perm[i], to = i;
        for (int k = i - 1; k >= 0; k--) {
            Order o = compare_axes(in, n, rank, axis, perm[k]);
            if (o == O_swap)
                to = k;
            else if (o == O_stay)
                break;
        }
        memmove(&perm[to + 1], &perm[to], sizeof(int) * (size_t)(i - to));
        perm[to] = axis;
    }
}

void
strides_keep(const Laid *in, int n, int rank, const int64_t *dim, int64_t *out)
{
    int perm[MAX_RANK];
    int64_t step = 1;
    keep_order(in, n, rank, perm);
    for (int i = 0; i < rank; i++) {
        out[perm[i]] = step;
        step *= dim[perm[i]];
    }
}

void
strides_copy(const Laid *a, int64_t *out)
{
    int perm[MAX_RANK], rank = a->type->rank;
    int64_t step = 1;
    for (int i = 0; i < rank; i++) { /* outermost first; equal strides stay in order */
        int to = i;
        while (to > 0 && llabs(a->stride[perm[to - 1]]) < llabs(a->stride[i])) {
            perm[to] = perm[to - 1];
            to--;
        }
        perm[to] = i;
    }
    for (int i = rank - 1; i >= 0; i--) {
        out[perm[i]] = step;
        step *= a->type->dim[perm[i]];
    }
}
