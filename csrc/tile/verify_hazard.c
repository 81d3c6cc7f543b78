/* verify_hazard.c - an instruction reads and writes elements in an order that nobody may rely on.
 *
 * in:   an instruction whose operands lie in their buffers
 * out:  violations: an element written twice, a source that the destination overwrites before it is read
 * rule: a destination may be a source, element by element. Otherwise they share nothing: on an engine in the same
 *       partitions, in a DMA anywhere. What shifts partitions only, and instructions that are not element-wise, may
 *       do as they like. Loops are looked at in their first and last iteration.
 */
#include "tile/verify.h"

/* Two dims of a pattern that reach an element in two ways; false: none that is certain. */
static bool
meets_itself(const Ap *ap, int64_t *stride)
{
    for (uint32_t i = 0; i < ap->ndim; i++) {
        ApDim a = ap->dim[i];
        *stride = a.stride;
        if (a.count > 1 && a.stride == 0)
            return true;
        for (uint32_t k = 0; k < i && a.count > 1; k++) {
            ApDim b = ap->dim[k];
            int64_t g = gcd(a.stride, b.stride), x = a.stride < 0 ? -a.stride : a.stride;
            int64_t y = b.stride < 0 ? -b.stride : b.stride;
            if (b.count > 1 && y / g < a.count && x / g < b.count)
                return true;
        }
    }
    return false;
}

static void
check_once(Check *c, int i)
{
    int64_t stride;
    if (meets_itself(c->in[i].use.ap, &stride))
        report(c, "destination-overlap", "NKI-3087 %s has a dim of stride %lld by which it writes elements twice",
               operand_name(c, i), (long long)stride);
}

static bool
same_affine(const Affine *a, const Affine *b)
{
    if (a->c != b->c || a->nterms != b->nterms)
        return false;
    for (uint32_t i = 0; i < a->nterms; i++)
        if (a->term[i].var.i != b->term[i].var.i || a->term[i].coef != b->term[i].coef)
            return false;
    return true;
}

/* Element k of one is element k of the other. */
static bool
same_elements(const Ap *a, const Ap *b)
{
    Ap x = *a, y = *b;
    if (a->nparts != b->nparts || !same_affine(&a->part, &b->part) || !same_affine(&a->off, &b->off))
        return false;
    ap_merge(&x);
    ap_merge(&y);
    if (x.ndim != y.ndim)
        return false;
    for (uint32_t d = 0; d < x.ndim; d++)
        if (x.dim[d].count != y.dim[d].count || x.dim[d].stride != y.dim[d].stride)
            return false;
    return true;
}

static bool
share_elements(Check *c, int i, int k)
{
    const Opnd *x = &c->in[i], *y = &c->in[k];
    bool dma = c->def->flags & F_DMA;
    for (int last = 0; last < 2; last++) {
        When when = {.from = last ? 0 : UINT32_MAX, .last = last};
        Swath a = swath_of(c, x->use.ap, when), b = swath_of(c, y->use.ap, when);
        if ((dma || a.parts == b.parts) && swaths_meet(&c->covers, &a, &b))
            return true;
    }
    return false;
}

void
check_hazards(Check *c, uint32_t good)
{
    for (int i = 0; i < c->op->nin && !is_full(c); i++)
        if ((good >> i & 1) && (c->in[i].use.role & R_write))
            check_once(c, i);
    if (!(good & 1) || !(c->def->flags & F_EW))
        return;
    for (int k = 1; k < c->op->nin && !is_full(c); k++) {
        if (!(good >> k & 1) || c->in[k].v != c->in[KI_dst].v || !(c->in[k].use.role & R_read))
            continue;
        if (!same_elements(c->in[KI_dst].use.ap, c->in[k].use.ap) && share_elements(c, KI_dst, k))
            report(c, "source-overlap", "NKI-3088 dst overlaps %s, which is not the same elements in the same order",
                   operand_name(c, k));
    }
}
