/* matmul.c - matrix products of a row tile.
 *
 * The row operand is brought to [contraction, row] once per row tile (stationary); the full operand is [contraction,
 * column] (moving), kept on chip for the whole group when it fits, else loaded window by window. A window is a run of
 * columns that PSUM holds; all of K accumulates there, and the instruction that reads the product is emitted per
 * window, straight from PSUM.
 */
#include "lower/context.h"

#define UNROLL_K 2
#define STEP_K 4096 /* rows of a contraction that does not fit as a whole */

/* ---- the row operand ---- */
typedef struct Rows { /* how the row operand's elements lie in its tile or in HBM */
    Val v;
    Span span;
    int kdim;
} Rows;

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

static Affine
at_offset(const Affine *at, const int64_t *stride, int rank)
{
    Affine off = affine_const(0);
    for (int i = 0; i < rank; i++)
        off = affine_add(off, affine_scale(at[i], stride[i]));
    return off;
}

/* To [k mod 128][k / 128][n]: one DMA for the whole 128-row steps of the contraction, one for the rest; turned on the
 * way when the contraction is what lies contiguous. `step` elements lie between the 128-row steps of dst. */
static Status
load_matrix(Lower *l, const Matrix *m, Val dst, Affine dst0, int64_t step)
{
    DType dt = val_dtype(l->out, dst);
    bool transpose = m->ks == 1 && (m->ns != 1 || m->n == 1) && m->k > 1;
    if (transpose && (!l->hw->dma_transpose || dtypes[dt].bytes == 1 || val_dtype(l->out, m->buf) != dt)) {
        Turn t = {.dst = dst, .to = dst0, .step = step, .rs = 1};
        return load_turned(l, m, &t, TURN_multiplied);
    }
    for (int tail = 0; tail < 2; tail++) {
        int64_t full = m->k / PE, steps = tail ? 1 : full, lanes = tail ? m->k % PE : PE;
        if (steps == 0 || lanes == 0)
            continue;
        Ref d = {.buf = dst, .ap = {.off = dst0, .nparts = (int32_t)lanes}}, s = {.buf = m->buf, .ap = {.off = m->off}};
        if (tail) {
            d.ap.off = affine_add(dst0, affine_const(full * step));
            s.ap.off = affine_add(m->off, affine_const(full * PE * m->ks));
        }
        ApDim other = {m->n, m->ns}, lane = {lanes, m->ks};
        if (steps > 1)
            d.ap.dim[d.ap.ndim++] = (ApDim){steps, step};
        d.ap.dim[d.ap.ndim++] = (ApDim){m->n, 1};
        s.ap.dim[s.ap.ndim++] = transpose ? other : lane;
        if (steps > 1)
            s.ap.dim[s.ap.ndim++] = (ApDim){steps, PE * m->ks};
        s.ap.dim[s.ap.ndim++] = transpose ? lane : other;
        TRY(dma(l, transpose ? K_dma_transpose : K_dma_copy, &d, &s));
    }
    return ST_OK;
}

/* The row operand in HBM at a batch element and a block of 128 rows. */
static Status
rows_in_hbm(Lower *l, const Rows *r, const Affine *at, Affine row, Matrix *m)
{
    const Type *t = val_type(l->g, r->v);
    View w;
    TRY(view_in_hbm(l, r->v, &w, &m->buf));
    m->k = t->dim[r->kdim];
    m->ks = w.stride[r->kdim];
    m->n = l->parts;
    view_uniform(t, &w, r->span.spine, &m->ns);
    m->off = affine_add(hbm_offset(l, r->v, &w, r->span, true), affine_scale(row, m->ns * PE));
    m->off = affine_add(m->off, at_offset(at, w.stride, t->rank));
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

/* ---- the full operand ---- */
typedef struct Full {
    View w;
    Val buf;
    const Type *t;
    DType dt;
    int64_t k, ks, cs;
} Full;

static Status
full_operand(Lower *l, const Mm *mm, Full *f)
{
    f->t = val_type(l->g, mm->m.full);
    f->dt = (DType)f->t->dtype;
    f->k = f->t->dim[mm->m.full_k];
    double imm;
    if (is_splat(l->g, mm->m.full, &imm)) {
        f->buf = (Val){0};
        return ST_OK;
    }
    TRY(view_in_hbm(l, mm->m.full, &f->w, &f->buf));
    f->ks = f->w.stride[mm->m.full_k];
    f->cs = f->w.stride[mm->m.full_c];
    return ST_OK;
}

static Status
fill_full(Lower *l, const Mm *mm, const Full *f, Val dst, int64_t width)
{
    double imm;
    is_splat(l->g, mm->m.full, &imm);
    Ref d = {.buf = dst, .ap = {.nparts = (int32_t)MIN(f->k, PE), .ndim = 1, .dim = {{CEIL_DIV(f->k, PE) * width, 1}}}};
    AttrItem at = AT_FLT(A_imm0, imm);
    return emit(l, K_memset, &d, 1, &at, 1);
}

/* Offset of a batch element of the full operand, by the result's dims. */
static Affine
full_batch(const Lower *l, const Mm *mm, const Full *f, const Affine *at)
{
    const Type *res = val_type(l->g, mm->v);
    int shift = res->rank - f->t->rank;
    Affine off = f->buf.i ? hbm_offset(l, mm->m.full, &f->w, mm->full_span, false) : affine_const(0);
    for (int i = 0; i < f->t->rank - 2; i++)
        if (f->t->dim[i] != 1 && !in_range(mm->full_span.outer, i))
            off = affine_add(off, affine_scale(at[i + shift], f->w.stride[i]));
    return off;
}

/* Columns [col, col + width) of a batch element of the full operand. */
static Matrix
columns_in_hbm(const Lower *l, const Mm *mm, const Full *f, const Affine *at, Affine col, int64_t width)
{
    return (Matrix){.buf = f->buf,
                    .off = affine_add(full_batch(l, mm, f, at), affine_scale(col, f->cs)),
                    .k = f->k,
                    .ks = f->ks,
                    .n = width,
                    .ns = f->cs};
}

static int64_t
batch_count(const Lower *l, const Mm *mm, const Full *f)
{
    int64_t n = 1;
    for (int i = 0; i < f->t->rank - 2; i++)
        n *= in_range(mm->full_span.outer, i) ? 1 : f->t->dim[i];
    (void)l;
    return n;
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
            elems = CEIL_DIV(f.k, PE) * width, bytes = elems * dtypes[f.dt].bytes;
    if (f.buf.i == 0 || batch_count(l, &mm, &f) != 1 || bytes > *budget)
        return ST_OK;
    *budget -= bytes;
    Tile *t = &l->resident[mm.op.i];
    *t = (Tile){.dt = f.dt};
    TRY(new_buffer(l, SP_sbuf, f.dt, (int)MIN(f.k, PE), elems, 1, &t->buf));
    Affine at[MAX_RANK];
    for (int i = 0; i < MAX_RANK; i++)
        at[i] = affine_const(0);
    t->stride[0] = width; /* from one 128 rows of the contraction to the next */
    Affine col = has_cols(l->p->span[op->out.i]) ? l->panel0 : affine_const(0);
    Matrix m = columns_in_hbm(l, &mm, &f, at, col, width);
    return load_matrix(l, &m, t->buf, affine_const(0), width);
}

int64_t
mm_width(const Lower *l, const Mm *mm)
{
    int64_t n = span_dim(l, val_type(l->g, mm->v), l->p->span[mm->v.i], mm->m.col);
    return MIN(n, l->gr->psum_width);
}

/* An operand on chip, contraction on the partitions. */
typedef struct Panel {
    Val buf;
    Affine off;
    int64_t step; /* elements from one 128 rows of the contraction to the next */
    int64_t col;  /* and from one column to the next */
} Panel;

static Ref
panel_ref(const Panel *p, Affine step, int64_t from, int64_t lanes, int64_t n)
{
    Ref r = {.buf = p->buf, .ap = {.off = affine_add(p->off, affine_scale(step, p->step)), .nparts = (int32_t)lanes}};
    r.ap.off = affine_add(r.ap.off, affine_const(from * p->col));
    r.ap.dim[r.ap.ndim++] = (ApDim){n, p->col};
    return r;
}

/* psum[:, c .. c + w) gets k rows of the contraction, or adds them. */
static Status
multiply_bank(Lower *l, const Panel *lhs, const Panel *rhs, int64_t k, bool add, int64_t c, int64_t w, Val psum)
{
    int64_t full = k / PE, rest = k % PE, copies = full > UNROLL_K ? 1 : full;
    Ref dst = {.buf = psum, .ap = {.off = affine_const(c), .nparts = l->parts, .ndim = 1, .dim = {{w, 1}}}};
    AttrItem acc = AT_INT(A_accumulate, 1);
    for (int64_t u = 0; u < copies; u++) {
        Affine step = affine_const(u);
        bool loop = full > UNROLL_K;
        if (loop)
            TRY(loop_begin(l, full, &step));
        Ref in[4] = {dst, panel_ref(lhs, step, 0, PE, l->parts), panel_ref(rhs, step, c, PE, w)};
        if (loop && !add)
            in[3].buf = step.term[0].var; /* the first step starts anew */
        TRY(emit(l, K_nc_matmul, in, 4, &acc, add || u > 0));
        if (loop)
            TRY(loop_end_of(l, full));
    }
    if (rest == 0)
        return ST_OK;
    Affine last = affine_const(full);
    Ref in[4] = {dst, panel_ref(lhs, last, 0, rest, l->parts), panel_ref(rhs, last, c, rest, w)};
    return emit(l, K_nc_matmul, in, 4, &acc, add || full > 0);
}

static Status
multiply(Lower *l, const Panel *lhs, const Panel *rhs, int64_t k, bool add, int64_t width, Val psum)
{
    for (int64_t c = 0; c < width; c += bank_columns(l))
        TRY(multiply_bank(l, lhs, rhs, k, add, c, MIN(bank_columns(l), width - c), psum));
    return ST_OK;
}

/* A contraction too long for the chip: both operands come in steps of it. */
static Status
multiply_steps(Lower *l, const Mm *mm, const Matrix *cols, const Affine *at, Affine row, Val psum)
{
    int64_t k = cols->k, main = (k - 1) / STEP_K, rest = k - main * STEP_K; /* the rest last, and never empty */
    const Type *t = val_type(l->g, mm->m.row);
    int shift = val_type(l->g, mm->v)->rank - t->rank;
    Matrix rows;
    Affine own[MAX_RANK]; /* the batch element by the row operand's dims */
    for (int i = 0; i < t->rank; i++)
        own[i] = i < t->rank - 2 && t->dim[i] != 1 ? at[i + shift] : affine_const(0);
    TRY(rows_in_hbm(l, &(Rows){mm->m.row, mm->row_span, mm->m.row_k}, own, row, &rows));
    for (int part = 0; part < 3; part++) { /* the first step starts the sum, the others add to it */
        int64_t count = part == 0 ? MIN(main, 1) : part == 1 ? main - 1 : 1, n = part == 2 ? rest : STEP_K;
        int64_t start = part == 0 ? 0 : part == 1 ? STEP_K : main * STEP_K;
        Affine i;
        if (count <= 0)
            continue;
        TRY(loop_begin(l, count, &i));
        Affine from = affine_add(affine_scale(i, STEP_K), affine_const(start));
        Matrix a = rows, b = *cols;
        a.k = b.k = n;
        a.off = affine_add(a.off, affine_scale(from, a.ks));
        b.off = affine_add(b.off, affine_scale(from, b.ks));
        Panel lhs = {.step = PE, .col = 1}, rhs = {.step = b.n, .col = 1};
        TRY(new_buffer(l, SP_sbuf, mm->m.dt, (int)MIN(n, PE), CEIL_DIV(n, PE) * PE, l->gr->bufs, &lhs.buf));
        TRY(load_matrix(l, &a, lhs.buf, affine_const(0), PE));
        TRY(new_buffer(l, SP_sbuf, mm->m.dt, (int)MIN(n, PE), CEIL_DIV(n, PE) * b.n, l->gr->bufs, &rhs.buf));
        TRY(load_matrix(l, &b, rhs.buf, affine_const(0), b.n));
        TRY(multiply(l, &lhs, &rhs, n, part > 0 || (part == 2 && main > 0), b.n, psum));
        TRY(loop_end_of(l, count));
    }
    return ST_OK;
}

typedef struct Window { /* where a run of windows lies: columns [start + index * width, ...) */
    int64_t start, count, width;
} Window;

/* The full operand's columns for a window: computed here, resident, or loaded now. */
static Status
window_columns(Lower *l, const Mm *mm, const Full *f, const Affine *at, Affine col, int64_t width, Panel *out)
{
    bool cols = has_cols(l->p->span[mm->v.i]);
    const Tile *resident = &l->resident[mm->op.i];
    Affine in_panel = cols ? affine_add(col, l->chunk0) : col;
    *out = (Panel){.col = 1};
    if (mm->rhs.buf.i) {
        Affine off = affine_add(mm->rhs.off, affine_scale(col, mm->rhs_col));
        off = affine_add(off, at_offset(at, mm->rhs.stride, val_type(l->g, mm->v)->rank));
        *out = (Panel){mm->rhs.buf, off, mm->rhs_ktile, mm->rhs_col};
        return ST_OK;
    }
    if (resident->buf.i) {
        *out = (Panel){resident->buf, in_panel, resident->stride[0], 1};
        return ST_OK;
    }
    out->step = width;
    Matrix m = columns_in_hbm(l, mm, f, at, cols ? affine_add(in_panel, l->panel0) : in_panel, width);
    TRY(new_buffer(l, SP_sbuf, f->dt, (int)MIN(f->k, PE), CEIL_DIV(f->k, PE) * width, l->gr->bufs, &out->buf));
    return f->buf.i ? load_matrix(l, &m, out->buf, affine_const(0), width) : fill_full(l, mm, f, out->buf, width);
}

static Status
run_windows(Lower *l, const Mm *mm, const Full *f, Affine *at, const Window *w, WindowFn *fn, void *env)
{
    const Type *res = val_type(l->g, mm->v);
    Affine i, row;
    Panel rhs;
    Val psum;
    if (w->count == 0 || w->width == 0)
        return ST_OK;
    TRY(loop_begin(l, w->count, &i));
    Affine col = affine_add(affine_scale(i, w->width), affine_const(w->start));
    if (!mm->steps)
        TRY(window_columns(l, mm, f, at, col, w->width, &rhs));
    TRY(loop_begin(l, l->per, &row));
    TRY(new_buffer(l, SP_psum, DT_f32, l->parts, w->width, l->gr->psum_bufs, &psum));
    if (mm->steps) {
        Affine from = has_cols(l->p->span[mm->v.i]) ? affine_add(affine_add(col, l->chunk0), l->panel0) : col;
        Matrix m = columns_in_hbm(l, mm, f, at, from, w->width);
        TRY(multiply_steps(l, mm, &m, at, row, psum));
    } else {
        Affine off = affine_add(at_offset(at, mm->lhs.stride, res->rank), affine_scale(row, PE));
        Panel lhs = {mm->lhs.buf, off, mm->lhs_ktile, 1};
        TRY(multiply(l, &lhs, &rhs, mm->m.k, false, w->width, psum));
    }
    Tile p = {.buf = psum, .dt = DT_f32, .psum = true};
    p.stride[mm->m.col] = 1;
    at[mm->m.col] = col;
    TRY(fn(env, l, p, at, row, w->width));
    TRY(loop_end_of(l, l->per));
    return loop_end_of(l, w->count);
}

Status
mm_windows(Lower *l, const Mm *mm, WindowFn *fn, void *env)
{
    const Type *res = val_type(l->g, mm->v);
    Span s = l->p->span[mm->v.i];
    Affine at[MAX_RANK];
    Full f;
    if (mm->rhs.buf.i == 0)
        TRY(full_operand(l, mm, &f));
    int64_t n = span_dim(l, res, s, mm->m.col), width = mm_width(l, mm);
    for (int i = 0; i < res->rank; i++) {
        at[i] = affine_const(0);
        if (is_free_dim(s, i) && i != mm->m.col)
            TRY(loop_begin(l, res->dim[i], &at[i]));
    }
    Window main = {0, n / width, width}, tail = {n / width * width, 1, n % width};
    TRY(run_windows(l, mm, &f, at, &main, fn, env));
    TRY(run_windows(l, mm, &f, at, &tail, fn, env));
    for (int i = res->rank - 1; i >= 0; i--)
        if (is_free_dim(s, i) && i != mm->m.col)
            TRY(loop_end_of(l, res->dim[i]));
    return ST_OK;
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

/* The row operand with its contraction on the partitions; shared by all matmuls that read the same value. */
static Status
row_operand(Lower *l, const Op *op, const Mm *mm, Tile *out)
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
    TRY(find_leaf(l, v, r.span, &k));
    if (l->leaves.p[k].lhs_epoch != l->tile_epoch) {
        Tile t;
        TRY(load_lhs(l, &r, &t));
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
    if (!mm->steps)
        TRY(row_operand(l, op, mm, &lhs));
    mm->lhs = lhs;
    mm->lhs_ktile = l->per * PE;
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
