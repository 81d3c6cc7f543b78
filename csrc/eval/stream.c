/* stream.c - the elements of an access pattern in order: raw, as f32, cut into chunks that stay in the cache.
 *
 * A walk goes over [partition, dims...] with strides in bytes. A stream hands out f32 chunks: memory itself when the
 * chunk is contiguous f32, a converted copy otherwise.
 */
#include "eval/machine.h"

#include <string.h>

void
walk_start(Walk *w, uint8_t *p, int bytes, const ApDim *dim, int ndim)
{
    *w = (Walk){.p = p, .bytes = bytes, .run = 1, .step = bytes};
    int i = ndim - 1;
    for (; i >= 0 && dim[i].count == 1; i--)
        ;
    if (i >= 0) {
        w->run = dim[i].count;
        w->step = dim[i].stride;
        for (i--; i >= 0; i--) {
            if (dim[i].count == 1)
                continue;
            if (w->n == 0 && dim[i].stride == w->step * w->run) { /* one run */
                w->run *= dim[i].count;
                continue;
            }
            w->count[w->n] = dim[i].count;
            w->stride[w->n++] = dim[i].stride;
        }
    }
    w->left = w->run;
}

void
walk_open(Walk *w, const Machine *m, const Instr *in, int i)
{
    const Opnd *o = &in->opnd[i];
    ApDim dim[MAX_WALK];
    dim[0] = (ApDim){o->nparts, m->view[i].st->pitch};
    for (int d = 0; d < o->ndim; d++)
        dim[d + 1] = (ApDim){o->dim[d].count, o->dim[d].stride * o->bytes};
    walk_start(w, m->view[i].p, o->bytes, dim, o->ndim + 1);
}

/* To the first element of the next run; the run at hand is used up. */
static void
next_run(Walk *w)
{
    w->p -= w->step * w->run;
    w->left = w->run;
    for (int d = 0; d < w->n; d++) {
        w->p += w->stride[d];
        if (++w->idx[d] < w->count[d])
            return;
        w->p -= w->stride[d] * w->count[d];
        w->idx[d] = 0;
    }
}

static inline void
advance(Walk *w, int64_t n) /* n <= left */
{
    w->p += w->step * n;
    w->left -= n;
    if (w->left == 0)
        next_run(w);
}

void
walk_skip(Walk *w, int64_t n)
{
    while (n > 0) {
        int64_t r = MIN(n, w->left);
        advance(w, r);
        n -= r;
    }
}

#define COPY_LOOP(T)                        \
    for (int64_t i = 0; i < n; i++) {       \
        T v;                                \
        memcpy(&v, s, sizeof(T));           \
        memcpy(d, &v, sizeof(T));           \
        s += sstep;                         \
        d += dstep;                         \
    }                                       \
    break

void
copy_strided(int bytes, int64_t n, uint8_t *d, int64_t dstep, const uint8_t *s, int64_t sstep)
{
    if (dstep == bytes && sstep == bytes) {
        memmove(d, s, (size_t)(n * bytes));
        return;
    }
    switch (bytes) {
    case 1: COPY_LOOP(uint8_t);
    case 2: COPY_LOOP(uint16_t);
    case 4: COPY_LOOP(uint32_t);
    default: COPY_LOOP(uint64_t);
    }
}

void
walk_gather(Walk *w, int64_t n, void *out)
{
    uint8_t *d = out;
    while (n > 0) {
        int64_t r = MIN(n, w->left);
        copy_strided(w->bytes, r, d, w->bytes, w->p, w->step);
        d += r * w->bytes;
        n -= r;
        advance(w, r);
    }
}

void
walk_scatter(Walk *w, int64_t n, const void *src)
{
    const uint8_t *s = src;
    while (n > 0) {
        int64_t r = MIN(n, w->left);
        copy_strided(w->bytes, r, w->p, w->step, s, w->bytes);
        s += r * w->bytes;
        n -= r;
        advance(w, r);
    }
}

/* Makes the innermost run of a new walk `run` long by splitting it; false when it does not divide. */
static bool
split_run(Walk *w, int64_t run)
{
    if (w->run == run)
        return true;
    if (w->run % run || w->n == MAX_WALK)
        return false;
    for (int d = w->n++; d > 0; d--) {
        w->count[d] = w->count[d - 1];
        w->stride[d] = w->stride[d - 1];
    }
    w->count[0] = w->run / run;
    w->stride[0] = w->step * run;
    w->left = w->run = run;
    return true;
}

static bool
is_crossed(const Walk *d, const Walk *s, int dim)
{
    int64_t b = d->bytes;
    return (d->step == b && s->stride[dim] == b) || (s->step == b && d->stride[dim] == b);
}

static void
dim_to_front(Walk *w, int dim)
{
    int64_t count = w->count[dim], stride = w->stride[dim];
    for (int d = dim; d > 0; d--) {
        w->count[d] = w->count[d - 1];
        w->stride[d] = w->stride[d - 1];
    }
    w->count[0] = count;
    w->stride[0] = stride;
}

/* Where one side is contiguous across its runs and the other along them, blocks are copied as transposes. Dims that
 * both sides step through alike may come in any order. */
static bool
copy_transposed(Walk *d, Walk *s, int64_t n)
{
    int64_t run = MIN(d->run, s->run);
    if (run < 4 || !split_run(d, run) || !split_run(s, run) || !d->n || !s->n)
        return false;
    int dim = 0, most = MIN(d->n, s->n) - 1;
    while (dim < most && !is_crossed(d, s, dim) && d->count[dim] == s->count[dim])
        dim++;
    int64_t cols = MIN(d->count[dim], s->count[dim]);
    if (!is_crossed(d, s, dim) || cols < 4 || d->count[dim] % cols || s->count[dim] % cols)
        return false;
    if (dim > 0 && d->count[dim] != s->count[dim])
        return false;
    dim_to_front(d, dim);
    dim_to_front(s, dim);
    for (int64_t done = 0; done < n; done += run * cols) {
        transpose_2d((int)d->bytes, run, cols, d->p, d->stride[0], d->step, s->p, s->step, s->stride[0]);
        walk_skip(d, run * cols);
        walk_skip(s, run * cols);
    }
    return true;
}

void
walk_copy(Walk *d, Walk *s, int64_t n)
{
    bool plain = d->step == d->bytes && s->step == s->bytes;
    if (!plain && copy_transposed(d, s, n))
        return;
    while (n > 0) {
        int64_t r = MIN(n, MIN(d->left, s->left));
        copy_strided(d->bytes, r, d->p, d->step, s->p, s->step);
        n -= r;
        advance(d, r);
        advance(s, r);
    }
}

/* ---- f32 ---- */

void
stream_open(Stream *s, Machine *m, const Instr *in, int i)
{
    walk_open(&s->w, m, in, i);
    s->m = m;
    s->dt = (DType)in->opnd[i].dtype;
    s->f32 = (float *)(void *)m->stage[i];
    s->raw = m->stage[i] + CHUNK * sizeof(float);
    s->in_place = false;
}

const float *
stream_in(Stream *s, int64_t n)
{
    bool contiguous = s->w.left >= n && s->w.step == s->w.bytes;
    const uint8_t *p = s->w.p;
    if (contiguous && s->dt == DT_f32) {
        advance(&s->w, n);
        return (const float *)(const void *)p;
    }
    if (s->dt == DT_f32) {
        walk_gather(&s->w, n, s->f32);
        return s->f32;
    }
    if (contiguous)
        advance(&s->w, n);
    else if (s->w.bytes == 8) { /* does not fit the raw area: convert run by run */
        for (int64_t done = 0, r; done < n; done += r) {
            r = MIN(n - done, s->w.left);
            for (int64_t k = 0; k < r; k++)
                dtype_to_f32(s->dt, s->w.p + k * s->w.step, 1, 1, s->f32 + done + k);
            advance(&s->w, r);
        }
        return s->f32;
    } else {
        walk_gather(&s->w, n, s->raw);
        p = s->raw;
    }
    dtype_to_f32(s->dt, p, 1, n, s->f32);
    return s->f32;
}

float *
stream_out(Stream *s, int64_t n)
{
    s->in_place = s->dt == DT_f32 && s->w.left >= n && s->w.step == s->w.bytes;
    return s->in_place ? (float *)(void *)s->w.p : s->f32;
}

void
stream_put(Stream *s, int64_t n, const float *from)
{
    Walk *w = &s->w;
    if (s->in_place) {
        advance(w, n);
    } else if (s->dt == DT_f32) {
        walk_scatter(w, n, from);
    } else if (w->left >= n && w->step == w->bytes) {
        round_to(s->m, s->dt, from, n, w->p);
        advance(w, n);
    } else if (w->bytes == 8) {
        for (int64_t k = 0; k < n; k++) {
            round_to(s->m, s->dt, from + k, 1, w->p);
            advance(w, 1);
        }
    } else {
        round_to(s->m, s->dt, from, n, s->raw);
        walk_scatter(w, n, s->raw);
    }
}

/* ---- one value per partition ---- */

void
scalars_open(Scalars *s, Machine *m, const Instr *in, int i, float constant, bool flat, int64_t count)
{
    *s = (Scalars){.m = m, .in = in, .i = -1, .value = constant, .flat = flat};
    if (i >= 0 && has_opnd(in, i)) {
        const Opnd *o = &in->opnd[i];
        s->i = i;
        stream_open(&s->s, m, in, i);
        ApDim dim[2] = {{o->nparts, m->view[i].st->pitch}, {count, 0}};
        walk_start(&s->s.w, m->view[i].p, o->bytes, dim, 2);
    } else if (flat) {
        s->s.f32 = (float *)(void *)m->stage[i >= 0 ? i : NSTAGE - 1];
        for (int64_t k = 0; k < CHUNK; k++)
            s->s.f32[k] = constant;
    }
}

const float *
scalars_next(Scalars *s, const Chunks *c)
{
    if (s->flat)
        return s->i < 0 ? s->s.f32 : stream_in(&s->s, c->n);
    if (s->i >= 0 && c->row_start) {
        const Opnd *o = &s->in->opnd[s->i];
        const View *v = &s->m->view[s->i];
        dtype_to_f32((DType)o->dtype, v->p + c->part * v->st->pitch, 1, 1, &s->value);
    }
    return &s->value;
}

/* ---- chunks ---- */

void
chunks_start(Chunks *c, const Instr *in, const int *opnds, int n, int64_t nparts, int64_t count)
{
    *c = (Chunks){.count = count, .left = nparts * count, .most = CHUNK};
    c->flat = count < FLAT_BELOW && nparts > 1;
    if (c->flat)
        c->most = CHUNK / count * count; /* whole rows */
    for (int k = 0; k < n && !c->flat; k++) { /* whole runs of every operand can be used in place */
        const Opnd *o = &in->opnd[opnds[k]];
        int64_t run = o->dim[o->ndim - 1].count;
        if (has_opnd(in, opnds[k]) && o->ndim > 1 && run >= FLAT_BELOW)
            c->most = MIN(c->most, run);
    }
}

bool
chunks_next(Chunks *c)
{
    if (c->left == 0)
        return false;
    if (c->flat) {
        c->n = MIN(c->left, c->most);
        c->left -= c->n;
        return true;
    }
    c->in_row += c->n;
    c->row_start = c->in_row == 0 || c->in_row == c->count;
    if (c->in_row == c->count) {
        c->in_row = 0;
        c->part++;
    }
    c->n = MIN(c->count - c->in_row, c->most);
    c->left -= c->n;
    return true;
}
