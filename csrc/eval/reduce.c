/* reduce.c - tensor_reduce, tensor_partition_reduce and the partition shuffle. */
#include "eval/machine.h"

#include <string.h>

typedef struct Reduce { /* a tensor_reduce under way */
    Machine *m;
    const Instr *in;
    Stream dst;
    float *res; /* results waiting to be stored */
    int64_t nres;
} Reduce;

static void
flush(Reduce *r)
{
    if (r->in->negate)
        for (int64_t i = 0; i < r->nres; i++)
            r->res[i] *= -1.0f;
    float *to = stream_out(&r->dst, r->nres);
    if (r->dst.in_place)
        memcpy(to, r->res, (size_t)r->nres * sizeof(float));
    stream_put(&r->dst, r->nres, r->res);
    r->nres = 0;
}

static void
result(Reduce *r, double v)
{
    r->res[r->nres++] = (float)v;
    if (r->nres == CHUNK)
        flush(r);
}

/* Groups of `len` neighbours in the order of the pattern. */
static void
reduce_groups(Reduce *r, int64_t total, int64_t len)
{
    const int op = r->in->op0;
    Stream s;
    stream_open(&s, r->m, r->in, 1);
    if (len > CHUNK) {
        for (int64_t g = 0; g < total / len; g++) {
            double acc = reduce_first(op);
            for (int64_t at = 0, n; at < len; at += n) {
                n = MIN(len - at, CHUNK);
                acc = reduce_more(op, acc, stream_in(&s, n), n);
            }
            result(r, acc);
        }
        return;
    }
    for (int64_t left = total, n; left > 0; left -= n) {
        n = MIN(left, CHUNK / len * len);
        if (s.w.left >= len && s.w.left < n)
            n = s.w.left / len * len; /* stays in one run: read in place */
        const float *x = stream_in(&s, n);
        for (int64_t at = 0; at < n; at += len)
            result(r, reduce_more(op, reduce_first(op), x + at, len));
    }
}

/* The reduced dims lie outside of a contiguous kept one: whole runs are combined. `kept` dims come first. */
static void
reduce_runs(Reduce *r, int kept)
{
    const Opnd *o = &r->in->opnd[1];
    const Ap *ap = o->ap;
    const int nd = (int)ap->ndim, op = r->in->op0;
    const int64_t run = ap->dim[kept - 1].count, pitch = r->m->view[1].st->pitch;
    float *acc = (float *)(void *)r->m->stage[4], *row = (float *)(void *)r->m->stage[5];
    int64_t outer = 1, len = 1;
    for (int d = 0; d < kept - 1; d++)
        outer *= ap->dim[d].count;
    for (int d = kept; d < nd; d++)
        len *= ap->dim[d].count;
    for (int64_t po = 0; po < o->nparts * outer; po++) {
        int64_t base = 0, rest = po % outer;
        for (int d = kept - 2; d >= 0; d--) {
            base += rest % ap->dim[d].count * ap->dim[d].stride;
            rest /= ap->dim[d].count;
        }
        const uint8_t *p = r->m->view[1].p + po / outer * pitch + base * o->bytes;
        for (int64_t at = 0, n; at < run; at += n) {
            n = MIN(run - at, CHUNK);
            for (int64_t k = 0; k < len; k++) {
                int64_t off = at, q = k;
                for (int d = nd - 1; d >= kept; d--) {
                    off += q % ap->dim[d].count * ap->dim[d].stride;
                    q /= ap->dim[d].count;
                }
                dtype_to_f32((DType)o->dtype, p + off * o->bytes, 1, n, k ? row : acc);
                if (k)
                    alu_fns[op](acc, acc, row, n, VV);
            }
            for (int64_t i = 0; i < n; i++)
                result(r, (double)acc[i]);
        }
    }
}

Status
eval_tensor_reduce(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0], *o = &in->opnd[1];
    const int nd = (int)o->ap->ndim;
    if (!is_reduction(in->op0))
        return bad(m, in, "tensor_reduce cannot reduce with this operator");
    if (in->naxes < 1 || in->naxes > nd)
        return bad(m, in, "tensor_reduce reduces %lld of %d dims", (long long)in->naxes, nd);
    int64_t len = 1;
    for (int k = nd - (int)in->naxes; k < nd; k++)
        len *= o->ap->dim[k].count;
    if (d->nparts != o->nparts || d->count * len != o->count)
        return bad(m, in, "tensor_reduce: %d partitions of %lld results, but the destination has %d of %lld",
                   o->nparts, (long long)(o->count / len), d->nparts, (long long)d->count);
    TRY(check_logic_operand(m, in, in->op0, 1));
    Reduce r = {.m = m, .in = in, .res = (float *)(void *)m->stage[6]};
    stream_open(&r.dst, m, in, 0);
    int kept = nd - (int)in->naxes;
    if (kept > 0 && o->ap->dim[nd - 1].stride != 1 && o->ap->dim[kept - 1].stride == 1 &&
        o->ap->dim[kept - 1].count >= 16)
        reduce_runs(&r, kept);
    else
        reduce_groups(&r, o->nparts * o->count, len);
    if (r.nres)
        flush(&r);
    return ST_OK;
}

/* A walk over one partition of an operand. */
static void
walk_row(Walk *w, const Machine *m, const Instr *in, int i, int64_t p)
{
    const Opnd *o = &in->opnd[i];
    ApDim dim[MAX_WALK];
    for (int d = 0; d < o->ndim; d++)
        dim[d] = (ApDim){o->dim[d].count, o->dim[d].stride * o->bytes};
    walk_start(w, m->view[i].p + p * m->view[i].st->pitch, o->bytes, dim, o->ndim);
}

Status
eval_tensor_partition_reduce(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0], *o = &in->opnd[1];
    if (!is_reduction(in->op0))
        return bad(m, in, "tensor_partition_reduce cannot reduce with this operator");
    if (d->nparts != 1 || d->count != o->count)
        return bad(m, in, "tensor_partition_reduce gives 1 partition of %lld elements, the destination has %d of %lld",
                   (long long)o->count, d->nparts, (long long)d->count);
    TRY(check_logic_operand(m, in, in->op0, 1));
    float *acc = (float *)(void *)m->stage[4];
    Stream sd, s;
    stream_open(&sd, m, in, 0);
    stream_open(&s, m, in, 1);
    for (int64_t at = 0, n; at < o->count; at += n) {
        n = MIN(o->count - at, CHUNK);
        for (int64_t p = 0; p < o->nparts; p++) {
            walk_row(&s.w, m, in, 1, p);
            walk_skip(&s.w, at);
            const float *x = stream_in(&s, n);
            if (p == 0)
                memcpy(acc, x, (size_t)n * sizeof(float));
            else
                alu_fns[in->op0](acc, acc, x, n, VV);
        }
        float *y = stream_out(&sd, n);
        if (sd.in_place)
            memcpy(y, acc, (size_t)n * sizeof(float));
        stream_put(&sd, n, acc);
    }
    return ST_OK;
}

/* One group of up to 32 partitions; all sources are read before anything is written. */
static void
shuffle_group(Machine *m, const Instr *in, int64_t first, int64_t lanes)
{
    enum { COLS = CHUNK / 32 };
    const Opnd *d = &in->opnd[0];
    uint8_t *stage = m->stage[4];
    Walk from[32], to[32];
    for (int64_t i = 0; i < lanes; i++) {
        walk_row(&from[i], m, in, 1, first + MIN(in->ints[i], lanes - 1));
        walk_row(&to[i], m, in, 0, first + i);
    }
    for (int64_t at = 0, n; at < d->count; at += n) {
        n = MIN(d->count - at, COLS);
        for (int64_t i = 0; i < lanes; i++)
            walk_gather(&from[i], n, stage + i * COLS * d->bytes);
        for (int64_t i = 0; i < lanes; i++)
            if (in->ints[i] != 255)
                walk_scatter(&to[i], n, stage + i * COLS * d->bytes);
    }
}

Status
eval_nc_stream_shuffle(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0];
    TRY(need_same(m, in, 0, 1));
    if (in->nints != 32 || d->dtype != in->opnd[1].dtype)
        return bad(m, in, "nc_stream_shuffle needs a mask of 32 lanes and equal dtypes");
    for (int64_t first = 0; first < d->nparts; first += 32) {
        int64_t lanes = MIN(32, d->nparts - first);
        for (int64_t i = 0; i < lanes; i++)
            if (in->ints[i] < 0 || (in->ints[i] >= lanes && in->ints[i] != 255))
                return bad(m, in, "nc_stream_shuffle: lane %lld has no source lane %lld", (long long)i,
                           (long long)in->ints[i]);
        shuffle_group(m, in, first, lanes);
        for (int64_t i = 0; i < lanes; i++)
            if (in->ints[i] != 255)
                mark_partition(m, in, 0, (int)(first + i));
    }
    return ST_OK;
}
