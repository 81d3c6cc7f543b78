/* affine.c - affine expressions in loop variables, and the dims of access patterns. Values, no
 * memory. */
#include "ir/ir.h"

static const Affine too_many = {.nterms = MAX_TERMS + 1};

Affine
affine_const(int64_t c)
{
    return (Affine){.c = c};
}

Affine
affine_var(Val var, int64_t coef)
{
    Affine a = {.nterms = coef != 0};
    if (coef)
        a.term[0] = (Term){var, coef};
    return a;
}

Affine
affine_add(Affine a, Affine b)
{
    Affine sum = {.c = a.c + b.c};
    uint32_t i = 0, k = 0;
    if (a.nterms > MAX_TERMS || b.nterms > MAX_TERMS)
        return too_many;
    while (i < a.nterms || k < b.nterms) {
        bool from_a = i < a.nterms && (k == b.nterms || a.term[i].var.i <= b.term[k].var.i);
        Term t = from_a ? a.term[i] : b.term[k];
        if (from_a && k < b.nterms && b.term[k].var.i == t.var.i)
            t.coef += b.term[k++].coef;
        if (from_a)
            i++;
        else
            k++;
        if (!t.coef)
            continue;
        if (sum.nterms == MAX_TERMS)
            return too_many;
        sum.term[sum.nterms++] = t;
    }
    return sum;
}

Affine
affine_scale(Affine a, int64_t k)
{
    if (a.nterms > MAX_TERMS)
        return too_many;
    if (k == 0)
        return affine_const(0);
    a.c *= k;
    for (uint32_t i = 0; i < a.nterms; i++)
        a.term[i].coef *= k;
    return a;
}

int64_t
affine_eval(const Affine *a, const int64_t *value_of)
{
    int64_t v = a->c;
    for (uint32_t i = 0; i < a->nterms; i++)
        v += a->term[i].coef * value_of[a->term[i].var.i];
    return v;
}

int64_t
ap_count(const Ap *ap)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < ap->ndim; i++)
        n *= ap->dim[i].count;
    return n;
}

void
ap_extent(const Ap *ap, int64_t *lo, int64_t *hi)
{
    *lo = *hi = ap->off.c;
    for (uint32_t i = 0; i < ap->ndim; i++) {
        int64_t far = (ap->dim[i].count - 1) * ap->dim[i].stride;
        *(far < 0 ? lo : hi) += far;
    }
}

int
ap_merge(Ap *ap)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < ap->ndim; i++) {
        ApDim d = ap->dim[i];
        if (d.count == 1)
            continue;
        if (n && ap->dim[n - 1].stride == d.count * d.stride)
            ap->dim[n - 1] = (ApDim){ap->dim[n - 1].count * d.count, d.stride};
        else
            ap->dim[n++] = d;
    }
    for (uint32_t i = n; i < ap->ndim; i++)
        ap->dim[i] = (ApDim){0, 0};
    ap->ndim = n;
    return (int)n;
}
