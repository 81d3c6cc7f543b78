/* pe.c - the tensor engine: nc_matmul and nc_transpose.
 *
 * Products accumulate in f32. Operands that are rows of f32 are used in place, others are converted to packed panels
 * first; a result that is not rows of f32 is computed in a panel and rounded once per instruction.
 */
#include "eval/machine.h"

#include <string.h>

enum { P_STATIONARY, P_MOVING, P_DST, P_SCRATCH };

typedef struct Matrix { /* rows of f32, one per partition */
    float *p;
    int64_t ld; /* floats from row to row */
    bool in_place;
} Matrix;

/* The operand itself when it is rows of f32, else a panel; loaded when `read`. */
static Status
matrix_open(Machine *m, const Instr *in, int i, int panel, bool read, Matrix *out)
{
    const Opnd *o = &in->opnd[i];
    const View *v = &m->view[i];
    if (o->dtype == DT_f32 && o->ndim == 1 && (o->dim[0].stride == 1 || o->count == 1)) {
        *out = (Matrix){(float *)(void *)v->p, v->st->pitch / (int64_t)sizeof(float), true};
        return ST_OK;
    }
    TRY(panel_reserve(m, panel, (size_t)(o->nparts * o->count) * sizeof(float)));
    *out = (Matrix){m->panel[panel], o->count, false};
    if (!read)
        return ST_OK;
    Stream s;
    stream_open(&s, m, in, i);
    s.f32 = NULL;
    for (int64_t left = o->nparts * o->count, n, at = 0; left > 0; left -= n, at += n) {
        n = MIN(left, CHUNK);
        s.f32 = out->p + at; /* converts straight into the panel */
        const float *x = stream_in(&s, n);
        if (x != s.f32)
            memcpy(s.f32, x, (size_t)n * sizeof(float));
    }
    return ST_OK;
}

static void
matrix_store(Machine *m, const Instr *in, int i, const Matrix *a)
{
    const Opnd *o = &in->opnd[i];
    Stream s;
    stream_open(&s, m, in, i);
    for (int64_t left = o->nparts * o->count, n, at = 0; left > 0; left -= n, at += n) {
        n = MIN(left, CHUNK);
        float *y = stream_out(&s, n);
        if (s.in_place)
            memcpy(y, a->p + at, (size_t)n * sizeof(float));
        stream_put(&s, n, a->p + at);
    }
}

Status
eval_nc_matmul(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0], *st = &in->opnd[KM_stationary], *mv = &in->opnd[KM_moving];
    if (st->nparts != mv->nparts || st->count != d->nparts || mv->count != d->count)
        return bad(m, in, "nc_matmul: [%d, %lld].T by [%d, %lld] does not give [%d, %lld]", st->nparts,
                   (long long)st->count, mv->nparts, (long long)mv->count, d->nparts, (long long)d->count);
    bool add = in->accumulate;
    if (in->nopnd > KM_first && in->opnd[KM_first].v.i)
        add = add || m->var[in->opnd[KM_first].v.i] != 0;
    if (add)
        TRY(check_written(m, in, 0));
    Matrix a, b, c;
    TRY(matrix_open(m, in, KM_stationary, P_STATIONARY, true, &a));
    TRY(matrix_open(m, in, KM_moving, P_MOVING, true, &b));
    TRY(matrix_open(m, in, 0, P_DST, add, &c));
    int M = d->nparts, N = (int)d->count, K = st->nparts;
    if (gemm_wanted(m->opt)) {
        m->opt->gemm(m->opt->gemm_env, M, N, K, a.p, a.ld, b.p, b.ld, c.p, c.ld, add);
    } else {
        TRY(panel_reserve(m, P_SCRATCH, gemm_scratch_bytes()));
        gemm_own(m->panel[P_SCRATCH], M, N, K, a.p, a.ld, b.p, b.ld, c.p, c.ld, add);
    }
    if (!c.in_place)
        matrix_store(m, in, 0, &c);
    return ST_OK;
}

/* ---- accumulation loops ---- */

enum { BATCH_ROWS = 4096 }; /* of the contraction in one product */

static bool
has_var(const Affine *a, uint32_t var)
{
    for (uint32_t i = 0; i < a->nterms; i++)
        if (a->term[i].var.i == var)
            return true;
    return false;
}

/* True when a library multiplies, and every iteration adds to one result but for the first, which may start it. */
bool
is_batch(const Machine *m, const Instr *loop, const Instr *mm)
{
    if (!gemm_wanted(m->opt) || mm->code != K_nc_matmul || loop->count < 2)
        return false;
    const Opnd *d = &mm->opnd[0], *st = &mm->opnd[KM_stationary], *mv = &mm->opnd[KM_moving];
    bool adds = mm->accumulate || mm->opnd[KM_first].v.i == loop->var;
    return adds && st->nparts == mv->nparts && st->count == d->nparts && mv->count == d->count &&
           d->dtype == DT_f32 && !has_var(&d->ap->off, loop->var) && !has_var(&d->ap->part, loop->var);
}

/* Appends the rows of operand i to its panel. */
static void
pack_rows(Machine *m, const Instr *in, int i, float *to)
{
    enum { AHEAD = 4 }; /* rows; they may lie in different pages */
    const Opnd *o = &in->opnd[i];
    const View *v = &m->view[i];
    const int64_t n = o->count, pitch = v->st->pitch;
    if (o->ndim > 1) {
        Stream s;
        stream_open(&s, m, in, i);
        for (int64_t left = o->nparts * n, k; left > 0; left -= k, to += k) {
            k = MIN(left, CHUNK);
            memcpy(to, stream_in(&s, k), (size_t)k * sizeof(float));
        }
        return;
    }
    for (int32_t p = 0; p < o->nparts; p++, to += n) {
        const uint8_t *row = v->p + p * pitch;
        if (p + AHEAD < o->nparts && o->dim[0].stride == 1)
            for (int64_t at = 0; at < n * o->bytes; at += 64)
                __builtin_prefetch(row + AHEAD * pitch + at);
        dtype_to_f32((DType)o->dtype, row, o->dim[0].stride, n, to);
    }
}

Status
eval_batch(Machine *m, const Instr *loop, const Instr *mm)
{
    const Opnd *st = &mm->opnd[KM_stationary], *mv = &mm->opnd[KM_moving];
    const int64_t k = st->nparts, most = MAX(1, BATCH_ROWS / k), rows = MIN(most, loop->count) * k;
    TRY(panel_reserve(m, P_STATIONARY, (size_t)(rows * st->count) * sizeof(float)));
    TRY(panel_reserve(m, P_MOVING, (size_t)(rows * mv->count) * sizeof(float)));
    float *a = m->panel[P_STATIONARY], *b = m->panel[P_MOVING];
    bool add = mm->accumulate;
    TRY(operand_view(m, mm, 0));
    if (add)
        TRY(check_written(m, mm, 0));
    Matrix c;
    TRY(matrix_open(m, mm, 0, P_DST, add, &c));
    for (int64_t i = 0, held = 0; i < loop->count; i++) {
        m->var[loop->var] = i;
        TRY(operand_view(m, mm, KM_stationary));
        TRY(operand_view(m, mm, KM_moving));
        pack_rows(m, mm, KM_stationary, a + held * k * st->count);
        pack_rows(m, mm, KM_moving, b + held * k * mv->count);
        if (++held < most && i + 1 < loop->count)
            continue;
        m->opt->gemm(m->opt->gemm_env, (int)st->count, (int)mv->count, (int)(held * k), a, st->count, b, mv->count,
                     c.p, c.ld, add);
        add = true;
        held = 0;
    }
    if (!c.in_place)
        matrix_store(m, mm, 0, &c);
    mark_written(m, mm, 0);
    return ST_OK;
}

/* ---- transpose ---- */

/* dst[f, p] = data[p, f]; the patterns must be one run per partition for the direct way. */
Status
eval_nc_transpose(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0], *s = &in->opnd[1];
    if (d->nparts != s->count || d->count != s->nparts)
        return bad(m, in, "nc_transpose of [%d, %lld] needs [%lld, %d], the destination is [%d, %lld]", s->nparts,
                   (long long)s->count, (long long)s->count, s->nparts, d->nparts, (long long)d->count);
    const View *vd = &m->view[0], *vs = &m->view[1];
    if (d->dtype == s->dtype && d->ndim == 1 && s->ndim == 1) {
        transpose_2d(d->bytes, s->nparts, s->count, vd->p, vd->st->pitch, d->dim[0].stride * d->bytes, vs->p,
                     vs->st->pitch, s->dim[0].stride * s->bytes);
        return ST_OK;
    }
    size_t n = (size_t)(s->nparts * s->count), bytes = MAX(d->bytes, sizeof(float));
    TRY(panel_reserve(m, P_STATIONARY, n * bytes));
    TRY(panel_reserve(m, P_MOVING, n * bytes));
    uint8_t *from = (uint8_t *)m->panel[P_STATIONARY], *to = (uint8_t *)m->panel[P_MOVING];
    if (d->dtype != s->dtype) {
        Matrix a;
        TRY(matrix_open(m, in, 1, P_STATIONARY, true, &a));
        for (int32_t p = 0; p < s->nparts; p++) /* each row in the destination's dtype */
            dtype_from_f32((DType)d->dtype, a.p + p * a.ld, s->count, to + p * s->count * d->bytes, 1);
        memcpy(from, to, n * d->bytes);
    } else {
        Walk w;
        walk_open(&w, m, in, 1);
        walk_gather(&w, (int64_t)n, from);
    }
    transpose_2d(d->bytes, s->nparts, s->count, to, s->nparts * d->bytes, d->bytes, from, s->count * d->bytes,
                 d->bytes);
    Walk w;
    walk_open(&w, m, in, 0);
    walk_scatter(&w, (int64_t)n, to);
    return ST_OK;
}
