/* pipeline_split.c - long DMAs and instructions in pieces, so that who needs the beginning does not wait for the end.
 *
 * in:   a straight program
 * out:  the same with what takes more than so many microseconds cut along the outermost free dim that all sides have
 * rule: equal pieces; runs in a partition stay at least as long as a DMA wants them. What reads its own destination
 *       reads just what it writes.
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

static int64_t
dma_pieces(const Straight *s, const Node *n, double us)
{
    const Touch *dst = &s->touch.p[n->touch], *src = dst + 1;
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

/* Element by element, or a reduction of inner dims of what has outer ones. */
static bool
goes_in_pieces(const Straight *s, const Node *n)
{
    const Op *op = &s->g->ops.p[n->op];
    const Touch *dst = &s->touch.p[n->touch], *data = dst + 1;
    if (op->code == K_tensor_reduce)
        return dst->ap->ndim && data->ap->ndim > attr_int(s->g->cx, op->attr, A_naxes, 1) &&
               dst->ap->dim[0].count == data->ap->dim[0].count;
    if (op->code == K_tensor_scalar_reduce || op->code == K_affine_select ||
        (op->code == K_activation && op_val(s->g, op, KA_reduce_res).i))
        return false;
    return op_def(s->g, op)->flags & F_EW;
}

static bool
is_same_pattern(const Touch *a, const Touch *b)
{
    bool same = a->off == b->off && a->part == b->part && a->ap->ndim == b->ap->ndim;
    for (uint32_t d = 0; same && d < a->ap->ndim; d++)
        same = a->ap->dim[d].count == b->ap->dim[d].count && a->ap->dim[d].stride == b->ap->dim[d].stride;
    return same;
}

static int64_t
compute_pieces(const Straight *s, const Node *n, double us)
{
    const Touch *dst = &s->touch.p[n->touch];
    int64_t count = (int64_t)(n->work[0].issue / us), unit = 0;
    if (count < 2 || !goes_in_pieces(s, n))
        return 1;
    for (uint32_t i = 0; i < n->ntouch; i++) {
        const Touch *t = &dst[i];
        if (i > 0 && t->buf == dst->buf && extents_overlap(&t->at, &dst->at) && !is_same_pattern(t, dst))
            return 1;
        if (ap_count(t->ap) > 1)
            unit = unit ? gcd(unit, t->ap->dim[0].count) : t->ap->dim[0].count;
    }
    while (count > 1 && unit % count)
        count--;
    return count;
}

/* How many pieces the node becomes. */
static int64_t
pieces_of(const Straight *s, const Node *n, double us)
{
    if (n->work[0].engine != EN_dma)
        return compute_pieces(s, n, us);
    return s->g->ops.p[n->op].code == K_dma_copy ? dma_pieces(s, n, us) : 1;
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

/* What the piece is on each engine that the whole may run on. */
static Status
work_pieces(const Straight *s, Node *n)
{
    const Op *op = &s->g->ops.p[n->op];
    const Ap *ap[MAX_OPERANDS] = {0};
    for (uint32_t t = n->touch; t < n->touch + n->ntouch; t++)
        ap[s->touch.p[t].operand] = s->touch.p[t].ap;
    for (int i = 0; i < n->nwork; i++) {
        Op trial = *op;
        if (i > 0)
            TRY(attr_with(s->g->cx, op->attr, AT_INT(A_engine, n->work[i].engine), &trial.attr));
        n->work[i] = work_of(s->g, &trial, ap);
    }
    return ST_OK;
}

static Status
add_piece(Straight *s, const Straight *from, const Node *n, int64_t k, int64_t count)
{
    bool dma = n->work[0].engine == EN_dma;
    Node piece = *n;
    piece.touch = s->touch.n;
    for (uint32_t i = 0; i < n->ntouch; i++) {
        Touch cut = from->touch.p[n->touch + i];
        uint32_t d = dma && !cut.ap->nparts;
        if (dma || ap_count(cut.ap) > 1)
            TRY(cut_touch(s, &from->touch.p[n->touch + i], d, k, cut.ap->dim[d].count / count, &cut));
        VEC_PUSH(s->g->cx, s->a, &s->touch, cut);
    }
    TRY(work_pieces(s, &piece));
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
