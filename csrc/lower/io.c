/* io.c - what crosses between HBM and chip: row tiles in and out, values that all rows share, buffers.
 *
 * A leaf is an operand that this group does not compute. A row leaf is loaded once per row tile, a free leaf once per
 * group (or outer iteration) and replicated over the partitions.
 */
#include "lower/context.h"

#define SMALL_ELEMS 16 /* elements per partition that may as well be f32 */
#define TINY_BYTES 256 /* replicated straight from HBM: 128 reads of it cost less than a shuffle */

Status
emit(Lower *l, KOp op, const Ref *in, int nin, const AttrItem *at, int nat)
{
    return k_emit(l->out, op, in, nin, at, nat, l->loc);
}

Status
loop_begin(Lower *l, int64_t count, Affine *index)
{
    *index = affine_const(0);
    if (count == 1)
        return ST_OK;
    Val var;
    TRY(k_loop(l->out, count, l->loc, &var));
    *index = affine_var(var, 1);
    return ST_OK;
}

Status
loop_end_of(Lower *l, int64_t count)
{
    return count == 1 ? ST_OK : k_end(l->out, l->loc);
}

Span
operand_span(const Lower *l, const Op *op, int i)
{
    return operand_edge(l->g, op, i, l->p->span[op->out.i]);
}

bool
is_member(const Lower *l, Val v)
{
    return l->p->group_of[l->g->vals.p[v.i].def.i] == l->group && l->p->span[v.i].role != RO_acc;
}

int64_t
span_dim(const Lower *l, const Type *t, Span s, int i)
{
    if (!in_range(s.col, i))
        return t->dim[i];
    return s.role == RO_free ? l->panel_cols : l->chunk_cols;
}

int64_t
row_elems(const Lower *l, Val v, Span s)
{
    const Type *t = val_type(l->g, v);
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= is_free_dim(s, i) ? span_dim(l, t, s, i) : 1;
    return n;
}

/* When what is known of a value with this span was found out, at the latest, to be true here. */
uint32_t
epoch_of(const Lower *l, Span s)
{
    if (s.role != RO_row)
        return l->stable;
    return has_cols(s) ? l->epoch : l->tile_epoch;
}

/* The predicated copy does not convert, so both branches would be: what is undefined in one has no room in 8 bits. */
static bool
selects_before_converting(const Op *op, DType to)
{
    return op->code == T_where && !(is_float(to) && dtypes[to].bytes >= 2);
}

/* A value that only a conversion reads is written in the dtype of that conversion, unless it has a rounding of its own.
 * Returns the conversion's result, or v. */
static Val
written_as(const Lower *l, Val v)
{
    const Graph *g = l->g;
    if (l->uses[v.i] != 1 || l->p->stored[v.i] || !is_member(l, v) || !is_float(val_dtype(g, v)) ||
        !keeps_rounding(g, val_def(g, v)))
        return v;
    const Op *user = graph_op(g, l->user[v.i]);
    bool converts = user->code == T_cast || user->code == T_rcast;
    if (!converts || !is_member(l, user->out) || has_cols(l->p->span[v.i]) != has_cols(l->p->span[user->out.i]))
        return v;
    if (selects_before_converting(val_def(g, v), val_dtype(g, user->out)))
        return v;
    return user->out;
}

static int64_t
per_of(const Lower *l, Span s)
{
    return s.role == RO_row ? l->per : 1;
}

bool
is_small(const Lower *l, Val v, Span s)
{
    const Type *t = val_type(l->g, v);
    int64_t n = per_of(l, s);
    for (int i = 0; i < t->rank; i++)
        n *= is_free_dim(s, i) ? t->dim[i] : 1;
    return n <= SMALL_ELEMS;
}

/* Small float values are f32, since per-row operands of instructions must be, unless that would leave out a rounding.
 */
DType
tile_dtype(const Lower *l, Val v, Span s)
{
    Val as = written_as(l, v);
    DType dt = val_dtype(l->g, as);
    if (dt == DT_bool)
        return DT_u8;
    bool rounded = !is_member(l, as) || keeps_rounding(l->g, val_def(l->g, as));
    return is_float(dt) && rounded && is_small(l, v, s) ? DT_f32 : dt;
}

Status
new_buffer(Lower *l, Space sp, DType dt, int parts, int64_t elems, int bufs, Val *out)
{
    if (sp == SP_psum) /* whole banks */
        elems = ALIGN_UP(elems, (int64_t)l->hw->psum_bank_bytes / dtypes[dt].bytes);
    int64_t dim[2] = {parts, elems};
    return k_buffer(l->out, sp, BK_tile, dt, 2, dim, bufs, -1, NULL, l->loc, out);
}

/* v's rows are neighbours in HBM, element by element: then they are neighbours on chip, too, and a DMA moves runs. */
static bool
rows_inside(const Lower *l, Val v, Span s)
{
    View w;
    int64_t stride;
    Val base = l->p->view_base[v.i].i ? l->p->view_base[v.i] : v;
    if (s.role != RO_row || l->per == 1 || l->gr->has_matmul || row_elems(l, v, s) == 1)
        return false;
    if (is_member(l, v) && !l->p->stored[v.i])
        return false;
    if (is_member(l, v))
        w = view_stored(l->p, v);
    else if (!view_between(l->g, base, v, &w))
        return false;
    return view_uniform(val_type(l->g, v), &w, s.spine, &stride) && stride == 1;
}

/* C-order strides over the free dims, which are those of one row unless rows lie inside; spine and outer dims get the
 * strides of the whole, see Tile. */
static void
tile_strides(const Lower *l, Val v, Span s, Tile *t)
{
    const Type *ty = val_type(l->g, v);
    bool inside = rows_inside(l, v, s);
    int64_t n = inside ? l->per : 1, all = 1;
    for (int i = ty->rank - 1; i >= 0; i--) {
        t->stride[i] = is_free_dim(s, i) ? n : all;
        n *= is_free_dim(s, i) ? span_dim(l, ty, s, i) : 1;
        all *= ty->dim[i];
    }
    t->rstride = inside ? 1 : n;
}

static int
stored_bufs(const Lower *l, Val v)
{
    v = written_as(l, v);
    return l->p->stored[v.i] && l->in_loop ? l->gr->bufs : 1;
}

static int
parts_of(const Lower *l, Span s)
{
    return s.role == RO_row ? l->parts : row_lanes(l->gr, l->hw);
}

static Status
tile_of(Lower *l, Val v, Span s, DType dt, int bufs, Tile *out)
{
    *out = (Tile){.dt = dt};
    tile_strides(l, v, s, out);
    int64_t elems = row_elems(l, v, s) * per_of(l, s);
    if (s.role != RO_row)
        out->rstride = 0;
    return new_buffer(l, SP_sbuf, out->dt, parts_of(l, s), elems, bufs, &out->buf);
}

static Status
plain_tile(Lower *l, Val v, Span s, int bufs, Tile *out)
{
    return tile_of(l, v, s, tile_dtype(l, v, s), bufs, out);
}

/* The concat of this group that is v's only reader, and where in it v begins. */
static const Op *
only_concat(const Lower *l, Val v, int64_t *at)
{
    const Graph *g = l->g;
    v = written_as(l, v);
    if (l->uses[v.i] != 1 || l->p->stored[v.i])
        return NULL;
    const Op *c = graph_op(g, l->user[v.i]);
    if (c->code != T_concat || !is_member(l, c->out) ||
        tile_dtype(l, v, l->p->span[v.i]) != tile_dtype(l, c->out, l->p->span[c->out.i]))
        return NULL;
    int64_t axis = attr_int(g->cx, c->attr, A_axis, 0);
    *at = 0;
    for (int i = 0; op_val(g, c, i).i != v.i; i++)
        *at += val_type(g, op_val(g, c, i))->dim[axis];
    return c;
}

Status
new_tile(Lower *l, Val v, Tile *out)
{
    int64_t at;
    const Op *c = only_concat(l, v, &at);
    if (!c)
        return plain_tile(l, v, l->p->span[v.i], stored_bufs(l, v), out);
    Node *n = &l->node[c->out.i];
    if (n->epoch != epoch_of(l, l->p->span[c->out.i]) || n->kind != N_tile) {
        Tile whole;
        TRY(new_tile(l, c->out, &whole));
        n = set_node(l, c->out, N_tile);
        n->tile = whole;
    }
    *out = n->tile;
    out->off = affine_add(out->off, affine_const(at * out->stride[attr_int(l->cx, c->attr, A_axis, 0)]));
    return ST_OK;
}

Node *
set_node(Lower *l, Val v, NodeKind kind)
{
    Node *n = &l->node[v.i];
    *n = (Node){.epoch = epoch_of(l, l->p->span[v.i]), .kind = (uint8_t)kind};
    return n;
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
    return hbm_buffer(l, base, buf);
}

/* Offset of the current row tile (row) and outer index in v's view. */
Affine
hbm_offset(const Lower *l, Val v, const View *w, Span s, bool row)
{
    const Type *t = val_type(l->g, v);
    int64_t rs, os;
    view_uniform(t, w, s.spine, &rs);
    view_uniform(t, w, s.outer, &os);
    Affine off = affine_add(affine_const(w->off), affine_scale(l->outer, os));
    if (has_cols(s))
        off = affine_add(off, affine_scale(l->panel0, w->stride[s.col.lo]));
    if (has_cols(s) && row)
        off = affine_add(off, affine_scale(l->chunk0, w->stride[s.col.lo]));
    return row ? affine_add(off, affine_scale(l->row0, rs)) : off;
}

static bool
is_inside(const Tile *t) /* its rows lie inside: see rows_inside */
{
    return t->rstride == 1;
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

/* The row tile of v in HBM: partitions first, then rows per partition, then the free dims without those in skip; with
 * the rows last when the tile on chip has them inside. */
static Ref
hbm_rows(const Lower *l, Val v, const View *w, Val buf, Span s, uint32_t skip, int parts, int64_t per, bool inside)
{
    const Type *t = val_type(l->g, v);
    Ref r = {.buf = buf};
    int64_t rs;
    view_uniform(t, w, s.spine, &rs);
    r.ap.off = hbm_offset(l, v, w, s, s.role == RO_row);
    RowMap map = row_map(l->gr, l->hw, per);
    r.ap.dim[r.ap.ndim++] = (ApDim){parts, rs * map.lane};
    int64_t next = rs * map.slot;
    push_dim(&r.ap, inside ? 1 : per, next);
    for (int i = 0; i < t->rank; i++)
        if (is_free_dim(s, i) && !(skip >> i & 1))
            push_dim(&r.ap, span_dim(l, t, s, i), w->stride[i]);
    push_dim(&r.ap, inside ? per : 1, next);
    return r;
}

static Ref
chip_rows(const Lower *l, Val v, const Tile *t, Span s, uint32_t skip, int parts, int64_t per)
{
    const Type *ty = val_type(l->g, v);
    Ref r = {.buf = t->buf, .ap = {.off = t->off, .nparts = parts}};
    ApDim head = {1, 0}; /* push_dim never merges into the first dim: give it one to keep apart, then drop it */
    r.ap.dim[r.ap.ndim++] = head;
    push_dim(&r.ap, is_inside(t) ? 1 : per, t->rstride);
    for (int i = 0; i < ty->rank; i++)
        if (is_free_dim(s, i) && !(skip >> i & 1))
            push_dim(&r.ap, span_dim(l, ty, s, i), t->stride[i]);
    push_dim(&r.ap, is_inside(t) ? per : 1, t->rstride);
    r.ap.ndim--;
    for (uint32_t i = 0; i < r.ap.ndim && i + 1 < MAX_AP_DIMS; i++)
        r.ap.dim[i] = r.ap.dim[i + 1];
    return r;
}

Status
dma(Lower *l, KOp op, const Ref *dst, const Ref *src)
{
    Ref in[2] = {*dst, *src};
    return emit(l, op, in, 2, NULL, 0);
}

/* Rows that are neighbours in memory: read the other way round and turned on the way. */
static bool
wants_transpose(const Ref *src, const Ref *dst)
{
    const Ap *s = &src->ap, *d = &dst->ap;
    return s->ndim == 2 && s->dim[0].stride == 1 && s->dim[0].count > 1 && s->dim[1].stride != 1 && d->ndim == 1;
}

static Status
load_transposed(Lower *l, const Ref *dst, const Ref *src, DType dt)
{
    ApDim rows = src->ap.dim[0], other = src->ap.dim[1];
    bool equal = val_dtype(l->out, src->buf) == dt;
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
    uint32_t looped = 0; /* dims */
    int loops = 0;
    Ref hbm = hbm_rows(l, v, w, buf, s, looped, parts, per, is_inside(t));
    Ref chip = chip_rows(l, v, t, s, looped, parts, per);
    for (int i = 0; i < ty->rank && !fits_patterns(l, &hbm, &chip); i++) {
        Affine at;
        int64_t n = span_dim(l, ty, s, i);
        if (!is_free_dim(s, i) || n == 1)
            continue;
        TRY(loop_begin(l, n, &at));
        loops++;
        looped |= 1u << i;
        Affine from = affine_add(hbm.ap.off, affine_scale(at, w->stride[i]));
        Affine to = affine_add(chip.ap.off, affine_scale(at, t->stride[i]));
        hbm = hbm_rows(l, v, w, buf, s, looped, parts, per, is_inside(t));
        chip = chip_rows(l, v, t, s, looped, parts, per);
        hbm.ap.off = from;
        chip.ap.off = to;
    }
    TRY(dma(l, K_dma_copy, load ? &chip : &hbm, load ? &hbm : &chip));
    for (; loops > 0; loops--)
        TRY(k_end(l->out, l->loc));
    return ST_OK;
}

static Status
load_rows(Lower *l, Val v, Span s, Tile *out)
{
    View w;
    Val buf;
    TRY(view_in_hbm(l, v, &w, &buf));
    TRY(plain_tile(l, v, s, l->in_loop ? l->gr->bufs : 1, out));
    Ref src = hbm_rows(l, v, &w, buf, s, 0, l->parts, l->per, is_inside(out));
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
    TRY(dma(l, K_dma_copy, &dst, row));
    TRY(loop_end_of(l, quads));
    TRY(new_buffer(l, SP_sbuf, dt, quads * 32, elems, 1, &out->buf));
    Ref all = {.buf = seed, .ap = {.nparts = quads * 32, .ndim = 1, .dim = {{elems, 1}}}};
    Ref io[2] = {{.buf = out->buf, .ap = all.ap}, all};
    AttrItem mask = AT_INTS(A_mask, lanes, 32);
    return emit(l, K_nc_stream_shuffle, io, 2, &mask, 1);
}

static Status
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
    Ref src = hbm_rows(l, v, &w, buf, s, 0, 1, 1, false);
    if (parts > 1 && elems * dtypes[out->dt].bytes > TINY_BYTES)
        return spread(l, &src, out->dt, elems, parts, out);
    src.ap.dim[0] = (ApDim){parts, 0};
    TRY(new_buffer(l, SP_sbuf, out->dt, parts, elems, 1, &out->buf));
    Ref dst = chip_rows(l, v, out, s, 0, parts, 1);
    return dma(l, K_dma_copy, &dst, &src);
}

static Status
fill_tile(Lower *l, Val v, Span s, double value, Tile *out)
{
    TRY(plain_tile(l, v, s, 1, out));
    Ref dst = chip_rows(l, v, out, s, 0, parts_of(l, s), per_of(l, s));
    AttrItem at = AT_FLT(A_imm0, value);
    return emit(l, K_memset, &dst, 1, &at, 1);
}

static bool
same_range(Range a, Range b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

Status
find_leaf(Lower *l, Val v, Span s, uint32_t *out)
{
    uint32_t k = l->leaf_of[v.i];
    for (; k; k = l->leaves.p[k].next) {
        const Span *o = &l->leaves.p[k].span;
        bool same = o->role == s.role && same_range(o->spine, s.spine) && same_range(o->outer, s.outer);
        if (same && same_range(o->col, s.col))
            break;
    }
    if (k == 0) {
        VEC_PUSH(l->cx, l->a, &l->leaves, (Leaf){.v = v, .span = s, .next = l->leaf_of[v.i]});
        k = l->leaf_of[v.i] = l->leaves.n - 1;
    }
    *out = k;
    return ST_OK;
}

Status
load_leaf(Lower *l, Val v, Span s, Node **out)
{
    uint32_t k;
    TRY(find_leaf(l, v, s, &k));
    double imm;
    bool splat = is_splat(l->g, v, &imm);
    uint32_t now = splat ? l->epoch : epoch_of(l, s);
    if (l->leaves.p[k].node.epoch != now) {
        Tile t;
        if (splat)
            TRY(fill_tile(l, v, s, imm, &t));
        else if (s.role == RO_row)
            TRY(load_rows(l, v, s, &t));
        else
            TRY(load_free(l, v, s, &t));
        bool single = l->leaves.p[k].next == 0 && l->leaf_of[v.i] == k && s.role == RO_row;
        l->leaves.p[k].node = (Node){.epoch = now, .kind = N_tile, .tile = t, .own = single, .rotates = l->in_loop};
    }
    *out = &l->leaves.p[k].node;
    return ST_OK;
}

/* A free value has the columns of the whole panel: step to the current chunk. */
static Status
at_chunk(Lower *l, Val v, Span s, Node **n)
{
    uint32_t k;
    Node view = **n;
    if (s.role != RO_free || !has_cols(s))
        return ST_OK;
    TRY(find_leaf(l, v, s, &k));
    view.tile.off = affine_add(view.tile.off, affine_scale(l->chunk0, view.tile.stride[s.col.lo]));
    l->leaves.p[k].view = view;
    *n = &l->leaves.p[k].view;
    return ST_OK;
}

Status
operand(Lower *l, const Op *op, int i, Node **out)
{
    Val v = op_val(l->g, op, i);
    Span s = operand_span(l, op, i);
    if (!is_member(l, v)) {
        TRY(load_leaf(l, v, s, out));
        return at_chunk(l, v, s, out);
    }
    *out = &l->node[v.i];
    TRY(at_chunk(l, v, l->p->span[v.i], out));
    if ((*out)->epoch != epoch_of(l, l->p->span[v.i]))
        return fail(l->cx, ST_BUG, l->loc, "NKI-4003 lower: %s is used before it is computed",
                    op_def(l->g, val_def(l->g, v))->name);
    return ST_OK;
}

Status
operand_tile(Lower *l, const Op *op, int i, Tile *out)
{
    Node *n;
    Val v = op_val(l->g, op, i);
    TRY(operand(l, op, i, &n));
    TRY(force(l, v, n));
    *out = aligned(l, &n->tile, v, op->out);
    return ST_OK;
}

Status
dense_copy(Lower *l, Val v, Span s, DType dt, const Tile *src, Tile *out)
{
    const Type *t = val_type(l->g, v);
    Instr in = {.op = K_tensor_copy, .rank = t->rank, .per = per_of(l, s), .parts = parts_of(l, s)};
    TRY(tile_of(l, v, s, dt, 1, out));
    for (int i = 0; i < t->rank; i++)
        in.count[i] = is_free_dim(s, i) ? span_dim(l, t, s, i) : 1;
    instr_arg(&in, 0, out);
    instr_arg(&in, 1, src);
    return emit_instr(l, &in);
}

static bool
same_dims(const Type *a, const Type *b)
{
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++)
        same = a->dim[i] == b->dim[i];
    return same;
}

bool
is_last_use(const Lower *l, const Op *op, int i)
{
    Val v = op_val(l->g, op, i);
    Span s = l->p->span[op->out.i], o = operand_span(l, op, i);
    uint32_t here = 0;
    for (int k = 0; k < op->nin; k++)
        here += op_val(l->g, op, k).i == v.i;
    return s.role == RO_row && o.role == RO_row && has_cols(s) == has_cols(o) && l->left[v.i] == here &&
           !l->p->stored[v.i] && same_dims(val_type(l->g, v), val_type(l->g, op->out));
}

/* v may be written where n's tile is: nothing else refers to it, and a store of v would not hold up the next tile. */
static bool
can_hold(const Lower *l, Val v, const Node *n)
{
    int64_t at;
    bool calm = n->rotates || !l->p->stored[written_as(l, v).i] || !l->in_loop;
    return l->gr->in_place && n->own && calm && !n->mm && n->tile.dt == tile_dtype(l, v, l->p->span[v.i]) &&
           !only_concat(l, v, &at);
}

static Status
fresh_tile(Lower *l, Val v, Node *out)
{
    int64_t at;
    *out = (Node){.epoch = epoch_of(l, l->p->span[v.i]), .kind = N_tile};
    out->own = only_concat(l, v, &at) == NULL;
    out->rotates = stored_bufs(l, v) > 1;
    return new_tile(l, v, &out->tile);
}

Status
chain_tile(Lower *l, Val v, const Node *chain, Node *out)
{
    if (chain->kind != N_lazy || !can_hold(l, v, chain))
        return fresh_tile(l, v, out);
    *out = (Node){.kind = N_tile, .tile = chain->tile, .own = true, .rotates = chain->rotates};
    return ST_OK;
}

/* The node of operand i if op's result may be written over it. */
static Node *
overwritable(Lower *l, const Op *op, int i)
{
    Val v = op_val(l->g, op, i);
    Node *n = &l->node[v.i];
    if (!is_last_use(l, op, i))
        return NULL;
    if (!is_member(l, v)) {
        if (l->leaf_of[v.i] == 0)
            return NULL;
        n = &l->leaves.p[l->leaf_of[v.i]].node;
    }
    bool current = n->epoch == epoch_of(l, operand_span(l, op, i));
    return current && (n->kind == N_tile || n->kind == N_lazy) && can_hold(l, op->out, n) ? n : NULL;
}

Status
result_tile(Lower *l, const Op *op, uint32_t operands, Node *out)
{
    for (int i = 0; i < op->nin; i++) {
        Node *from = operands >> i & 1 ? overwritable(l, op, i) : NULL;
        if (!from)
            continue;
        from->own = false;
        *out = (Node){.epoch = epoch_of(l, l->p->span[op->out.i]),
                      .kind = N_tile,
                      .tile = from->tile,
                      .own = true,
                      .rotates = from->rotates};
        return ST_OK;
    }
    return fresh_tile(l, op->out, out);
}

/* A stored value's row tile goes to its own buffer, which is an output's or scratch. */
Status
store_tile(Lower *l, Val v, const Tile *t, Span s, int parts, int64_t per)
{
    Val buf;
    View w = view_stored(l->p, v);
    TRY(hbm_buffer(l, w.base, &buf));
    return move_rows(l, v, &w, buf, s, t, parts, per, false);
}

Status
store_row(Lower *l, Val v)
{
    Node *n = &l->node[v.i];
    TRY(force(l, v, n));
    return store_tile(l, v, &n->tile, l->p->span[v.i], l->parts, l->per);
}

Status
const_tile(Lower *l, double value, DType dt, Tile *out)
{
    *out = (Tile){.dt = dt};
    TRY(new_buffer(l, SP_sbuf, dt, 128, 1, 1, &out->buf));
    Ref dst = {.buf = out->buf, .ap = {.nparts = 128, .ndim = 0}};
    AttrItem at = AT_FLT(A_imm0, value);
    return emit(l, K_memset, &dst, 1, &at, 1);
}
