/* matmul.c - matrix products of a row tile: what becomes of their operands.
 *
 * The row operand is brought to [contraction, row] once per row tile (stationary); the full operand is [contraction,
 * column] (moving), kept on chip for the whole group when it fits, else loaded window by window.
 *
 * in:   a product, and its operands as values or in HBM
 * out:  the node of its result: a product that its reader computes, window by window (product.c)
 * rule: a row operand is brought onto the partitions once per row tile, for all products that read it
 */
#include "lower/context.h"

/* ---- the row operand ---- */
/* lhs is [k mod 128][batch][k / 128][row]. Fills in the strides by the row operand's own dims. */
static Status
new_lhs(Lower *l, const Rows *r, DType dt, Tile *out)
{
    const Type *t = val_type(l->g, r->v);
    int64_t k = t->dim[r->kdim], row_count = l->per * PE, n = CEIL_DIV(k, PE) * row_count;
    *out = (Tile){.dt = dt, .rstride = PE};
    for (int i = t->rank - 1; i >= 0; i--) {
        if (!is_free_dim(r->span, i) || i == r->kdim)
            continue;
        out->stride[i] = n;
        n *= t->dim[i];
    }
    return new_buffer(l, SP_sbuf, dt, (int)MIN(k, PE), n, l->in_loop ? l->gr->bufs : 1, &out->buf);
}

/* Walks the batch dims of the row operand as loops; at[] is the index per dim. */
static Status
batch_begin(Lower *l, const Rows *r, Affine *at)
{
    const Type *t = val_type(l->g, r->v);
    for (int i = 0; i < t->rank; i++) {
        at[i] = affine_const(0);
        if (is_free_dim(r->span, i) && i != r->kdim)
            TRY(loop_begin(l, t->dim[i], &at[i]));
    }
    return ST_OK;
}

static Status
batch_end(Lower *l, const Rows *r)
{
    const Type *t = val_type(l->g, r->v);
    for (int i = t->rank - 1; i >= 0; i--)
        if (is_free_dim(r->span, i) && i != r->kdim)
            TRY(loop_end_of(l, t->dim[i]));
    return ST_OK;
}

static Status
load_lhs(Lower *l, const Rows *r, Tile *lhs)
{
    Matrix m;
    Affine at[MAX_RANK], row;
    TRY(new_lhs(l, r, val_dtype(l->g, r->v), lhs));
    TRY(batch_begin(l, r, at));
    TRY(loop_begin(l, l->per, &row));
    TRY(rows_in_hbm(l, r, at, row, &m));
    Affine dst = affine_add(at_offset(at, lhs->stride, val_type(l->g, r->v)->rank), affine_scale(row, PE));
    TRY(load_matrix(l, &m, lhs->buf, dst, l->per * PE));
    TRY(loop_end_of(l, l->per));
    return batch_end(l, r);
}

static Status
transpose_block(Lower *l, const Rows *r, const Tile *src, const Tile *lhs, const Affine *at, Affine row)
{
    const Type *t = val_type(l->g, r->v);
    Turn turned = {.src = src->buf, .ks = src->stride[r->kdim], .rows = l->parts, .k = t->dim[r->kdim]};
    turned.from =
        affine_add(affine_add(src->off, at_offset(at, src->stride, t->rank)), affine_scale(row, src->rstride));
    turned.dst = lhs->buf;
    turned.to = affine_add(at_offset(at, lhs->stride, t->rank), affine_scale(row, PE));
    turned.step = l->per * PE;
    turned.rs = 1;
    return turn(l, &turned);
}

static Status
transpose_lhs(Lower *l, const Rows *r, const Tile *given, Tile *lhs)
{
    Affine at[MAX_RANK], row;
    Tile src = *given;
    DType want = val_dtype(l->g, r->v), turned = dtypes[want].bytes == 1 ? DT_bf16 : want; /* fp8 is turned as bf16 */
    if (src.dt != turned) /* small rows are kept in f32 */
        TRY(dense_copy(l, r->v, r->span, turned, given, &src));
    TRY(new_lhs(l, r, want, lhs));
    TRY(batch_begin(l, r, at));
    TRY(loop_begin(l, l->per, &row));
    TRY(transpose_block(l, r, &src, lhs, at, row));
    TRY(loop_end_of(l, l->per));
    return batch_end(l, r);
}

/* ---- the product ---- */
static void
describe(const Lower *l, const Op *op, Mm *mm)
{
    const Graph *g = l->g;
    Mat m = mat_of(g, op, l->p->span[op->out.i].spine);
    *mm = (Mm){.v = op->out, .op = g->vals.p[op->out.i].def, .m = m};
    mm->full_span = operand_span(l, op, m.full_arg);
    mm->full_span.col = (Range){0, 0}; /* its columns are counted here, not by the loader of leaves */
    mm->row_span = operand_span(l, op, m.row_arg);
    double imm;
    bool in_hbm = !is_member(l, mm->m.row) && !is_member(l, mm->m.full);
    bool plain = !is_splat(g, mm->m.row, &imm) && !is_splat(g, mm->m.full, &imm);
    mm->steps = in_hbm && plain && mm->m.k * dtypes[mm->m.dt].bytes > LONG_CONTRACTION;
}

/* All matrices of the full operand, to [k mod 128][matrix][k / 128][column]. Fills in the strides by the result's dims.
 */
static Status
load_batches(Lower *l, const Mm *mm, const Full *f, Affine col, Tile *t)
{
    int shift = val_type(l->g, mm->v)->rank - f->t->rank;
    int64_t n = CEIL_DIV(f->k, PE) * t->rstride;
    Affine at[MAX_RANK], to = affine_const(0);
    for (int i = f->t->rank - 3; i >= 0; i--)
        if (!in_range(mm->full_span.outer, i) && f->t->dim[i] > 1) {
            t->stride[i + shift] = n;
            n *= f->t->dim[i];
        }
    for (int i = 0; i < MAX_RANK; i++) {
        at[i] = affine_const(0);
        if (t->stride[i])
            TRY(loop_begin(l, f->t->dim[i - shift], &at[i]));
        to = affine_add(to, affine_scale(at[i], t->stride[i]));
    }
    Matrix m = columns_in_hbm(l, mm, f, at, col, t->rstride);
    TRY(load_matrix(l, &m, t->buf, to, t->rstride));
    for (int i = MAX_RANK - 1; i >= 0; i--)
        if (t->stride[i])
            TRY(loop_end_of(l, f->t->dim[i - shift]));
    return ST_OK;
}

Status
mm_preload(Lower *l, const Op *op, int64_t *budget)
{
    Mm mm;
    Full f;
    describe(l, op, &mm);
    if (mm.steps)
        return ST_OK;
    TRY(full_operand(l, &mm, &f));
    int64_t width = has_cols(l->p->span[op->out.i]) ? l->panel_cols : f.t->dim[mm.m.full_c],
            elems = batch_count(l, &mm, &f) * CEIL_DIV(f.k, PE) * width, bytes = elems * dtypes[f.dt].bytes;
    if (f.buf.i == 0 || bytes > *budget || (batch_count(l, &mm, &f) > 1 && chip_of(l, f.buf)))
        return ST_OK;
    Affine at[MAX_RANK];
    for (int i = 0; i < MAX_RANK; i++)
        at[i] = affine_const(0);
    Affine col = has_cols(l->p->span[op->out.i]) ? l->panel0 : affine_const(0);
    Matrix m = columns_in_hbm(l, &mm, &f, at, col, width);
    InHome home;
    if (val_dtype(l->out, f.buf) == f.dt && home_matrix(l, &m, &home) && !home.turned)
        return ST_OK; /* it is there already */
    *budget -= bytes;
    Tile *t = &l->resident[mm.op.i];
    *t = (Tile){.dt = f.dt};
    TRY(new_buffer(l, SP_sbuf, f.dt, (int)MIN(f.k, PE), elems, 1, &t->buf));
    t->rstride = width; /* from one 128 rows of the contraction to the next */
    return load_batches(l, &mm, &f, col, t);
}

/* The value's tile, with its contraction on the partitions, in the dtype that the tensor engine is to see. */
static Status
transposed_member(Lower *l, const Rows *r, Tile *out)
{
    if (l->lhs_epoch[r->v.i] != l->tile_epoch || l->lhs_kdim[r->v.i] != r->kdim) {
        Node *n = &l->node[r->v.i];
        TRY(force(l, r->v, n));
        n->own = false;
        Tile src = n->tile;
        TRY(transpose_lhs(l, r, &src, &l->lhs[r->v.i]));
        l->lhs_epoch[r->v.i] = l->tile_epoch;
        l->lhs_kdim[r->v.i] = (uint8_t)r->kdim;
    }
    *out = l->lhs[r->v.i];
    return ST_OK;
}

/* The row operand in its home, with the contraction on the lanes as it stands. */
static Status
home_lhs(Lower *l, const Rows *r, Tile *out, int64_t *ktile, int64_t *row_step, bool *found)
{
    const Type *t = val_type(l->g, r->v);
    Affine at[MAX_RANK];
    Matrix m;
    InHome home;
    View w;
    Val buf;
    for (int i = 0; i < MAX_RANK; i++)
        at[i] = affine_const(0);
    TRY(rows_in_hbm(l, r, at, affine_const(0), &m));
    TRY(view_in_hbm(l, r->v, &w, &buf));
    m.n = l->per > 1 ? l->per * PE : m.n;
    *found = home_matrix(l, &m, &home) && !home.turned && val_dtype(l->out, m.buf) == val_dtype(l->g, r->v);
    *out = (Tile){.buf = home.buf, .off = home.off, .dt = val_dtype(l->g, r->v)};
    for (int i = 0; *found && i < t->rank; i++) {
        if (is_free_dim(r->span, i) && i != r->kdim && t->dim[i] > 1)
            *found = home_stride(l, m.buf, w.stride[i], &out->stride[i]);
    }
    if (*found) {
        *ktile = home.slot;
        *row_step = home.step;
    }
    return ST_OK;
}

/* The row operand with its contraction on the partitions; shared by all matmuls that read the same value. */
static Status
row_operand(Lower *l, const Op *op, Mm *mm, Tile *out)
{
    Val v = mm->m.row;
    Rows r = {v, mm->row_span, mm->m.row_k};
    double imm;
    if (is_member(l, v))
        return transposed_member(l, &r, out);
    if (is_splat(l->g, v, &imm)) {
        Node *n;
        TRY(operand(l, op, mm->m.row_arg, &n));
        Tile src = n->tile;
        return transpose_lhs(l, &r, &src, out);
    }
    uint32_t k;
    bool lives_here = l->chip[view_root(l->p, v).i].buf.i != 0, found = false;
    if (lives_here)
        TRY(home_lhs(l, &r, out, &mm->lhs_ktile, &mm->lhs_row, &found));
    if (found)
        return ST_OK;
    TRY(find_leaf(l, v, r.span, &k));
    if (l->leaves.p[k].lhs_epoch != l->tile_epoch) {
        Tile t;
        if (lives_here) {
            Node *n;
            TRY(load_leaf(l, v, r.span, &n));
            Tile rows = n->tile;
            TRY(transpose_lhs(l, &r, &rows, &t));
        } else {
            TRY(load_lhs(l, &r, &t));
        }
        l->leaves.p[k].lhs = t;
        l->leaves.p[k].lhs_epoch = l->tile_epoch;
    }
    *out = l->leaves.p[k].lhs;
    return ST_OK;
}

/* A full operand that this group computes: its rows are the contraction already, or its columns, then it is turned. */
static Status
computed_full(Lower *l, const Op *op, Mm *mm)
{
    Val v = mm->m.full;
    const Type *t = val_type(l->g, v), *res = val_type(l->g, op->out);
    Span s = l->p->span[v.i];
    Tile tile;
    if (in_range(s.spine, mm->m.full_k)) {
        Node *n = &l->node[v.i];
        TRY(force(l, v, n));
        n->own = false;
        tile = n->tile;
        if (n->tile.dt != val_dtype(l->g, v)) /* small rows are kept in f32 */
            TRY(dense_copy(l, v, s, val_dtype(l->g, v), &n->tile, &tile));
        mm->rhs_col = tile.stride[mm->m.full_c];
        mm->rhs_ktile = 0;
    } else {
        Rows r = {.v = v, .span = s, .kdim = mm->m.full_k};
        TRY(transposed_member(l, &r, &tile));
        mm->rhs_col = 1;
        mm->rhs_ktile = l->per * PE;
    }
    mm->rhs = tile;
    for (int i = 0; i < MAX_RANK; i++)
        mm->rhs.stride[i] = 0;
    for (int i = 0; i < t->rank - 2; i++) /* batch dims, by the result's */
        if (t->dim[i] != 1)
            mm->rhs.stride[i + res->rank - t->rank] = tile.stride[i];
    return ST_OK;
}

Status
lower_matmul(Lower *l, const Op *op)
{
    Mm *mm;
    NEW(l->cx, l->a, mm, 1);
    describe(l, op, mm);
    if (!is_float(val_dtype(l->g, op->out)) || val_dtype(l->g, op->out) == DT_f64)
        return fail(l->cx, ST_UNSUPPORTED, op->loc, "NKI-4019 matmul: the tensor engine multiplies floats, got %s",
                    dtypes[val_dtype(l->g, op->out)].name);
    const Type *rt = val_type(l->g, mm->m.row), *res = val_type(l->g, op->out);
    Tile lhs = {0};
    if (is_member(l, mm->m.full))
        TRY(computed_full(l, op, mm));
    mm->lhs_ktile = l->per * PE;
    mm->lhs_row = 1;
    if (!mm->steps)
        TRY(row_operand(l, op, mm, &lhs));
    mm->lhs = lhs;
    for (int i = 0; i < MAX_RANK; i++)
        mm->lhs.stride[i] = 0;
    for (int i = 0; i < rt->rank - 2; i++) /* batch dims, by the result's */
        if (rt->dim[i] != 1)
            mm->lhs.stride[i + res->rank - rt->rank] = lhs.stride[i];
    Node *n = set_node(l, op->out, N_mm);
    n->mm = mm;
    n->tile = (Tile){.psum = true, .dt = DT_f32, .buf = {1}}; /* strides come with each window */
    bool waits = l->uses[op->out.i] == 1 && !l->p->stored[op->out.i] && keeps_rounding(l->g, op);
    Span s = l->p->span[op->out.i];
    waits = waits && has_cols(s) == has_cols(l->p->span[graph_op(l->g, l->user[op->out.i])->out.i]);
    return waits ? ST_OK : force(l, op->out, n);
}

Status
mm_prepare(Lower *l, const Op *op)
{
    Mm mm;
    Tile lhs;
    describe(l, op, &mm);
    return mm.steps ? ST_OK : row_operand(l, op, &mm, &lhs);
}
