/* pe.c - the tensor engine: nc_matmul and nc_transpose.
 *
 * Products accumulate in f32. Operands with one run per partition are packed from where they are, others are gathered
 * into a panel first; a result that is not rows of f32 is computed in a panel and rounded once per instruction. A loop
 * of one nc_matmul that accumulates is a job for several threads, each with columns of the result: the same sums in
 * the same order as one instruction after the other.
 */
#include "eval/machine.h"

#include <string.h>

/* ---- operands ---- */

static bool
is_run(const Opnd *o)
{
    return o->ndim == 1;
}

static bool
is_f32_row(const Opnd *o)
{
    return o->dtype == DT_f32 && o->ndim == 1 && (o->dim[0].stride == 1 || o->count == 1);
}

/* A one-run operand where it is. */
static Rows
rows_at(const Machine *m, const Opnd *o, int i)
{
    const View *v = &m->view[i];
    return (Rows){v->p, v->st->pitch, o->dim[0].stride, o->nparts, (int)o->count, (DType)o->dtype};
}

/* All elements of the operand as f32, in order. */
static void
gather(Machine *m, const Instr *in, int i, float *to)
{
    const Opnd *o = &in->opnd[i];
    Stream s;
    stream_open(&s, m, in, i);
    for (int64_t left = o->nparts * o->count, n; left > 0; left -= n, to += n) {
        n = MIN(left, CHUNK);
        s.f32 = to; /* converts straight into the panel */
        const float *x = stream_in(&s, n);
        if (x != to)
            memcpy(to, x, (size_t)n * sizeof(float));
    }
}

static Status
rows_open(Machine *m, const Instr *in, int i, int panel, Rows *out)
{
    const Opnd *o = &in->opnd[i];
    *out = rows_at(m, o, i);
    if (is_run(o))
        return ST_OK;
    TRY(panel_reserve(m, panel, (size_t)(o->nparts * o->count) * sizeof(float)));
    gather(m, in, i, m->panel[panel]);
    *out = (Rows){(const uint8_t *)m->panel[panel], o->count * (int64_t)sizeof(float), 1, o->nparts, (int)o->count,
                  DT_f32};
    return ST_OK;
}

typedef struct Result { /* rows of f32 */
    float *p;
    int64_t ld; /* floats from row to row */
    bool in_place;
} Result;

/* The result itself when it is rows of f32, else a panel; loaded when it is added to. */
static Status
result_open(Machine *m, const Instr *in, bool add, Result *out)
{
    const Opnd *o = &in->opnd[0];
    const View *v = &m->view[0];
    if (is_f32_row(o)) {
        *out = (Result){(float *)(void *)v->p, v->st->pitch / (int64_t)sizeof(float), true};
        return ST_OK;
    }
    TRY(panel_reserve(m, PANEL_DST, (size_t)(o->nparts * o->count) * sizeof(float)));
    *out = (Result){m->panel[PANEL_DST], o->count, false};
    if (add)
        gather(m, in, 0, out->p);
    return ST_OK;
}

static void
result_store(Machine *m, const Instr *in, const Result *c)
{
    const Opnd *o = &in->opnd[0];
    Stream s;
    stream_open(&s, m, in, 0);
    for (int64_t left = o->nparts * o->count, n, at = 0; left > 0; left -= n, at += n) {
        n = MIN(left, CHUNK);
        float *y = stream_out(&s, n);
        if (s.in_place)
            memcpy(y, c->p + at, (size_t)n * sizeof(float));
        stream_put(&s, n, c->p + at);
    }
}

/* ---- one product ---- */

static bool
has_shape(const Instr *in)
{
    const Opnd *d = &in->opnd[0], *st = &in->opnd[KM_stationary], *mv = &in->opnd[KM_moving];
    return st->nparts == mv->nparts && st->count == d->nparts && mv->count == d->count;
}

Status
eval_nc_matmul(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0], *st = &in->opnd[KM_stationary], *mv = &in->opnd[KM_moving];
    if (!has_shape(in))
        return bad(m, in, "nc_matmul: [%d, %lld].T by [%d, %lld] does not give [%d, %lld]", st->nparts,
                   (long long)st->count, mv->nparts, (long long)mv->count, d->nparts, (long long)d->count);
    bool add = in->accumulate;
    if (in->nopnd > KM_first && in->opnd[KM_first].v.i)
        add = add || m->var[in->opnd[KM_first].v.i] != 0;
    if (add)
        TRY(check_written(m, in, 0));
    Rows a, b;
    Result c;
    TRY(rows_open(m, in, KM_stationary, PANEL_MOVING, &a));
    TRY(panel_reserve(m, PANEL_STATIONARY, gemm_packed(a.n, a.cols) * sizeof(float)));
    gemm_pack(&a, m->panel[PANEL_STATIONARY]);
    TRY(rows_open(m, in, KM_moving, PANEL_MOVING, &b));
    TRY(result_open(m, in, add, &c));
    gemm_product(m->panel[PANEL_STATIONARY], d->nparts, &b, c.p, c.ld, add);
    if (!c.in_place)
        result_store(m, in, &c);
    return ST_OK;
}

/* ---- accumulation loops ---- */

enum {
    BATCH_COLS = 128,        /* columns of a task */
    THREADS_ABOVE = 1 << 24, /* multiply-adds that are worth threads */
    HELD = MAX_PARTS * MAX_PARTS, /* floats from one packed stationary tile to the next */
};

typedef struct Batch { /* some iterations of a loop */
    Rows a[MAX_STEPS], b[MAX_STEPS];
    int unpacked[MAX_STEPS]; /* which a[] have yet to be packed */
    int n, nunpacked;
    float *packed;           /* a[i] at i * HELD */
    float *c;
    int64_t ldc;
    bool add;                /* the first iteration adds too */
} Batch;

static bool
has_var(const Affine *a, uint32_t var)
{
    for (uint32_t i = 0; i < a->nterms; i++)
        if (a->term[i].var.i == var)
            return true;
    return false;
}

/* True when every iteration adds to one result in place, but for the first, which may start it. */
bool
is_batch(const Instr *loop, const Instr *mm)
{
    if (mm->code != K_nc_matmul || loop->count < 2 || !has_shape(mm))
        return false;
    const Opnd *d = &mm->opnd[0];
    bool adds = mm->accumulate || mm->opnd[KM_first].v.i == loop->var;
    return adds && is_f32_row(d) && is_run(&mm->opnd[KM_stationary]) && is_run(&mm->opnd[KM_moving]) &&
           !has_var(&d->ap->off, loop->var) && !has_var(&d->ap->part, loop->var);
}

static void
pack_task(void *env, int task)
{
    const Batch *t = env;
    int i = t->unpacked[task];
    gemm_pack(&t->a[i], t->packed + i * HELD);
}

static void
columns_task(void *env, int task)
{
    const Batch *t = env;
    int at = task * BATCH_COLS;
    for (int i = 0; i < t->n; i++) {
        Rows b = t->b[i];
        b.p += at * b.stride * dtypes[b.dtype].bytes;
        b.cols = MIN(BATCH_COLS, b.cols - at);
        gemm_product(t->packed + i * HELD, t->a[i].cols, &b, t->c + at, t->ldc, t->add || i > 0);
    }
}

static bool
same_rows(const Rows *a, const Rows *b)
{
    return a->p == b->p && a->pitch == b->pitch && a->stride == b->stride && a->n == b->n && a->cols == b->cols &&
           a->dtype == b->dtype;
}

/* What is still packed from the batch before: loops over parts of a wide result read the same stationary tiles. */
static void
batch_held(Machine *m, Batch *t)
{
    bool current = m->held_at == m->sbuf_writes;
    t->nunpacked = 0;
    for (int i = 0; i < t->n; i++)
        if (!current || !same_rows(&m->held[i], &t->a[i]))
            t->unpacked[t->nunpacked++] = i;
    for (int i = 0; i < MAX_STEPS; i++)
        if (i < t->n || !current)
            m->held[i] = i < t->n ? t->a[i] : (Rows){0};
    m->held_at = m->sbuf_writes;
}

static void
batch_run(Machine *m, Batch *t)
{
    const Rows *b = &t->b[0];
    int tasks = (int)CEIL_DIV(b->cols, BATCH_COLS);
    batch_held(m, t);
    if ((int64_t)t->n * b->n * b->cols * t->a[0].cols < THREADS_ABOVE) {
        for (int i = 0; i < t->nunpacked; i++)
            pack_task(t, i);
        for (int i = 0; i < tasks; i++)
            columns_task(t, i);
        return;
    }
    if (t->nunpacked)
        pool_run(m, t->nunpacked, pack_task, t);
    pool_run(m, tasks, columns_task, t);
}

/* Each iteration's operands are checked when it is collected, and none of them is written in the loop. */
Status
eval_batch(Machine *m, const Instr *loop, const Instr *mm)
{
    const Opnd *st = &mm->opnd[KM_stationary], *mv = &mm->opnd[KM_moving];
    Batch t = {.add = mm->accumulate};
    Result c;
    TRY(operand_view(m, mm, 0));
    if (t.add)
        TRY(check_written(m, mm, 0));
    TRY(result_open(m, mm, t.add, &c));
    TRY(panel_reserve(m, PANEL_HELD, sizeof(float) * MAX_STEPS * HELD));
    t.packed = m->panel[PANEL_HELD];
    t.c = c.p;
    t.ldc = c.ld;
    for (int64_t i = 0; i < loop->count; i++) {
        m->var[loop->var] = i;
        TRY(operand_view(m, mm, KM_stationary));
        TRY(operand_view(m, mm, KM_moving));
        t.a[t.n] = rows_at(m, st, KM_stationary);
        t.b[t.n] = rows_at(m, mv, KM_moving);
        if (++t.n < MAX_STEPS && i + 1 < loop->count)
            continue;
        batch_run(m, &t);
        t.add = true;
        t.n = 0;
    }
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
    TRY(panel_reserve(m, PANEL_STATIONARY, n * bytes));
    TRY(panel_reserve(m, PANEL_MOVING, n * bytes));
    uint8_t *from = (uint8_t *)m->panel[PANEL_STATIONARY], *to = (uint8_t *)m->panel[PANEL_MOVING];
    if (d->dtype != s->dtype) {
        gather(m, in, 1, m->panel[PANEL_MOVING]);
        dtype_from_f32((DType)d->dtype, m->panel[PANEL_MOVING], (int64_t)n, from, 1);
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
