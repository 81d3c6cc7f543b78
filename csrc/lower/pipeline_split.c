/* pipeline_split.c - long DMAs in pieces, so that who needs the beginning does not wait for the end.
 *
 * in:   a straight program
 * out:  the same with DMAs of more than so many microseconds cut along the outermost free dim that both sides have
 * rule: equal pieces; runs in a partition stay at least as long as a DMA wants them
 */
#include "lower/pipeline.h"

#include <string.h>

/* The dims that a cut would go through: of the chip's pattern and HBM's; false: none that they share. */
static bool
shared_dim(const Touch *chip, const Touch *hbm)
{
    const Ap *c = chip->ap, *h = hbm->ap;
    if (!c->nparts || h->nparts || c->ndim == 0 || h->ndim != c->ndim + 1 || h->dim[0].count != c->nparts)
        return false;
    return h->dim[1].count == c->dim[0].count;
}

/* How many pieces the node becomes. */
static int64_t
pieces_of(const Straight *s, const Node *n, double us)
{
    const Touch *dst = &s->touch.p[n->touch], *src = dst + 1;
    if (n->work[0].engine != EN_dma || s->g->ops.p[n->op].code != K_dma_copy)
        return 1;
    const Touch *chip = dst->ap->nparts ? dst : src, *hbm = dst->ap->nparts ? src : dst;
    int64_t count = (int64_t)(n->work[0].issue / us);
    if (count < 2 || !shared_dim(chip, hbm))
        return 1;
    int64_t whole = chip->ap->dim[0].count;
    if (chip->ap->ndim == 1) { /* the cut goes through a run */
        int64_t bytes = whole * dtypes[val_dtype(s->g, s->value.p[chip->buf].val)].bytes;
        count = MIN(count, MAX(bytes / (int64_t)s->hw->dma_good_bytes, 1));
    }
    while (whole % count)
        count--;
    return count;
}

/* Elements [k * len, (k + 1) * len) of dim `d`. */
static Status
cut_touch(Straight *s, const Touch *t, uint32_t d, int64_t k, int64_t len, Touch *out)
{
    Ap *ap;
    NEW(s->g->cx, s->a, ap, 1);
    *ap = *t->ap;
    ap->dim[d].count = len;
    *out = *t;
    out->ap = ap;
    out->off += k * len * ap->dim[d].stride;
    int64_t bytes = dtypes[val_dtype(s->g, s->value.p[t->buf].val)].bytes, lo, hi;
    ap_extent(ap, &lo, &hi);
    out->at.lo = (out->off + lo - ap->off.c) * bytes;
    out->at.hi = (out->off + hi - ap->off.c + 1) * bytes;
    return ST_OK;
}

static Status
add_piece(Straight *s, const Straight *from, const Node *n, int64_t k, int64_t count)
{
    Node piece = *n;
    const Touch *t = &from->touch.p[n->touch];
    piece.touch = s->touch.n;
    for (uint32_t i = 0; i < 2; i++) {
        Touch cut;
        uint32_t d = t[i].ap->nparts ? 0 : 1;
        TRY(cut_touch(s, &t[i], d, k, t[i].ap->dim[d].count / count, &cut));
        VEC_PUSH(s->g->cx, s->a, &s->touch, cut);
    }
    const Ap *ap[] = {s->touch.p[piece.touch].ap, s->touch.p[piece.touch + 1].ap};
    piece.work[0] = work_of(s->g, &s->g->ops.p[n->op], ap);
    VEC_PUSH(s->g->cx, s->a, &s->node, piece);
    return ST_OK;
}

Status
straight_split(const Straight *in, double us, Straight *out)
{
    *out = *in;
    memset(&out->node, 0, sizeof(out->node));
    memset(&out->touch, 0, sizeof(out->touch));
    memset(&out->value, 0, sizeof(out->value));
    TRY(vec_reserve(in->g->cx, in->a, &out->value, in->value.n, sizeof(Value)));
    memcpy(out->value.p, in->value.p, sizeof(Value) * in->value.n);
    out->value.n = in->value.n;
    TRY(vec_reserve(in->g->cx, in->a, &out->node, in->node.n, sizeof(Node)));
    TRY(vec_reserve(in->g->cx, in->a, &out->touch, in->touch.n, sizeof(Touch)));
    for (uint32_t i = 0; i < in->node.n; i++) {
        const Node *n = &in->node.p[i];
        int64_t count = pieces_of(in, n, us);
        for (int64_t k = 0; count > 1 && k < count; k++)
            TRY(add_piece(out, in, n, k, count));
        if (count > 1)
            continue;
        Node whole = *n;
        whole.touch = out->touch.n;
        for (uint32_t t = 0; t < n->ntouch; t++)
            VEC_PUSH(in->g->cx, in->a, &out->touch, in->touch.p[n->touch + t]);
        VEC_PUSH(in->g->cx, in->a, &out->node, whole);
    }
    return ST_OK;
}
