/* box.c - the part of an array that a slice reads and an update writes.
 *
 * in:   ops update and slice, or start, step and size per axis
 * out:  how two boxes lie to each other
 * rule: constant time; when in doubt, they meet
 */
#include "tensor/tensor.h"

Box
box_of(const Graph *g, const Op *op)
{
    Box b = {0};
    const int64_t *start, *step, *size;
    b.rank = attr_ints(g->cx, op->attr, A_start, &start);
    attr_ints(g->cx, op->attr, A_step, &step);
    attr_ints(g->cx, op->attr, A_size, &size);
    for (int i = 0; i < b.rank; i++) {
        b.start[i] = size[i] ? start[i] : 0;
        b.step[i] = size[i] > 1 ? step[i] : 1; /* one spelling for what does not matter */
        b.size[i] = size[i];
    }
    return b;
}

Box
box_whole(const Type *t)
{
    Box b = {.rank = t->rank};
    for (int i = 0; i < t->rank; i++) {
        b.step[i] = 1;
        b.size[i] = t->dim[i];
    }
    return b;
}

int64_t
box_last(const Box *b, int i)
{
    return b->start[i] + b->step[i] * (b->size[i] - 1);
}

bool
box_covers(const Box *b, int axis, int64_t dim)
{
    return b->start[axis] == 0 && b->size[axis] == dim && (b->step[axis] == 1 || dim <= 1);
}

bool
box_covers_all(const Box *b, const Type *t)
{
    bool all = true;
    for (int i = 0; i < t->rank; i++)
        all &= box_covers(b, i, t->dim[i]);
    return all;
}

bool
box_is_disjoint(const Box *a, const Box *b)
{
    for (int i = 0; i < a->rank; i++) {
        int64_t a0 = MIN(a->start[i], box_last(a, i)), a1 = MAX(a->start[i], box_last(a, i));
        int64_t b0 = MIN(b->start[i], box_last(b, i)), b1 = MAX(b->start[i], box_last(b, i));
        if (a->size[i] == 0 || b->size[i] == 0 || a1 < b0 || b1 < a0)
            return true;
        int64_t d = a0 - b0, period = gcd(a->step[i], b->step[i]);
        if (a->size[i] > 1 && b->size[i] > 1 && d % period != 0)
            return true;
    }
    return false;
}

bool
box_is_within(const Box *outer, const Box *inner, Box *rel)
{
    *rel = *inner;
    for (int i = 0; i < outer->rank; i++) {
        int64_t step = outer->size[i] > 1 ? outer->step[i] : 1, off = inner->start[i] - outer->start[i];
        if (inner->size[i] == 0)
            continue;
        if (off % step != 0 || (inner->size[i] > 1 && inner->step[i] % step != 0))
            return false;
        rel->start[i] = off / step;
        rel->step[i] = inner->size[i] > 1 ? inner->step[i] / step : 1;
        int64_t last = box_last(rel, i);
        if (rel->start[i] < 0 || rel->start[i] >= outer->size[i] || last < 0 || last >= outer->size[i])
            return false;
    }
    return true;
}
