/* io.c - what crosses between HBM and chip: row tiles in and out, values that all rows share.
 *
 * in:   a value in HBM and its span, or a row tile of it on chip
 * out:  DMAs, and the tile that they fill or empty
 * rule: a row tile moves as it lies, in as few DMAs as patterns hold; what all rows share is replicated over the
 *       partitions
 */
#include "lower/context.h"

#define TINY_BYTES 256 /* replicated straight from HBM: 128 reads of it cost less than a shuffle */

Status
tile_of(Lower *l, Val v, Span s, DType dt, int bufs, Tile *out)
{
    *out = (Tile){.dt = dt};
    tile_strides(l, v, s, out);
    int64_t elems = row_elems(l, v, s) * per_of(l, s);
    if (s.role != RO_row)
        out->rstride = 0;
    return new_buffer(l, SP_sbuf, out->dt, parts_of(l, s), elems, bufs, &out->buf);
}

Status
plain_tile(Lower *l, Val v, Span s, int bufs, Tile *out)
{
    return tile_of(l, v, s, tile_dtype(l, v, s), bufs, out);
}

/* ---- HBM ---- */
Status
hbm_buffer(Lower *l, Val base, Val *buf)
{
    const Graph *g = l->g;
    const Op *op = val_def(g, base);
    if (l->hbm[base.i].i == 0) {
        const Type *t = val_type(g, base);
        if (op->code == T_const)
            TRY(k_const_buffer(l->out, attr_find(g->cx, op->attr, A_data)->data, (DType)t->dtype, t->rank, t->dim, -1,
                               op->loc, &l->hbm[base.i]));
        else
            TRY(k_buffer(l->out, SP_hbm, BK_scratch, (DType)t->dtype, t->rank, t->dim, 1, -1, NULL, op->loc,
                         &l->hbm[base.i]));
        VEC_PUSH(l->cx, l->a, &l->in_hbm, base);
    }
    *buf = l->hbm[base.i];
    return ST_OK;
}

Status
view_in_hbm(Lower *l, Val v, View *w, Val *buf)
{
    Val base = l->p->view_base[v.i].i ? l->p->view_base[v.i] : v;
    if (!view_between(l->g, base, v, w))
        return fail(l->cx, ST_BUG, l->loc, "NKI-4002 lower: a view that fusion accepted has no strided form");
    if (l->chip[base.i].buf.i) {
        *buf = l->chip[base.i].buf;
        return ST_OK;
    }
    return hbm_buffer(l, base, buf);
}

static void
push_dim(Ap *ap, int64_t count, int64_t stride)
{
    if (count == 1 || ap->ndim > MAX_AP_DIMS)
        return;
    ApDim *last = ap->ndim ? &ap->dim[ap->ndim - 1] : NULL;
    if (last && last->stride == stride * count && ap->ndim > 1)
        *last = (ApDim){last->count * count, stride};
    else if (ap->ndim < MAX_AP_DIMS)
        ap->dim[ap->ndim++] = (ApDim){count, stride};
    else
        ap->ndim = MAX_AP_DIMS + 1; /* too many: move_rows will loop over some */
}

/* The row tile of v in HBM: partitions first, then the free dims without those in skip, and the rows per partition in
 * their place among them. */
static Ref
hbm_rows(const Lower *l, Val v, const View *w, Val buf, Span s, uint32_t skip, int parts, int64_t per)
{
    const Type *t = val_type(l->g, v);
    Ref r = {.buf = buf};
    int64_t rs;
    int at = rows_before(l, v, s);
    view_uniform(t, w, s.spine, &rs);
    r.ap.off = hbm_offset(l, v, w, s, s.role == RO_row);
    RowMap map = row_map(l->gr, l->hw, per);
    r.ap.dim[r.ap.ndim++] = (ApDim){parts, rs * map.lane};
    for (int i = 0; i <= t->rank; i++) {
        if (i == at)
            push_dim(&r.ap, per, rs * map.slot);
        if (i < t->rank && is_free_dim(s, i) && !(skip >> i & 1))
            push_dim(&r.ap, span_dim(l, t, s, i), w->stride[i]);
    }
    return r;
}

static Ref
chip_rows(const Lower *l, Val v, const Tile *t, Span s, uint32_t skip, int parts, int64_t per)
{
    const Type *ty = val_type(l->g, v);
    Ref r = {.buf = t->buf, .ap = {.off = t->off, .nparts = parts}};
    ApDim head = {1, 0}; /* push_dim never merges into the first dim: give it one to keep apart, then drop it */
    int at = rows_before(l, v, s);
    r.ap.dim[r.ap.ndim++] = head;
    for (int i = 0; i <= ty->rank; i++) {
        if (i == at)
            push_dim(&r.ap, per, t->rstride);
        if (i < ty->rank && is_free_dim(s, i) && !(skip >> i & 1))
            push_dim(&r.ap, span_dim(l, ty, s, i), t->stride[i]);
    }
    r.ap.ndim--;
    for (uint32_t i = 0; i < r.ap.ndim && i + 1 < MAX_AP_DIMS; i++)
        r.ap.dim[i] = r.ap.dim[i + 1];
    return r;
}

/* Rows that are neighbours in memory: read the other way round and turned on the way. */
static bool
wants_transpose(const Ref *src, const Ref *dst)
{
    const Ap *s = &src->ap, *d = &dst->ap;
    return s->ndim == 2 && s->dim[0].stride == 1 && s->dim[0].count > 1 && s->dim[1].stride != 1 && d->ndim == 1;
}

/* Rows that lie along the slots of a home, one after the other in a lane: turned 128 lanes at a time. */
static Status
turn_lanes(Lower *l, const Ref *dst, const InHome *home, int64_t rows, int64_t others)
{
    for (int64_t done = 0; done < others; done += PE) {
        int lanes = (int)MIN(PE, others - done);
        Affine from = affine_add(home->off, affine_const(done / PE * home->slot));
        Affine to = affine_add(dst->ap.off, affine_const(done * dst->ap.dim[0].stride));
        Turn t = {.src = home->buf, .from = from, .k = rows, .ks = home->step, .rows = lanes};
        t.dst = dst->buf;
        t.to = to;
        t.rs = dst->ap.dim[0].stride;
        Ref d = *dst, s = {.buf = home->buf, .ap = {.off = from, .nparts = lanes, .ndim = 1, .dim = {{rows, t.ks}}}};
        d.ap.off = to;
        d.ap.dim[0].count = lanes;
        TRY(l->hw->dma_transpose ? dma(l, K_dma_transpose, &d, &s) : turn_exact(l, &t));
    }
    return ST_OK;
}

static Status
load_transposed(Lower *l, const Ref *dst, const Ref *src, DType dt)
{
    ApDim rows = src->ap.dim[0], other = src->ap.dim[1];
    bool equal = val_dtype(l->out, src->buf) == dt;
    if (chip_of(l, src->buf)) {
        InHome home;
        Matrix at = {
            .buf = src->buf, .off = src->ap.off, .k = rows.count, .ks = 1, .n = other.count, .ns = other.stride};
        if (home_matrix(l, &at, &home) && home.turned && equal && dtypes[dt].bytes > 1)
            return turn_lanes(l, dst, &home, rows.count, other.count);
        return transfer(l, dst, src);
    }
    if (l->hw->dma_transpose && equal && (dtypes[dt].bytes == 4 || dtypes[dt].bytes == 2)) {
        Ref turned = *src;
        turned.ap.dim[0] = other;
        turned.ap.dim[1] = rows;
        return dma(l, K_dma_transpose, dst, &turned);
    }
    Matrix m = {.buf = src->buf, .off = src->ap.off, .k = rows.count, .ks = 1, .n = other.count, .ns = other.stride};
    Turn t = {.dst = dst->buf, .to = dst->ap.off, .rs = dst->ap.dim[0].stride};
    return load_turned(l, &m, &t, TURN_exact);
}

static bool
fits_patterns(const Lower *l, const Ref *hbm, const Ref *chip)
{
    return hbm->ap.ndim <= (uint32_t)l->hw->ap_dma_dims && chip->ap.ndim <= (uint32_t)l->hw->ap_free_dims;
}

/* A row tile between HBM and chip. Free dims beyond what access patterns hold become loops, the first ones first. */
static Status
move_rows(Lower *l, Val v, const View *w, Val buf, Span s, const Tile *t, int parts, int64_t per, bool load)
{
    const Type *ty = val_type(l->g, v);
    uint32_t looped = 0;     /* dims */
    int64_t turns[MAX_RANK]; /* of their loops */
    int loops = 0;
    Ref hbm = hbm_rows(l, v, w, buf, s, looped, parts, per);
    Ref chip = chip_rows(l, v, t, s, looped, parts, per);
    for (int i = 0; i < ty->rank && !fits_patterns(l, &hbm, &chip); i++) {
        Affine at;
        int64_t n = span_dim(l, ty, s, i);
        if (!is_free_dim(s, i) || n == 1)
            continue;
        TRY(loop_begin(l, n, &at));
        turns[loops++] = n;
        looped |= 1u << i;
        Affine from = affine_add(hbm.ap.off, affine_scale(at, w->stride[i]));
        Affine to = affine_add(chip.ap.off, affine_scale(at, t->stride[i]));
        hbm = hbm_rows(l, v, w, buf, s, looped, parts, per);
        chip = chip_rows(l, v, t, s, looped, parts, per);
        hbm.ap.off = from;
        chip.ap.off = to;
    }
    TRY(transfer(l, load ? &chip : &hbm, load ? &hbm : &chip));
    while (loops > 0)
        TRY(loop_end_of(l, turns[--loops]));
    return ST_OK;
}

Status
load_rows(Lower *l, Val v, Span s, Tile *out)
{
    View w;
    Val buf;
    TRY(view_in_hbm(l, v, &w, &buf));
    if (home_rows(l, v, &w, buf, s, out))
        return ST_OK;
    TRY(plain_tile(l, v, s, l->in_loop ? l->gr->bufs : 1, out));
    Ref src = hbm_rows(l, v, &w, buf, s, 0, l->parts, l->per);
    Ref dst = chip_rows(l, v, out, s, 0, l->parts, l->per);
    if (wants_transpose(&src, &dst))
        return load_transposed(l, &dst, &src, out->dt);
    return move_rows(l, v, &w, buf, s, out, l->parts, l->per, true);
}

/* One row to every partition: to the first lane of each quadrant, then a shuffle spreads it. */
static Status
spread(Lower *l, const Ref *row, DType dt, int64_t elems, int parts, Tile *out)
{
    static const int64_t lanes[32] = {0};
    int quads = CEIL_DIV(parts, 32);
    Val seed;
    Affine q;
    TRY(new_buffer(l, SP_sbuf, dt, quads * 32, elems, 1, &seed));
    TRY(loop_begin(l, quads, &q));
    Ref dst = {.buf = seed, .ap = {.part = affine_scale(q, 32), .nparts = 1, .ndim = 1, .dim = {{elems, 1}}}};
    TRY(transfer(l, &dst, row));
    TRY(loop_end_of(l, quads));
    TRY(new_buffer(l, SP_sbuf, dt, quads * 32, elems, 1, &out->buf));
    Ref all = {.buf = seed, .ap = {.nparts = quads * 32, .ndim = 1, .dim = {{elems, 1}}}};
    Ref io[2] = {{.buf = out->buf, .ap = all.ap}, all};
    AttrItem mask = AT_INTS(A_mask, lanes, 32);
    return emit(l, K_nc_stream_shuffle, io, 2, &mask, 1);
}

Status
load_free(Lower *l, Val v, Span s, Tile *out)
{
    View w;
    Val buf;
    TRY(view_in_hbm(l, v, &w, &buf));
    int parts = parts_of(l, s);
    int64_t elems = row_elems(l, v, s);
    *out = (Tile){.dt = tile_dtype(l, v, s)};
    tile_strides(l, v, s, out);
    out->rstride = 0;
    Ref src = hbm_rows(l, v, &w, buf, s, 0, 1, 1);
    if (parts > 1 && (elems * dtypes[out->dt].bytes > TINY_BYTES || chip_of(l, buf)))
        return spread(l, &src, out->dt, elems, parts, out);
    src.ap.dim[0] = (ApDim){parts, 0};
    TRY(new_buffer(l, SP_sbuf, out->dt, parts, elems, 1, &out->buf));
    Ref dst = chip_rows(l, v, out, s, 0, parts, 1);
    return transfer(l, &dst, &src);
}

Status
fill_tile(Lower *l, Val v, Span s, double value, Tile *out)
{
    TRY(plain_tile(l, v, s, 1, out));
    Ref dst = chip_rows(l, v, out, s, 0, parts_of(l, s), per_of(l, s));
    AttrItem at = AT_FLT(A_imm0, value);
    return emit(l, K_memset, &dst, 1, &at, 1);
}

/* Where the current row tile of a stored value is to be written, if it lives in SBUF and as it stands there. */
bool
home_tile(const Lower *l, Val v, Tile *out)
{
    View w = view_stored(l->p, v);
    Val home = l->chip[w.base.i].buf;
    return l->p->stored[v.i] && home.i && home_rows(l, v, &w, home, l->p->span[v.i], out);
}

/* A stored value's row tile goes home, and to its own buffer in HBM, which is an output's or scratch. */
Status
store_tile(Lower *l, Val v, const Tile *t, Span s, int parts, int64_t per)
{
    Val buf;
    View w = view_stored(l->p, v);
    Val home = l->chip[w.base.i].buf;
    if (home.i && t->buf.i != home.i)
        TRY(move_rows(l, v, &w, home, s, t, parts, per, false));
    if (home.i && l->hbm[w.base.i].i == 0)
        return ST_OK; /* nobody outside wants it */
    TRY(hbm_buffer(l, w.base, &buf));
    return move_rows(l, v, &w, buf, s, t, parts, per, false);
}
