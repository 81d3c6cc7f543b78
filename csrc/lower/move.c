/* move.c - elements that move within HBM: layout ops and concats that no spine suits.
 *
 * in:   a group with one member, whose operands are stored, sources or views
 * out:  one DMA per operand, from its view to its place in the result; dims beyond what a pattern holds become loops
 * rule: both sides are strided forms of the same dims, merged where both allow it; the chip is not touched, except that
 *       a constant is filled into a row of it first, and that what is turned around (reverse.c) or would move in short
 *       runs (restride.c) goes through it.
 */
#include "lower/context.h"

#define FILL_ELEMS 2048 /* of a constant's row on chip */

static Ref
moved_ref(const Ref *base, const Move *m, const int64_t *stride, int first)
{
    Ref r = *base;
    r.ap.ndim = 0;
    for (int i = first; i < m->dims.n; i++)
        r.ap.dim[r.ap.ndim++] = (ApDim){m->dims.count[i], stride[i]};
    if (r.ap.ndim == 0)
        r.ap.dim[r.ap.ndim++] = (ApDim){1, 1};
    return r;
}

static Status
run_move(Lower *l, const Move *m)
{
    int most = (int)(m->src.ap.nparts ? l->hw->ap_free_dims : l->hw->ap_dma_dims), loops = MAX(m->dims.n - most, 0);
    Affine to = m->dst.ap.off, from = m->src.ap.off;
    for (int i = 0; i < loops; i++) {
        Affine at;
        TRY(loop_begin(l, m->dims.count[i], &at));
        to = affine_add(to, affine_scale(at, m->dims.to[i]));
        from = affine_add(from, affine_scale(at, m->dims.from[i]));
    }
    Ref dst = moved_ref(&m->dst, m, m->dims.to, loops), src = moved_ref(&m->src, m, m->dims.from, loops);
    dst.ap.off = to;
    src.ap.off = from;
    TRY(transfer(l, &dst, &src));
    for (int i = loops; i-- > 0;)
        TRY(loop_end_of(l, m->dims.count[i]));
    return ST_OK;
}

/* Short runs go through the chip where that takes less time. */
static Status
move_strided(Lower *l, const Move *m, DType dt)
{
    Blocks b;
    bool converts = val_dtype(l->out, m->dst.buf) != val_dtype(l->out, m->src.buf);
    if (!converts && choose_blocks(&m->dims, l->hw, dtypes[dt].bytes, &b))
        return move_blocks(l, m, &b, dt);
    return run_move(l, m);
}

/* A row of the constant on chip, which the innermost dims walk and the others repeat. */
static Status
fill_source(Lower *l, double value, DType dt, Move *m)
{
    int64_t inner = 1;
    int last = m->dims.n - 1;
    if (m->dims.n && m->dims.to[last] == 1)
        for (inner = MIN(m->dims.count[last], FILL_ELEMS); m->dims.count[last] % inner; inner--)
            continue;
    if (inner > 1 && inner < m->dims.count[last]) { /* the row repeats along its dim */
        m->dims.count[last] /= inner;
        m->dims.to[last] = inner;
        m->dims.count[m->dims.n] = inner;
        m->dims.to[m->dims.n++] = 1;
    }
    m->src = (Ref){.ap = {.nparts = 1, .off = affine_const(0), .ndim = 1, .dim = {{inner, 1}}}};
    TRY(new_buffer(l, SP_sbuf, dt, 1, inner, 1, &m->src.buf));
    AttrItem at = AT_FLT(A_imm0, value);
    TRY(emit(l, K_memset, &m->src, 1, &at, 1));
    for (int i = 0; i < m->dims.n; i++)
        m->dims.from[i] = i == m->dims.n - 1 && inner > 1 ? 1 : 0;
    return ST_OK;
}

/* Dims of t, v's or the result's: from its view `from` (none: a constant) to `at` elements into the result. */
static Status
move_to(Lower *l, const Op *op, Val v, const Type *t, const View *from, Val buf, int64_t at, Val dst)
{
    View to = view_stored(l->p, op->out);
    Move m = {.dims = {.n = 0}};
    double imm;
    bool splat = is_splat(l->g, v, &imm);
    m.dst.buf = dst;
    m.dst.ap.off = affine_const(to.off + at);
    for (int i = 0; i < t->rank; i++)
        strided_add(&m.dims, t->dim[i], to.stride[i], splat ? to.stride[i] : from->stride[i]);
    if (splat) {
        TRY(fill_source(l, imm, (DType)t->dtype, &m));
    } else {
        m.src.buf = buf;
        m.src.ap.off = affine_const(from->off);
    }
    for (int i = 0; i < m.dims.n; i++)
        if (m.dims.from[i] < 0)
            return move_reversed(l, &m, (DType)t->dtype);
    return splat ? run_move(l, &m) : move_strided(l, &m, (DType)t->dtype);
}

/* To where it lives, in SBUF or HBM; a result that lives in SBUF goes to both. */
static Status
move_value(Lower *l, const Op *op, Val v, const Type *t, const View *from, Val buf, int64_t at)
{
    Val hbm, base = view_stored(l->p, op->out).base, home = l->chip[base.i].buf;
    if (home.i)
        TRY(move_to(l, op, v, t, from, buf, at, home));
    if (home.i && l->hbm[base.i].i == 0)
        return ST_OK;
    TRY(hbm_buffer(l, base, &hbm));
    return move_to(l, op, v, t, from, buf, at, hbm);
}

static Status
move_parts(Lower *l, const Op *op)
{
    int64_t axis = attr_int(l->cx, op->attr, A_axis, 0), at = 0;
    View whole = view_identity(l->g, op->out);
    for (int i = 0; i < op->nin; i++) {
        Val v = op_val(l->g, op, i), buf = {0};
        const Type *t = val_type(l->g, v);
        View w = {.base = v};
        double imm;
        bool in_place = l->p->part_of[v.i].i == op->out.i || type_numel(t) == 0;
        if (!in_place && !is_splat(l->g, v, &imm))
            TRY(view_in_hbm(l, v, &w, &buf));
        if (!in_place)
            TRY(move_value(l, op, v, t, &w, buf, at * whole.stride[axis]));
        at += t->dim[axis];
    }
    return ST_OK;
}

Status
lower_move(Lower *l, const Op *op)
{
    View w, moved;
    Val buf, v;
    l->loc = op->loc;
    if (op->code == T_concat)
        return move_parts(l, op);
    v = op_val(l->g, op, 0);
    TRY(view_in_hbm(l, v, &w, &buf));
    if (!view_step(l->g, op, &w, &moved))
        return fail(l->cx, ST_BUG, op->loc, "NKI-4004 lower: %s of a view has no strided form", op_def(l->g, op)->name);
    return move_value(l, op, v, val_type(l->g, op->out), &moved, buf, 0);
}
