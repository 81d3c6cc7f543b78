/* product.c - matrix products window by window: operands onto the partitions, banks of PSUM, columns.
 *
 * in:   a product as matmul.c describes it
 * out:  the windows of its result in PSUM, each handed to whoever reads it
 * rule: a window is a run of columns that PSUM holds; all of the contraction accumulates there
 */
#include "lower/context.h"

#define UNROLL_K 2
#define STEP_K 4096 /* rows of a contraction that does not fit as a whole */

/* A matrix whose columns are the lanes of a home, to [k mod 128][k / 128][n]. */
static Status
turn_home(Lower *l, const Matrix *m, const InHome *home, Val dst, Affine dst0, int64_t step)
{
    int64_t full = m->n / PE;
    Turn t = {.src = home->buf, .from = home->off, .k = m->k, .ks = home->step, .rows = PE};
    Affine b;
    t.dst = dst;
    t.to = dst0;
    t.step = step;
    t.rs = 1;
    if (full > 0) {
        Turn each = t;
        TRY(loop_begin(l, full, &b));
        each.from = affine_add(t.from, affine_scale(b, home->slot));
        each.to = affine_add(t.to, affine_scale(b, PE));
        TRY(turn(l, &each));
        TRY(loop_end_of(l, full));
    }
    t.rows = (int)(m->n % PE);
    t.from = affine_add(t.from, affine_const(full * home->slot));
    t.to = affine_add(t.to, affine_const(full * PE));
    return t.rows ? turn(l, &t) : ST_OK;
}

/* From wherever in its home a matrix lies, element by element along the contraction. */
static Status
copy_home(Lower *l, const Matrix *m, Val dst, Affine dst0, int64_t step)
{
    for (int64_t k = 0; k < m->k; k += PE) {
        int64_t lanes = MIN(PE, m->k - k);
        Ref d = {.buf = dst, .ap = {.off = affine_add(dst0, affine_const(k / PE * step)), .nparts = (int32_t)lanes}};
        Ref s = {.buf = m->buf, .ap = {.off = affine_add(m->off, affine_const(k * m->ks)), .ndim = 2}};
        d.ap.dim[d.ap.ndim++] = (ApDim){m->n, 1};
        s.ap.dim[0] = (ApDim){lanes, m->ks};
        s.ap.dim[1] = (ApDim){m->n, m->ns};
        TRY(transfer(l, &d, &s));
    }
    return ST_OK;
}

/* To [k mod 128][k / 128][n]: one DMA for the whole 128-row steps of the contraction, one for the rest; turned on the
 * way when the contraction is what lies contiguous. `step` elements lie between the 128-row steps of dst. */
Status
load_matrix(Lower *l, const Matrix *m, Val dst, Affine dst0, int64_t step)
{
    DType dt = val_dtype(l->out, dst);
    InHome home;
    if (chip_of(l, m->buf)) {
        bool turns = home_matrix(l, m, &home) && home.turned && dtypes[val_dtype(l->out, m->buf)].bytes > 1;
        return turns ? turn_home(l, m, &home, dst, dst0, step) : copy_home(l, m, dst, dst0, step);
    }
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
        TRY(transpose ? dma(l, K_dma_transpose, &d, &s) : transfer(l, &d, &s));
    }
    return ST_OK;
}

/* The row operand in HBM at a batch element and a block of 128 rows. */
Status
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

Status
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
Matrix
columns_in_hbm(const Lower *l, const Mm *mm, const Full *f, const Affine *at, Affine col, int64_t width)
{
    return (Matrix){.buf = f->buf,
                    .off = affine_add(full_batch(l, mm, f, at), affine_scale(col, f->cs)),
                    .k = f->k,
                    .ks = f->ks,
                    .n = width,
                    .ns = f->cs};
}

int64_t
batch_count(const Lower *l, const Mm *mm, const Full *f)
{
    int64_t n = 1;
    for (int i = 0; i < f->t->rank - 2; i++)
        n *= in_range(mm->full_span.outer, i) ? 1 : f->t->dim[i];
    (void)l;
    return n;
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
        Affine of = at_offset(at, resident->stride, val_type(l->g, mm->v)->rank);
        *out = (Panel){resident->buf, affine_add(of, in_panel), resident->rstride, 1};
        return ST_OK;
    }
    out->step = width;
    Matrix m = columns_in_hbm(l, mm, f, at, cols ? affine_add(in_panel, l->panel0) : in_panel, width);
    InHome home;
    if (f->buf.i && val_dtype(l->out, f->buf) == f->dt && home_matrix(l, &m, &home) && !home.turned) {
        *out = (Panel){home.buf, home.off, home.slot, home.step};
        return ST_OK;
    }
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
        Affine off = affine_add(at_offset(at, mm->lhs.stride, res->rank), affine_scale(row, PE * mm->lhs_row));
        Panel lhs = {mm->lhs.buf, affine_add(mm->lhs.off, off), mm->lhs_ktile, mm->lhs_row};
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
