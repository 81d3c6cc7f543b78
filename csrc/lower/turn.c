/* turn.c - matrices whose rows become their columns: on chip, and on the way from HBM.
 *
 * in:   a matrix with its rows on the partitions, or in HBM with what shall be on the partitions contiguous
 * out:  [k mod 128][k / 128][row]. A DMA transposes 2- and 4-byte elements where it has the unit for it. Elsewhere rows
 *       are loaded as they lie, and the tensor engine turns them through PSUM (operands of products), or the vector
 *       engine in blocks of 32 x 32 (everything else)
 * rule: the tensor engine of generation 2 multiplies by an identity, where an infinity spoils its neighbours; so only
 *       what is multiplied anyway goes there, and data movement stays exact for every bit pattern
 */
#include "lower/context.h"

#define PIECE_BYTES 8192 /* of a row loaded at a time; longer runs are no faster */

/* `steps` times 128 (or `lanes`) columns, transposed through PSUM and evicted together. */
static Status
turn_steps(Lower *l, const Turn *t, Affine from, Affine to, int64_t steps, int64_t lanes)
{
    Val psum;
    TRY(new_buffer(l, SP_psum, val_dtype(l->out, t->src), (int)lanes, steps * PE, 1, &psum));
    for (int64_t i = 0; i < steps; i++) {
        Ref io[2] = {{.buf = psum,
                      .ap = {.off = affine_const(i * PE), .nparts = (int32_t)lanes, .ndim = 1, .dim = {{t->rows, 1}}}},
                     {.buf = t->src,
                      .ap = {.off = affine_add(from, affine_const(i * PE * t->ks)),
                             .nparts = t->rows,
                             .ndim = 1,
                             .dim = {{lanes, t->ks}}}}};
        TRY(emit(l, K_nc_transpose, io, 2, NULL, 0));
    }
    Ref cp[2] = {{.buf = t->dst, .ap = {.off = to, .nparts = (int32_t)lanes}},
                 {.buf = psum, .ap = {.nparts = (int32_t)lanes}}};
    for (int a = 0; a < 2; a++) {
        Ap *ap = &cp[a].ap;
        if (steps > 1)
            ap->dim[ap->ndim++] = (ApDim){steps, a == 0 ? t->step : PE};
        ap->dim[ap->ndim++] = (ApDim){t->rows, a == 0 ? t->rs : 1};
    }
    return emit(l, K_tensor_copy, cp, 2, NULL, 0);
}

Status
turn(Lower *l, const Turn *t)
{
    int64_t full = t->k / PE, bank = (int64_t)l->hw->psum_bank_bytes / dtypes[val_dtype(l->out, t->src)].bytes;
    int64_t room = MIN(2 * bank / PE, MAX(full, 1)), runs = full / room, done = runs * room;
    Affine i;
    if (runs > 0) {
        TRY(loop_begin(l, runs, &i));
        TRY(turn_steps(l, t, affine_add(t->from, affine_scale(i, room * PE * t->ks)),
                       affine_add(t->to, affine_scale(i, room * t->step)), room, PE));
        TRY(loop_end_of(l, runs));
    }
    for (int tail = 0; tail < 2; tail++) {
        int64_t steps = tail ? 1 : full - done, lanes = tail ? t->k % PE : PE;
        if (steps > 0 && lanes > 0)
            TRY(turn_steps(l, t, affine_add(t->from, affine_const(done * PE * t->ks)),
                           affine_add(t->to, affine_const(done * t->step)), steps, lanes));
        done = full;
    }
    return ST_OK;
}

/* The same for at most 128 columns, on the vector engine. */
Status
turn_exact(Lower *l, const Turn *t)
{
    AttrItem vector = AT_INT(A_engine, EN_vector);
    int64_t side = (int64_t)l->hw->vector_transpose;
    for (int part = 0; part < 4; part++) {
        bool last_row = part & 1, last_col = part >> 1;
        int64_t rows = last_row ? t->rows % side : side, cols = last_col ? t->k % side : side;
        int64_t nr = last_row ? 1 : t->rows / side, nc = last_col ? 1 : t->k / side;
        Affine r, c;
        if (rows == 0 || cols == 0 || nr == 0 || nc == 0)
            continue;
        TRY(loop_begin(l, nr, &r));
        TRY(loop_begin(l, nc, &c));
        r = last_row ? affine_const(t->rows - rows) : affine_scale(r, side);
        c = last_col ? affine_const(t->k - cols) : affine_scale(c, side);
        Ref io[2] = {{.buf = t->dst,
                      .ap = {.off = affine_add(t->to, affine_scale(r, t->rs)),
                             .part = c,
                             .nparts = (int32_t)cols,
                             .ndim = 1,
                             .dim = {{rows, t->rs}}}},
                     {.buf = t->src,
                      .ap = {.off = affine_add(t->from, affine_scale(c, t->ks)),
                             .part = r,
                             .nparts = (int32_t)rows,
                             .ndim = 1,
                             .dim = {{cols, t->ks}}}}};
        TRY(emit(l, K_nc_transpose, io, 2, &vector, 1));
        TRY(loop_end_of(l, nc));
        TRY(loop_end_of(l, nr));
    }
    return ST_OK;
}

/* ---- from HBM ---- */

typedef struct Load { /* what load_turned hands on */
    const Matrix *m;
    const Turn *to;
    TurnBy by;
    DType dt;         /* of the rows on chip */
    Affine k0;        /* the current piece of the contraction, */
    int64_t k;        /* its size */
    int64_t together; /* blocks of 128 rows in one DMA */
} Load;

/* `blocks` times `rows` rows from row0 on, in one DMA, then turned. */
static Status
load_blocks(Lower *l, const Load *d, Affine row0, int64_t blocks, int64_t rows)
{
    const Matrix *m = d->m;
    Turn t = *d->to;
    Affine b;
    t.rows = (int)rows;
    t.k = d->k;
    t.ks = 1;
    TRY(new_buffer(l, SP_sbuf, d->dt, t.rows, blocks * d->k, l->gr->bufs, &t.src));
    Ref dst = {.buf = t.src, .ap = {.nparts = t.rows}}, src = {.buf = m->buf};
    src.ap.off = affine_add(m->off, affine_add(affine_scale(row0, m->ns), d->k0));
    src.ap.dim[src.ap.ndim++] = (ApDim){rows, m->ns};
    if (blocks > 1) {
        src.ap.dim[src.ap.ndim++] = (ApDim){blocks, PE * m->ns};
        dst.ap.dim[dst.ap.ndim++] = (ApDim){blocks, d->k};
    }
    src.ap.dim[src.ap.ndim++] = dst.ap.dim[dst.ap.ndim++] = (ApDim){d->k, 1};
    TRY(transfer(l, &dst, &src));
    TRY(loop_begin(l, blocks, &b));
    t.from = affine_scale(b, d->k);
    t.to = affine_add(t.to, affine_scale(affine_add(row0, affine_scale(b, PE)), t.rs));
    TRY(d->by == TURN_exact ? turn_exact(l, &t) : turn(l, &t));
    return loop_end_of(l, blocks);
}

static Status
load_piece(Lower *l, const Load *d)
{
    int64_t n = d->m->n, full = n / PE, groups = full / d->together, done = groups * d->together;
    Affine i;
    if (groups > 0) {
        TRY(loop_begin(l, groups, &i));
        TRY(load_blocks(l, d, affine_scale(i, d->together * PE), d->together, PE));
        TRY(loop_end_of(l, groups));
    }
    if (done < full)
        TRY(load_blocks(l, d, affine_const(done * PE), full - done, PE));
    return n % PE ? load_blocks(l, d, affine_const(full * PE), 1, n % PE) : ST_OK;
}

Status
load_turned(Lower *l, const Matrix *m, const Turn *to, TurnBy by)
{
    DType want = val_dtype(l->out, to->dst);
    Load d = {.m = m, .to = to, .by = by, .dt = want};
    if (by == TURN_multiplied && dtypes[want].bytes == 1)
        d.dt = DT_bf16; /* which the tensor engine turns, and which holds every 8-bit float */
    int64_t bytes = dtypes[d.dt].bytes, piece = PIECE_BYTES / bytes, full = m->k / piece, rest = m->k % piece;
    for (int tail = 0; tail < 2; tail++) {
        Turn t = *to;
        Affine i;
        int64_t count = tail ? 1 : full, steps = piece / PE;
        d.k = tail ? rest : piece;
        if (count == 0 || d.k == 0)
            continue;
        d.together = MAX(MIN(PIECE_BYTES / bytes / d.k, m->n / PE), 1);
        TRY(loop_begin(l, count, &i));
        d.k0 = tail ? affine_const(full * piece) : affine_scale(i, piece);
        t.to = affine_add(to->to, tail ? affine_const(full * steps * to->step) : affine_scale(i, steps * to->step));
        d.to = &t;
        TRY(load_piece(l, &d));
        TRY(loop_end_of(l, count));
    }
    return ST_OK;
}
