/* restride.c - a move in blocks: loaded in long runs, put in the order of the result on chip, stored in long runs.
 *
 * in:   a move and how blocks.c cuts it
 * out:  for whole blocks, and for what is left at the end of each dim, loops around a load, a copy and a store
 * rule: a block is [lanes][its elements in the order of the source], then the same in the order of the result. A copy
 *       converts nothing, so that every bit pattern stays; where both orders are one there is none.
 */
#include "lower/blocks.h"
#include "lower/context.h"

#define PARTS 3 /* of a dim: whole blocks; what is left in fewer lanes; what is left of a lane */

typedef struct Part {
    int64_t times, inner, lanes, at; /* blocks; their elements in a lane, lanes; the first element */
} Part;

typedef struct Piece { /* what one set of loops moves: a part of each dim */
    const Strided *m;
    const Blocks *b;
    Part part[MAX_RANK];
    DType dt;
    Ref dst, src;
    bool in_loop;
} Piece;

static Part
part_of(int64_t count, int64_t inner, int64_t lanes, int which)
{
    int64_t block = inner * lanes, whole = count / block, rest = count % block;
    if (which == 0)
        return (Part){whole, inner, lanes, 0};
    if (which == 1)
        return (Part){rest >= inner, inner, rest / inner, whole * block};
    return (Part){rest % inner > 0, rest % inner, 1, count - rest % inner};
}

/* A block on chip, its dims in `order` (innermost first): their strides, and how many elements there are. */
static int64_t
dense_strides(const Piece *p, const int *order, int64_t unit, int64_t *stride)
{
    int64_t n = unit;
    for (int i = 0; i < p->m->n; i++) {
        stride[order[i]] = n;
        n *= p->part[order[i]].inner;
    }
    return n;
}

/* The same dim in two patterns, merged with the one before where both allow it; the first `apart` of a stay. */
static void
push_both(Ap *a, uint32_t apart, Ap *b, int64_t count, int64_t a_stride, int64_t b_stride)
{
    ApDim *x = a->dim + a->ndim, *y = b->dim + b->ndim;
    if (count == 1)
        return;
    if (a->ndim > apart && x[-1].stride == a_stride * count && y[-1].stride == b_stride * count) {
        x[-1] = (ApDim){x[-1].count * count, a_stride};
        y[-1] = (ApDim){x[-1].count, b_stride};
        return;
    }
    *x = (ApDim){count, a_stride};
    *y = (ApDim){count, b_stride};
    a->ndim++;
    b->ndim++;
}

/* The block in HBM and on chip. Elements of the source between those that are wanted come along: the innermost run is
 * longer. */
static void
block_refs(const Piece *p, const int64_t *far, const int64_t *near, const int *order, int64_t unit, Ref *hbm, Ref *chip)
{
    const Part *row = &p->part[p->b->row];
    hbm->ap.ndim = 1;
    hbm->ap.dim[0] = (ApDim){row->lanes, far[p->b->row] * row->inner};
    chip->ap.ndim = 0;
    for (int i = p->m->n; i-- > 0;)
        push_both(&hbm->ap, 1, &chip->ap, p->part[order[i]].inner, far[order[i]], near[order[i]]);
    ApDim *last = &hbm->ap.dim[hbm->ap.ndim - 1];
    if (unit > 1 && chip->ap.ndim > 0 && last->stride == unit)
        *last = chip->ap.dim[chip->ap.ndim - 1] = (ApDim){(last->count - 1) * unit + 1, 1};
}

static Status
copy_block(Lower *l, const Piece *p, const Ref *to, const int64_t *to_stride, const Ref *from,
           const int64_t *from_stride)
{
    Ref io[2] = {*to, *from};
    io[0].ap.ndim = io[1].ap.ndim = 0;
    for (int i = p->m->n; i-- > 0;) {
        int d = p->b->by_to[i];
        push_both(&io[0].ap, 0, &io[1].ap, p->part[d].inner, to_stride[d], from_stride[d]);
    }
    return emit(l, K_tensor_copy, io, 2, NULL, 0);
}

/* A DMA for every index of the lanes that are not the row's, which are neighbours. */
static Status
move_rows(Lower *l, const Piece *p, Ref hbm, const int64_t *far, Ref chip, bool load)
{
    int64_t rows = p->part[p->b->row].lanes;
    chip.ap.nparts = (int32_t)rows;
    for (int i = 0; i < p->m->n; i++) {
        const Part *t = &p->part[i];
        Affine at;
        if (i == p->b->row)
            continue;
        TRY(loop_begin(l, t->lanes, &at));
        hbm.ap.off = affine_add(hbm.ap.off, affine_scale(at, far[i] * t->inner));
        chip.ap.part = affine_add(chip.ap.part, affine_scale(at, rows));
        rows *= t->lanes;
    }
    TRY(transfer(l, load ? &chip : &hbm, load ? &hbm : &chip));
    for (int i = p->m->n; i-- > 0;)
        if (i != p->b->row)
            TRY(loop_end_of(l, p->part[i].lanes));
    return ST_OK;
}

static Status
move_block(Lower *l, const Piece *p)
{
    int64_t in[MAX_RANK], out[MAX_RANK], nparts = 1;
    int64_t loaded = dense_strides(p, p->b->by_from, p->b->unit, in), stored = dense_strides(p, p->b->by_to, 1, out);
    bool same = true;
    for (int i = 0; i < p->m->n; i++) {
        nparts *= p->part[i].lanes;
        same = same && (in[i] == out[i] || p->part[i].inner == 1);
    }
    Ref src = p->src, dst = p->dst, a = {.ap = {.nparts = (int32_t)nparts}}, b;
    TRY(new_buffer(l, SP_sbuf, p->dt, (int)nparts, loaded, p->in_loop ? 2 : 1, &a.buf));
    block_refs(p, p->m->from, in, p->b->by_from, p->b->unit, &src, &a);
    TRY(move_rows(l, p, src, p->m->from, a, true));
    b = a;
    if (!same)
        TRY(new_buffer(l, SP_sbuf, p->dt, (int)nparts, stored, p->in_loop ? 2 : 1, &b.buf));
    block_refs(p, p->m->to, out, p->b->by_to, 1, &dst, &b);
    if (!same)
        TRY(copy_block(l, p, &b, out, &a, in));
    return move_rows(l, p, dst, p->m->to, b, false);
}

static Status
move_piece(Lower *l, Piece *p)
{
    for (int i = 0; i < p->m->n; i++) {
        const Part *t = &p->part[i];
        Affine at;
        TRY(loop_begin(l, t->times, &at));
        at = affine_add(affine_scale(at, t->inner * t->lanes), affine_const(t->at));
        p->in_loop |= t->times > 1;
        p->dst.ap.off = affine_add(p->dst.ap.off, affine_scale(at, p->m->to[i]));
        p->src.ap.off = affine_add(p->src.ap.off, affine_scale(at, p->m->from[i]));
    }
    TRY(move_block(l, p));
    for (int i = p->m->n; i-- > 0;)
        TRY(loop_end_of(l, p->part[i].times));
    return ST_OK;
}

Status
move_blocks(Lower *l, const Move *m, const Blocks *b, DType dt)
{
    const Strided *dims = &m->dims;
    int64_t pieces = 1;
    for (int i = 0; i < dims->n; i++)
        pieces *= PARTS;
    for (int64_t k = 0; k < pieces; k++) {
        Piece p = {.m = dims, .b = b, .dt = dt == DT_bool ? DT_u8 : dt, .dst = m->dst, .src = m->src};
        bool any = true;
        int64_t rest = k;
        for (int i = 0; i < dims->n; i++, rest /= PARTS) {
            p.part[i] = part_of(dims->count[i], b->inner[i], b->lanes[i], (int)(rest % PARTS));
            any = any && p.part[i].times > 0 && p.part[i].lanes > 0;
        }
        if (any)
            TRY(move_piece(l, &p));
    }
    return ST_OK;
}
