/* box.c - the part of an array that a slice reads and an update writes, and what one becomes at the other.
 *
 * in:   ops update and slice, or start, step and size per axis
 * out:  how two boxes lie to each other; what an update folds to, and a slice of one
 * rule: a slice looks at the last few updates of a chain; the whole chain is for pass/updates.c
 */
#include "tensor/tensor.h"

#define LOOK_BACK 16 /* updates of a chain that a slice looks at */

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

static int64_t
last_index(const Box *b, int i)
{
    return b->start[i] + b->step[i] * (b->size[i] - 1);
}

bool
box_covers(const Box *b, int axis, int64_t dim)
{
    return b->start[axis] == 0 && b->size[axis] == dim && (b->step[axis] == 1 || dim <= 1);
}

static bool
covers_all(const Box *b, const Type *t)
{
    bool all = true;
    for (int i = 0; i < t->rank; i++)
        all &= box_covers(b, i, t->dim[i]);
    return all;
}

/* false when in doubt */
static bool
is_disjoint(const Box *a, const Box *b)
{
    for (int i = 0; i < a->rank; i++) {
        int64_t a0 = MIN(a->start[i], last_index(a, i)), a1 = MAX(a->start[i], last_index(a, i));
        int64_t b0 = MIN(b->start[i], last_index(b, i)), b1 = MAX(b->start[i], last_index(b, i));
        if (a->size[i] == 0 || b->size[i] == 0 || a1 < b0 || b1 < a0)
            return true;
        int64_t d = a0 - b0, period = gcd(a->step[i], b->step[i]);
        if (a->size[i] > 1 && b->size[i] > 1 && d % period != 0)
            return true;
    }
    return false;
}

/* rel: inner in the coordinates of outer */
static bool
is_within(const Box *outer, const Box *inner, Box *rel)
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
        int64_t last = last_index(rel, i);
        if (rel->start[i] < 0 || rel->start[i] >= outer->size[i] || last < 0 || last >= outer->size[i])
            return false;
    }
    return true;
}

/* ---- folds ---- */

/* update(b, update(slice(b, box), v, inner), box) writes only v. */
static bool
is_nested(const Graph *g, Val base, Val value, AttrId attr, Box *box, Val *v)
{
    const Op *u = val_def(g, value);
    if (u->code != T_update)
        return false;
    const Op *s = val_def(g, op_val(g, u, 0));
    if (s->code != T_slice || s->attr.i != attr.i || op_val(g, s, 0).i != base.i)
        return false;
    Box in = box_of(g, u);
    for (int i = 0; i < in.rank; i++) {
        box->start[i] += box->step[i] * in.start[i];
        box->step[i] *= in.step[i];
        box->size[i] = in.size[i];
    }
    *v = op_val(g, u, 1);
    return true;
}

/* The value before the updates that `box` writes over, as far as they are the last ones. Each leaves its chain for
 * good, so that a chain is walked once. */
static Val
before_overwritten(const Graph *g, Val base, const Box *box)
{
    for (const Op *u = val_def(g, base); u->code == T_update; u = val_def(g, base)) {
        Box old = box_of(g, u), rel;
        if (!is_within(box, &old, &rel))
            break;
        base = op_val(g, u, 0);
    }
    return base;
}

Status
t_fold_update(Graph *g, const Val *in, AttrId attr, LocId loc, Val *out)
{
    Box box = box_of(g, &(Op){.attr = attr});
    Val base = in[0], value = in[1];
    const Op *d = val_def(g, value);
    if (type_numel(val_type(g, value)) == 0 ||
        (d->code == T_slice && d->attr.i == attr.i && op_val(g, d, 0).i == base.i)) { /* writes what is there */
        *out = base;
        return ST_OK;
    }
    if (covers_all(&box, val_type(g, base))) {
        *out = value;
        return ST_OK;
    }
    bool nested = is_nested(g, base, value, attr, &box, &value);
    base = before_overwritten(g, base, &box);
    if (nested || base.i != in[0].i)
        return t_update(g, base, value, &box, loc, out);
    return ST_OK;
}

Status
t_fold_slice_of_update(Graph *g, Val x, AttrId attr, LocId loc, Val *out)
{
    Box box = box_of(g, &(Op){.attr = attr}), rel;
    Val base = x;
    int n = 0;
    for (const Op *u = val_def(g, base); u->code == T_update; u = val_def(g, base)) {
        Box written = box_of(g, u);
        if (is_within(&written, &box, &rel))
            return t_slice(g, op_val(g, u, 1), rel.start, rel.step, rel.size, loc, out);
        if (!is_disjoint(&written, &box))
            break;
        if (++n == LOOK_BACK)
            return ST_OK; /* a slice of something in the middle would look on from there */
        base = op_val(g, u, 0);
    }
    if (base.i == x.i)
        return ST_OK;
    return t_slice(g, base, box.start, box.step, box.size, loc, out);
}

/* ---- building ---- */

/* Writes the same elements in ascending order. */
static Status
ascending(Graph *g, Box *b, Val *value, LocId loc)
{
    Box flip = box_whole(val_type(g, *value));
    bool any = false;
    for (int i = 0; i < b->rank; i++) {
        if (b->size[i] <= 1) {
            b->step[i] = 1;
            b->start[i] = b->size[i] ? b->start[i] : 0;
        } else if (b->step[i] < 0) {
            b->start[i] = last_index(b, i);
            b->step[i] = -b->step[i];
            flip.start[i] = flip.size[i] - 1;
            flip.step[i] = -1;
            any = true;
        }
    }
    return any ? t_slice(g, *value, flip.start, flip.step, flip.size, loc, value) : ST_OK;
}

Status
t_update(Graph *g, Val base, Val value, const Box *box, LocId loc, Val *out)
{
    Box b = *box;
    AttrId attr;
    TRY(ascending(g, &b, &value, loc));
    AttrItem item[3] = {AT_INTS(A_start, b.start, b.rank), AT_INTS(A_step, b.step, b.rank),
                        AT_INTS(A_size, b.size, b.rank)};
    TRY(attr_make(g->cx, item, 3, &attr));
    return t_emit(g, T_update, (Val[]){base, value}, 2, attr, loc, out);
}
