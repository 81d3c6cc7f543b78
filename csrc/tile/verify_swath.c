/* verify_swath.c - which elements of its buffer an access pattern reaches in some of the executions of its op.
 *
 * in:   a pattern, and which loops stand where or run through all their iterations
 * out:  a set of partitions and a lattice of elements
 * rule: all of it is reached, unless a loop that ranges moves both partitions and elements (diagonal).
 */
#include "tile/verify.h"

bool
ranges(const Check *c, Val var, When when)
{
    return c->val[var.i].decl >= when.from && !when.last && var.i != when.var.i;
}

/* The value of a loop variable that does not range. */
static inline int64_t
value_of(const Check *c, Val var, When when)
{
    const VInfo *loop = &c->val[var.i];
    if (var.i == when.var.i)
        return when.value;
    return when.last && loop->decl >= when.from ? loop->count - 1 : 0;
}

static int64_t
affine_when(const Check *c, const Affine *a, When when)
{
    int64_t v = a->c;
    for (uint32_t i = 0; i < a->nterms; i++)
        v += a->term[i].coef * value_of(c, a->term[i].var, when);
    return v;
}

Parts
parts_moved(Parts p, int64_t coef, int64_t count)
{
    Parts all = p;
    int64_t step = coef < 0 ? -coef : coef;
    for (int64_t i = 1, by = step; i < count && by > 0 && by < 128; i++, by += step)
        all |= coef < 0 ? p >> by : p << by;
    return all;
}

static Parts
parts_of(const Check *c, const Ap *ap, When when)
{
    if (ap->nparts <= 0)
        return 1;
    int64_t at = affine_when(c, &ap->part, when);
    if (at < 0 || at >= 128)
        return 0;
    Parts p = (ap->nparts >= 128 ? ~(Parts)0 : ((Parts)1 << ap->nparts) - 1) << at;
    for (uint32_t i = 0; i < ap->part.nterms; i++) {
        Term t = ap->part.term[i];
        if (ranges(c, t.var, when))
            p = parts_moved(p, t.coef, c->val[t.var.i].count);
    }
    return p;
}

Swath
swath_of(const Check *c, const Ap *ap, When when)
{
    Swath x = {.parts = parts_of(c, ap, when), .at.base = affine_when(c, &ap->off, when)};
    for (uint32_t i = 0; i < ap->ndim; i++)
        lattice_add(&x.at, ap->dim[i].count, ap->dim[i].stride);
    for (uint32_t i = 0; i < ap->off.nterms; i++) {
        Term t = ap->off.term[i];
        if (ranges(c, t.var, when))
            lattice_add(&x.at, c->val[t.var.i].count, t.coef);
    }
    lattice_merge(&x.at);
    return x;
}

bool
swath_fits(const Swath *x, const VInfo *v)
{
    return x->at.base >= 0 && lattice_last(&x->at) < v->row;
}

bool
is_moved_by(const Affine *a, Val var)
{
    for (uint32_t i = 0; i < a->nterms; i++)
        if (a->term[i].var.i == var.i)
            return true;
    return false;
}

Val
diagonal(const Ap *ap)
{
    for (uint32_t i = 0; i < ap->part.nterms; i++)
        if (is_moved_by(&ap->off, ap->part.term[i].var))
            return ap->part.term[i].var;
    return (Val){0};
}
