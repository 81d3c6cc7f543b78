/* dma.c - moves between HBM and SBUF.
 *
 * Elements move in the order of the two patterns, partitions first on chip. Equal dtypes move bits; different ones go
 * through f32.
 */
#include "eval/machine.h"

static int64_t
elements(const Opnd *o)
{
    return o->nparts * o->count;
}

Status
eval_dma_copy(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[KI_dst], *s = &in->opnd[KI_src];
    int64_t left = elements(d);
    if (left != elements(s))
        return bad(m, in, "dma_copy moves %lld elements into %lld", (long long)elements(s), (long long)left);
    if (d->dtype == s->dtype) {
        Walk wd, ws;
        walk_open(&wd, m, in, KI_dst);
        walk_open(&ws, m, in, KI_src);
        walk_copy(&wd, &ws, left);
        return ST_OK;
    }
    Stream sd, ss;
    stream_open(&sd, m, in, KI_dst);
    stream_open(&ss, m, in, KI_src);
    for (int64_t n; left > 0; left -= n) {
        n = MIN(left, CHUNK);
        stream_out(&sd, n);
        const float *x = stream_in(&ss, n);
        if (sd.in_place)
            copy_strided(4, n, sd.w.p, 4, (const uint8_t *)x, 4);
        stream_put(&sd, n, x);
    }
    return ST_OK;
}

Status
eval_dma_transpose(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[KI_dst], *s = &in->opnd[KI_src];
    if (d->dtype != s->dtype)
        return bad(m, in, "dma_transpose needs equal dtypes, got %s and %s", dtypes[d->dtype].name,
                   dtypes[s->dtype].name);
    ApDim dim[MAX_WALK], rev[MAX_WALK];
    int n = 0;
    if (s->space != SP_hbm)
        dim[n++] = (ApDim){s->nparts, m->view[KI_src].st->pitch};
    for (uint32_t k = 0; k < s->ap->ndim; k++)
        dim[n++] = (ApDim){s->ap->dim[k].count, s->ap->dim[k].stride * s->bytes};
    if (n < 2 || n > 3)
        return bad(m, in, "dma_transpose needs a source of 2 or 3 dims, got %d", n);
    if (elements(d) != elements(s) || d->nparts != dim[n - 1].count)
        return bad(m, in, "dma_transpose needs %lld partitions and %lld elements, the destination has %d and %lld",
                   (long long)dim[n - 1].count, (long long)elements(s), d->nparts, (long long)elements(d));
    for (int k = 0; k < n; k++)
        rev[k] = dim[n - 1 - k];
    Walk wd, ws;
    walk_open(&wd, m, in, KI_dst);
    walk_start(&ws, m->view[KI_src].p, s->bytes, rev, n);
    walk_copy(&wd, &ws, elements(d));
    return ST_OK;
}
