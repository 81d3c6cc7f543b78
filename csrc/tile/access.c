/* access.c - operands decoded; whether and when two of them touch the same bytes.
 *
 * in:   instructions of any tile program that passes graph_check
 * out:  boxes (bytes of a row x partitions), overlaps, distances over a loop
 * rule: never says "apart" for what may be shared. Constant time per pair.
 */
#include "tile/access.h"

/* Offsets beyond any buffer stay beyond, and sums of them in 64 bits: hostile text is decoded, too. */
#define FAR ((int64_t)1 << 50)

static inline int64_t
bounded(int64_t v)
{
    return MAX(-FAR, MIN(v, FAR));
}

static inline int64_t
bounded_product(int64_t a, int64_t b)
{
    int64_t v;
    if (__builtin_mul_overflow(a, b, &v))
        return (a < 0) == (b < 0) ? FAR : -FAR;
    return bounded(v);
}

bool
operand_use(const Graph *g, const Op *op, int i, Use *u)
{
    const Operand *in = op_in(g, op, i);
    if (!in->v.i || !in->ap.i)
        return false;
    const Type *ty = val_type(g, in->v);
    *u = (Use){.ap = ap_get(g->cx, in->ap),
               .val = in->v,
               .elem = dtypes[ty->dtype].bytes,
               .space = ty->space,
               .dtype = ty->dtype,
               .role = (uint8_t)operand_role(g, op, i),
               .operand = (uint8_t)i};
    u->count = ap_count(u->ap);
    ap_extent(u->ap, &u->lo, &u->hi);
    u->lo = bounded(u->lo) * u->elem;
    u->hi = (bounded(u->hi) + 1) * u->elem;
    return true;
}

int
op_uses(const Graph *g, const Op *op, Use out[MAX_OPERANDS])
{
    int n = 0;
    for (int i = 0; i < op->nin; i++)
        n += operand_use(g, op, i, &out[n]);
    return n;
}

Val
op_first(const Graph *g, const Op *op)
{
    return op->code == K_nc_matmul ? op_val(g, op, KM_first) : (Val){0};
}

/* A partition number that no buffer has stays one. */
static inline int32_t
clamp(int64_t part)
{
    enum { LAST = 1 << 20 };

    return (int32_t)MAX(-LAST, MIN(part, LAST));
}

Extent
use_at(const Use *u, const int64_t *value_of)
{
    int64_t off = u->ap->off.nterms ? affine_eval(&u->ap->off, value_of) - u->ap->off.c : 0;
    int32_t p0 = u->ap->nparts ? clamp(affine_eval(&u->ap->part, value_of)) : 0;

    off *= u->elem;
    return (Extent){u->lo + off, u->hi + off, p0, p0 + MAX(clamp(u->ap->nparts), 1)};
}

/* Least and greatest of an affine form, its constant left out. */
static void
affine_between(const Affine *a, const int64_t *first, const int64_t *last, int64_t *lo, int64_t *hi)
{
    *lo = *hi = 0;
    for (uint32_t i = 0; i < a->nterms; i++) {
        Term t = a->term[i];
        int64_t x = bounded_product(t.coef, first[t.var.i]), y = bounded_product(t.coef, last[t.var.i]);
        *lo += MIN(x, y);
        *hi += MAX(x, y);
    }
}

Extent
use_over(const Use *u, const int64_t *first, const int64_t *last)
{
    int64_t lo, hi, plo, phi;

    affine_between(&u->ap->off, first, last, &lo, &hi);
    affine_between(&u->ap->part, first, last, &plo, &phi);
    if (!u->ap->nparts)
        return (Extent){u->lo + lo * u->elem, u->hi + hi * u->elem, 0, 1};
    plo += u->ap->part.c;
    phi += u->ap->part.c;
    return (Extent){u->lo + lo * u->elem, u->hi + hi * u->elem, clamp(plo), clamp(phi) + clamp(u->ap->nparts)};
}

int64_t
affine_coef(const Affine *a, Val var)
{
    for (uint32_t i = 0; i < a->nterms; i++)
        if (a->term[i].var.i == var.i)
            return a->term[i].coef;
    return 0;
}

bool
extents_overlap(const Extent *a, const Extent *b)
{
    return a->lo < b->hi && b->lo < a->hi && a->p0 < b->p1 && b->p0 < a->p1;
}

bool
extent_contains(const Extent *a, const Extent *b)
{
    return a->lo <= b->lo && b->hi <= a->hi && a->p0 <= b->p0 && b->p1 <= a->p1;
}

Extent
extent_hull(const Extent *a, const Extent *b)
{
    return (Extent){MIN(a->lo, b->lo), MAX(a->hi, b->hi), MIN(a->p0, b->p0), MAX(a->p1, b->p1)};
}

unsigned
role_deps(int before, int after)
{
    unsigned deps = 0;
    if (before & R_write)
        deps |= (after & R_read ? 1u << DEP_raw : 0) | (after & R_write ? 1u << DEP_waw : 0);
    else if (after & R_write)
        deps |= 1u << DEP_war;
    return deps;
}

/* ---- boxes in HBM ---- */

typedef struct Box {
    int64_t lo[MAX_RANK], hi[MAX_RANK];
} Box; /* by axis of the buffer's shape: [lo, hi] */

/* `count` steps of `stride` elements widen the box; what leaves an axis goes on in the next one out. */
static void
widen_box(const Type *ty, const int64_t *stride, ApDim d, Box *b)
{
    int k = 0;
    while (k + 1 < ty->rank && stride[k] > d.stride)
        k++;
    int64_t far = CEIL_DIV((d.count - 1) * d.stride, stride[k]);
    for (; k >= 0 && far > 0; k--) {
        b->hi[k] += far;
        far = 0;
        if (b->hi[k] >= ty->dim[k] && k > 0) {
            far = b->hi[k] / ty->dim[k];
            b->lo[k] = 0;
            b->hi[k] = ty->dim[k] - 1;
        }
    }
}

/* False: the pattern is none that boxes describe. */
static bool
box_at(const Type *ty, const Ap *ap, int64_t off, Box *b)
{
    int64_t stride[MAX_RANK], step = 1;
    if (ap->nparts || ty->rank == 0 || off < 0)
        return false;
    for (int k = ty->rank - 1; k >= 0; k--) {
        stride[k] = MAX(step, 1);
        step *= ty->dim[k];
    }
    for (int k = 0; k < ty->rank; k++) {
        b->lo[k] = b->hi[k] = off / stride[k];
        off %= stride[k];
    }
    for (uint32_t d = ap->ndim; d-- > 0;) {
        if (ap->dim[d].stride < 0)
            return false;
        widen_box(ty, stride, ap->dim[d], b);
    }
    return true;
}

bool
hbm_overlap(const Type *ty, const Ap *a, int64_t off_a, const Ap *b, int64_t off_b)
{
    Box x, y;
    if (!box_at(ty, a, off_a, &x) || !box_at(ty, b, off_b, &y))
        return true;
    for (int k = 0; k < ty->rank; k++)
        if (x.lo[k] > y.hi[k] || y.lo[k] > x.hi[k])
            return false;
    return true;
}

/* ---- distance over a loop ---- */

typedef struct Window {
    int64_t lo, hi;
} Window; /* [lo, hi] */

/* For which d is [b0 + step * d, b1 + step * d) neither before nor after [a0, a1)? */
static Window
meeting(int64_t a0, int64_t a1, int64_t b0, int64_t b1, int64_t step)
{
    const Window never = {1, 0}, always = {INT64_MIN, INT64_MAX};
    int64_t lo = a0 - b1, hi = a1 - b0; /* step * d is strictly between them */
    if (step == 0)
        return lo < 0 && hi > 0 ? always : never;
    if (step < 0) {
        int64_t was = lo;
        lo = -hi;
        hi = -was;
        step = -step;
    }
    int64_t first = lo >= 0 ? lo / step + 1 : -((-lo - 1) / step); /* floor(lo / step) + 1 */
    int64_t end = hi > 0 ? (hi - 1) / step : -CEIL_DIV(-hi + 1, step);
    return (Window){first, end};
}

/* Whether the forms move alike with every variable that is neither `var` nor inner. */
static bool
same_elsewhere(const Affine *a, const Affine *b, Val var, const bool *inner)
{
    for (int side = 0; side < 2; side++) {
        const Affine *x = side ? b : a, *y = side ? a : b;
        for (uint32_t i = 0; i < x->nterms; i++) {
            Term t = x->term[i];
            if (t.var.i != var.i && !(inner && inner[t.var.i]) && affine_coef(y, t.var) != t.coef)
                return false;
        }
    }
    return true;
}

/* How far the inner variables take a form from its constant. */
static Window
inner_reach(const Graph *g, const Affine *a, const bool *inner)
{
    Window w = {0, 0};
    for (uint32_t i = 0; inner && i < a->nterms; i++) {
        Term t = a->term[i];
        if (!inner[t.var.i])
            continue;
        int64_t far = t.coef * (attr_int(g->cx, val_def(g, t.var)->attr, A_count, 1) - 1);
        w.lo += MIN(far, 0);
        w.hi += MAX(far, 0);
    }
    return w;
}

int64_t
use_distance(const Graph *g, const Use *a, const Use *b, Val var, int64_t least, const bool *inner)
{
    int64_t last = var.i ? attr_int(g->cx, val_def(g, var)->attr, A_count, 1) - 1 : 0;
    int64_t step = affine_coef(&b->ap->off, var), pstep = affine_coef(&b->ap->part, var);
    bool alike = same_elsewhere(&a->ap->off, &b->ap->off, var, inner) &&
                 same_elsewhere(&a->ap->part, &b->ap->part, var, inner) && affine_coef(&a->ap->off, var) == step &&
                 affine_coef(&a->ap->part, var) == pstep;
    if (a->val.i != b->val.i || least > last)
        return -1;
    if (!alike)
        return least;
    Window ra = inner_reach(g, &a->ap->off, inner), rb = inner_reach(g, &b->ap->off, inner);
    Window pa = inner_reach(g, &a->ap->part, inner), pb = inner_reach(g, &b->ap->part, inner);
    int64_t e = a->elem, p = a->ap->part.c, q = b->ap->part.c;
    Window bytes = meeting(a->lo + ra.lo * e, a->hi + ra.hi * e, b->lo + rb.lo * e, b->hi + rb.hi * e, step * e);
    Window parts =
        meeting(p + pa.lo, p + pa.hi + MAX(a->ap->nparts, 1), q + pb.lo, q + pb.hi + MAX(b->ap->nparts, 1), pstep);
    int64_t lo = MAX(least, MAX(bytes.lo, parts.lo)), hi = MIN(last, MIN(bytes.hi, parts.hi));
    return lo <= hi ? lo : -1;
}
