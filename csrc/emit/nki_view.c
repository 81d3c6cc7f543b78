/* nki_view.c - operands as Python: views of their buffer where views can say it, else `.ap`.
 *
 * in:   an access pattern and the shape its buffer is declared with
 * out:  an expression, and the dims that NKI will see. In order of preference a slice of the declared shape; a slice of
 *       the storage in other dims (`.reshape`), with its dims exchanged (`.permute`) or repeated (`.broadcast`); the
 *       pattern itself
 * rule: a slice is used only when it stays inside every dim for all values of the loop variables; views have at most
 *       NKI_DIMS dims, and the partition stays the first of those on chip
 */
#include <string.h>

#include "emit/nki.h"

#define P_ROWS 128 /* the size that the source calls P */

typedef struct Axis { /* one dim of a box: start, start + step, ... */
    Affine start;
    int64_t count, step, extent;
} Axis;
typedef struct Box {
    Axis axis[NKI_DIMS];
    int n;
} Box;

/* ---- numbers ---- */

static void
put_size(Py *py, int64_t v, Text *t)
{
    py->rows |= v == P_ROWS;
    if (v == P_ROWS)
        text_puts(t, "P");
    else
        text_int(t, v);
}

static const char *
affine_text(Py *py, const Affine *a, bool rows)
{
    Text t;
    int64_t c = a->c;

    text_init(&t, py->g->cx, &py->arena);
    for (uint32_t i = 0; i < a->nterms; i++) {
        int64_t k = a->term[i].coef;
        if (t.n)
            text_puts(&t, k < 0 ? " - " : " + ");
        else if (k < 0)
            text_puts(&t, "-");
        k = k < 0 ? -k : k;
        if (k != 1 && rows)
            put_size(py, k, &t);
        else if (k != 1)
            text_int(&t, k);
        text_put(&t, "%s%s", k != 1 ? " * " : "", py->name[a->term[i].var.i]);
    }
    if (t.n && !c)
        return nki_written(py, &t);
    if (t.n)
        text_puts(&t, c < 0 ? " - " : " + ");
    else if (c < 0)
        text_puts(&t, "-");
    c = c < 0 ? -c : c;
    if (rows)
        put_size(py, c, &t);
    else
        text_int(&t, c);
    return nki_written(py, &t);
}

/* ---- shapes ---- */

/* Leading dims too many for a view are one; on chip all but the partition are. */
Shape
nki_shape(const Type *ty)
{
    Shape s = {.n = 0};
    int chip = ty->space != SP_hbm, excess = MAX(ty->rank - NKI_DIMS, 0);

    for (int i = 0; i < ty->rank; i++) {
        if (i > chip && i <= chip + excess)
            s.dim[s.n - 1] *= ty->dim[i];
        else
            s.dim[s.n++] = ty->dim[i];
    }
    while (s.n < 1 + chip)
        s.dim[s.n++] = 1;
    return s;
}

static int64_t
numel(const int64_t *dim, int n)
{
    int64_t all = 1;

    for (int i = 0; i < n; i++)
        all *= dim[i];
    return all;
}

static bool
same_shape(const Shape *a, const Shape *b)
{
    return a->n == b->n && memcmp(a->dim, b->dim, (size_t)a->n * sizeof(a->dim[0])) == 0;
}

/* ---- boxes ---- */

static Axis
split_start(Affine *rest, int64_t stride)
{
    Axis x = {.start = affine_const(rest->c / stride), .count = 1, .step = 1};
    Affine left = affine_const(rest->c % stride);

    for (uint32_t i = 0; i < rest->nterms; i++) {
        Term t = rest->term[i];
        x.start = affine_add(x.start, affine_var(t.var, t.coef / stride));
        left = affine_add(left, affine_var(t.var, t.coef % stride));
    }
    *rest = left;
    return x;
}

/* Does the axis stay inside its extent for all values of the loop variables? */
static bool
axis_fits(const Py *py, const Axis *x)
{
    int64_t lo = x->start.c, hi = x->start.c + (x->count - 1) * x->step;

    for (uint32_t i = 0; i < x->start.nterms; i++) {
        Term t = x->start.term[i];
        int64_t n = attr_int(py->g->cx, val_def(py->g, t.var)->attr, A_count, 1);
        *(t.coef < 0 ? &lo : &hi) += t.coef * (n - 1);
    }
    return lo >= 0 && hi < x->extent;
}

/* The dims of a pattern matched to the dims of a shape, innermost first; false: not a box. */
static bool
match_dims(Ap ap, const int64_t *dim, int n, Axis *axis)
{
    int64_t stride = 1;
    int k = ap_merge(&ap) - 1;

    for (int i = n - 1; i >= 0; stride *= dim[i--]) {
        ApDim *d = &ap.dim[MAX(k, 0)];
        axis[i].extent = dim[i];
        axis[i].count = axis[i].step = 1;
        if (k < 0 || d->stride <= 0 || d->stride % stride || (i && d->stride >= stride * dim[i]))
            continue;
        axis[i].step = d->stride / stride;
        if ((d->count - 1) * axis[i].step < dim[i]) {
            axis[i].count = d->count;
            k--;
        } else if (axis[i].step == 1 && d->count % dim[i] == 0) {
            axis[i].count = dim[i];
            d->count /= dim[i];
            d->stride = stride * dim[i];
        } else {
            return false;
        }
    }
    return k < 0;
}

static bool
box_of(const Py *py, const Shape *s, bool chip, const Ap *ap, Box *b)
{
    const int64_t *dim = s->dim + chip;
    int n = s->n - chip;
    Affine rest = ap->off;
    int64_t stride = numel(dim, n);

    b->n = s->n;
    if (stride == 0 || s->n > NKI_DIMS)
        return false;
    if (chip)
        b->axis[0] = (Axis){ap->part, ap->nparts, 1, s->dim[0]};
    if (!match_dims(*ap, dim, n, b->axis + chip))
        return false;
    for (int i = 0; i < n; i++) {
        Axis *x = &b->axis[i + chip];
        stride /= dim[i];
        x->start = split_start(&rest, stride).start;
        if (!axis_fits(py, x))
            return false;
    }
    return rest.c == 0 && rest.nterms == 0;
}

static bool
is_whole(const Box *b)
{
    for (int i = 0; i < b->n; i++) {
        const Axis *x = &b->axis[i];
        if (x->start.c || x->start.nterms || x->step != 1 || x->count != x->extent)
            return false;
    }
    return true;
}

/* Does it walk in full tiles of rows? */
static bool
steps_by_rows(const Axis *x)
{
    for (uint32_t i = 0; i < x->start.nterms; i++)
        if (x->start.term[i].coef == P_ROWS && x->count == P_ROWS)
            return true;
    return false;
}

static void
put_axis(Py *py, const Axis *x, bool index, bool partition, Text *t)
{
    Affine stop = x->start;
    bool rows = (partition && x->count == P_ROWS) || steps_by_rows(x);

    text_puts(t, affine_text(py, &x->start, rows));
    if (index)
        return;
    stop.c += (x->count - 1) * x->step + 1;
    text_puts(t, ":");
    text_puts(t, affine_text(py, &stop, rows));
    if (x->step != 1)
        text_put(t, ":%lld", (long long)x->step);
}

/* An index drops its dim; the partition and one more stay. */
static View
box_view(Py *py, const char *name, bool chip, const Box *b)
{
    View v = {.text = name};
    int kept = 0;
    Text t;

    if (is_whole(b)) {
        for (int i = 0; i < b->n; i++)
            v.shape.dim[v.shape.n++] = b->axis[i].count;
        return v;
    }
    text_init(&t, py->g->cx, &py->arena);
    text_put(&t, "%s[", name);
    for (int i = 0; i < b->n; i++) {
        const Axis *x = &b->axis[i];
        bool index = i >= chip && x->count == 1 && (i + 1 < b->n || kept);
        if (i)
            text_puts(&t, ", ");
        put_axis(py, x, index, chip && i == 0, &t);
        kept += i >= chip && !index;
        if (!index)
            v.shape.dim[v.shape.n++] = x->count;
    }
    text_puts(&t, "]");
    v.text = nki_written(py, &t);
    return v;
}

/* ---- other dims of the same storage ---- */

/* On chip the first dim is the partition. */
static const char *
in_dims(Py *py, const char *text, const Shape *s, bool chip)
{
    Text t;

    text_init(&t, py->g->cx, &py->arena);
    text_put(&t, "%s.reshape((", text);
    for (int i = 0; i < s->n; i++) {
        text_puts(&t, i ? ", " : "");
        if (chip && i == 0)
            put_size(py, s->dim[i], &t);
        else
            text_int(&t, s->dim[i]);
    }
    text_puts(&t, s->n == 1 ? ",))" : "))");
    return nki_written(py, &t);
}

static View
reshaped(Py *py, View v, const Shape *want, bool chip)
{
    if (same_shape(&v.shape, want))
        return v;
    return (View){in_dims(py, v.text, want, chip), *want};
}

/* Dims of the storage in which a pattern of falling strides is a box. */
static bool
storage_dims(const Ap *ap, int64_t all, Shape *s)
{
    for (uint32_t i = 0; i < ap->ndim; i++) {
        int64_t stride = ap->dim[i].stride;
        if (stride <= 0 || all % stride)
            return false;
        s->dim[s->n++] = all / stride;
        all = stride;
    }
    if (all > 1)
        s->dim[s->n++] = all;
    return s->n <= NKI_DIMS;
}

/* The pattern with strides falling; order[i] is the dim that came to place i. */
static Ap
by_stride(Ap ap, int64_t *order)
{
    for (uint32_t i = 0; i < ap.ndim; i++)
        order[i] = i;
    for (uint32_t i = 1; i < ap.ndim; i++)
        for (uint32_t k = i; k > 0 && ap.dim[k].stride > ap.dim[k - 1].stride; k--) {
            ApDim d = ap.dim[k];
            int64_t o = order[k];
            ap.dim[k] = ap.dim[k - 1];
            ap.dim[k - 1] = d;
            order[k] = order[k - 1];
            order[k - 1] = o;
        }
    return ap;
}

/* Places of the dims in the sorted pattern, behind the partition on chip; false: they are in order. */
static bool
permutation(const Ap *ap, bool chip, const int64_t *order, int64_t *perm)
{
    bool moves = false;

    if (chip)
        perm[0] = 0;
    for (uint32_t i = 0; i < ap->ndim; i++) {
        perm[order[i] + chip] = i + chip;
        moves |= order[i] != i;
    }
    return moves;
}

/* What a view is cut from: a buffer, or a contiguous run of it. */
typedef struct Base {
    const char *text;
    bool chip;
    int64_t parts, elems; /* partitions, 0 in HBM; elements in each */
} Base;

static Base
whole_base(Py *py, Val buf)
{
    const Type *ty = val_type(py->g, buf);
    bool chip = ty->space != SP_hbm;

    return (Base){py->name[buf.i], chip, chip ? ty->dim[0] : 0, buffer_bytes(ty) / dtypes[ty->dtype].bytes};
}

/* A merged pattern without repeats as a view of other dims; its dims are those of the pattern, behind the partition on
 * chip. */
static bool
storage_view(Py *py, const Base *base, const Ap *ap, View *v)
{
    int64_t order[MAX_AP_DIMS], perm[MAX_AP_DIMS + 1];
    Ap sorted = by_stride(*ap, order);
    Shape s = {.n = base->chip}, want = {.n = 0};
    Box b;

    s.dim[0] = base->parts;
    if (base->elems == 0 || !storage_dims(&sorted, base->elems, &s) || !box_of(py, &s, base->chip, &sorted, &b))
        return false;
    *v = box_view(py, in_dims(py, base->text, &s, base->chip), base->chip, &b);
    if (base->chip)
        want.dim[want.n++] = ap->nparts;
    for (uint32_t i = 0; i < sorted.ndim; i++)
        want.dim[want.n++] = sorted.dim[i].count;
    *v = reshaped(py, *v, &want, base->chip);
    if (permutation(&sorted, base->chip, order, perm)) {
        Text t;
        text_init(&t, py->g->cx, &py->arena);
        text_put(&t, "%s.permute(%s)", v->text, nki_tuple(py, perm, want.n));
        v->text = nki_written(py, &t);
        for (uint32_t i = 0; i < ap->ndim; i++)
            v->shape.dim[i + base->chip] = ap->dim[i].count;
    }
    return true;
}

/* The run of HBM that a pattern lies in, from `before` elements ahead of its first one. */
static bool
run_base(Py *py, const Base *whole, const Shape *declared, const Ap *ap, int64_t before, Base *out)
{
    Shape flat = {{whole->elems}, 1};
    Ap run = {.off = ap->off, .ndim = 1};
    View v;
    Box b;

    for (uint32_t i = 0; i < ap->ndim; i++)
        run.dim[0].count = MAX(run.dim[0].count, ap->dim[i].stride * ap->dim[i].count);
    run.dim[0].stride = 1;
    run.off.c -= before;
    if (box_of(py, declared, false, &run, &b))
        v = box_view(py, whole->text, false, &b);
    else if (box_of(py, &flat, false, &run, &b))
        v = box_view(py, in_dims(py, whole->text, &flat, false), false, &b);
    else
        return false;
    *out = (Base){v.text, false, 0, run.dim[0].count};
    return true;
}

/* The same of the run that the pattern lies in: its dims need not divide the buffer's. */
static bool
run_view(Py *py, const Base *whole, const Shape *declared, const Ap *ap, View *v)
{
    for (int i = -1; i < (int)ap->ndim && !whole->chip; i++) {
        int64_t stride = i < 0 ? 1 : ap->dim[i].stride;
        int64_t before = stride > 0 ? ap->off.c % stride : -1;
        Ap local = *ap;
        Base run;
        local.off = affine_const(before);
        if (before >= 0 && run_base(py, whole, declared, ap, before, &run) && storage_view(py, &run, &local, v))
            return true;
    }
    return false;
}

/* ---- the pattern itself: strides and counts over the storage ---- */

static View
ap_view(Py *py, const char *name, const Type *ty, const Ap *ap)
{
    View v = {0};
    Affine off = ap->off;
    bool chip = ty->space != SP_hbm;
    int64_t row = chip ? buffer_bytes(ty) / dtypes[ty->dtype].bytes : 0;
    Text t;

    text_init(&t, py->g->cx, &py->arena);
    text_put(&t, "%s.ap(pattern=[", name);
    if (chip) {
        text_put(&t, "[%lld, %d], ", (long long)row, ap->nparts);
        v.shape.dim[v.shape.n++] = ap->nparts;
        off = affine_add(off, affine_scale(ap->part, row));
    }
    for (uint32_t i = 0; i < ap->ndim; i++) {
        text_put(&t, "%s[%lld, %lld]", i ? ", " : "", (long long)ap->dim[i].stride, (long long)ap->dim[i].count);
        v.shape.dim[v.shape.n++] = ap->dim[i].count;
    }
    if (!ap->ndim) {
        text_puts(&t, "[1, 1]");
        v.shape.dim[v.shape.n++] = 1;
    }
    text_puts(&t, "]");
    if (off.c || off.nterms)
        text_put(&t, ", offset=%s", affine_text(py, &off, false));
    text_puts(&t, ")");
    v.text = nki_written(py, &t);
    return v;
}

/* ---- operands ---- */

static Shape
pattern_shape(const Ap *ap, bool chip)
{
    Shape s = {.n = 0};

    if (chip)
        s.dim[s.n++] = ap->nparts;
    for (uint32_t i = 0; i < ap->ndim; i++)
        s.dim[s.n++] = ap->dim[i].count;
    if (s.n == chip)
        s.dim[s.n++] = 1;
    return s;
}

/* Splits a pattern into what it reads and what it repeats; false: it repeats nothing. */
static bool
without_repeats(const Ap *ap, Ap *once)
{
    bool repeats = false;

    *once = *ap;
    for (uint32_t i = 0; i < once->ndim; i++)
        if (once->dim[i].stride == 0 && once->dim[i].count > 1) {
            once->dim[i].count = 1;
            repeats = true;
        }
    return repeats;
}

/* Views of the storage, at most NKI_DIMS dims; false: only the pattern says it. */
static bool
view_as(Py *py, Val buf, const Ap *ap, const Shape *want, View *v)
{
    const Type *ty = val_type(py->g, buf);
    bool chip = ty->space != SP_hbm;
    Shape declared = nki_shape(ty), one;
    Base whole = whole_base(py, buf);
    Ap once, merged;
    Box b;

    without_repeats(ap, &once);
    merged = once;
    ap_merge(&merged);
    one = pattern_shape(&once, chip);
    if (want->n > NKI_DIMS)
        return false;
    if (box_of(py, &declared, chip, &once, &b))
        *v = box_view(py, whole.text, chip, &b);
    else if (!storage_view(py, &whole, &merged, v) && !run_view(py, &whole, &declared, &merged, v))
        return false;
    *v = reshaped(py, *v, &one, chip);
    for (int i = chip; i < want->n; i++)
        if (want->dim[i] != one.dim[i]) {
            Text t;
            text_init(&t, py->g->cx, &py->arena);
            text_put(&t, "%s.broadcast(%d, %lld)", v->text, i, (long long)want->dim[i]);
            v->text = nki_written(py, &t);
        }
    v->shape = *want;
    return true;
}

View
nki_exact_view(Py *py, const Op *op, int i, Ap ap)
{
    Val buf = op_val(py->g, op, i);
    const Type *ty = val_type(py->g, buf);
    Shape want = pattern_shape(&ap, ty->space != SP_hbm);
    View v;

    return view_as(py, buf, &ap, &want, &v) ? v : ap_view(py, py->name[buf.i], ty, &ap);
}

/* With whatever dims are the simplest. */
View
nki_any_view(Py *py, const Op *op, int i)
{
    const Operand *in = op_in(py->g, op, i);
    const Type *ty = val_type(py->g, in->v);
    bool chip = ty->space != SP_hbm;
    Shape declared = nki_shape(ty);
    Ap ap = *ap_get(py->g->cx, in->ap);
    Box b = {0};

    if (box_of(py, &declared, chip, &ap, &b))
        return box_view(py, py->name[in->v.i], chip, &b);
    ap_merge(&ap);
    return nki_exact_view(py, op, i, ap);
}

const char *
nki_flat_text(Py *py, const Op *op, int i)
{
    Ap ap = *ap_get(py->g->cx, op_in(py->g, op, i)->ap);
    int n = ap_merge(&ap);

    return n <= 1 ? nki_exact_view(py, op, i, ap).text : nki_any_view(py, op, i).text;
}

/* ---- two operands of one shape ---- */

/* The pattern with its dims cut so that they are `dim`, innermost last; false: they cross its runs. */
static bool
cut_dims(const Ap *ap, const int64_t *dim, int n, Ap *out)
{
    int k = (int)ap->ndim - 1, at = n;
    int64_t left = k >= 0 ? ap->dim[k].count : 1, stride = k >= 0 ? ap->dim[k].stride : 0;

    *out = *ap;
    out->ndim = (uint32_t)n;
    while (at-- > 0) {
        while (left == 1 && k > 0 && dim[at] > 1) {
            left = ap->dim[--k].count;
            stride = ap->dim[k].stride;
        }
        if (left % dim[at])
            return false;
        out->dim[at] = (ApDim){dim[at], stride};
        stride *= dim[at];
        left /= dim[at];
    }
    return left == 1 && k <= 0;
}

/* The coarsest dims that refine both lists; false: there are none, or too many. */
static bool
common_dims(const Shape *a, const Shape *b, Shape *out)
{
    int i = a->n - 1, k = b->n - 1;
    int64_t x = i >= 0 ? a->dim[i] : 1, y = k >= 0 ? b->dim[k] : 1, rev[NKI_DIMS];
    int n = 0;

    while (i >= 0 && k >= 0) {
        int64_t step = MIN(x, y);
        if (n == NKI_DIMS || x % step || y % step)
            return false;
        if (step > 1 || (i == 0 && k == 0))
            rev[n++] = step;
        x /= step;
        y /= step;
        if (x == 1 && --i >= 0)
            x = a->dim[i];
        if (y == 1 && --k >= 0)
            y = b->dim[k];
    }
    for (out->n = 0; n > 0;)
        out->dim[out->n++] = rev[--n];
    while (i >= 0 && x == 1) /* a lone partition */
        x = --i >= 0 ? a->dim[i] : 1;
    while (k >= 0 && y == 1)
        y = --k >= 0 ? b->dim[k] : 1;
    return i < 0 && k < 0;
}

/* A lone partition is a dim of its own in front. */
static bool
with_partition(Shape *s, bool lone)
{
    if (!lone || s->dim[0] == 1)
        return true;
    if (s->n == NKI_DIMS)
        return false;
    memmove(s->dim + 1, s->dim, sizeof(s->dim[0]) * (size_t)s->n);
    s->dim[0] = 1;
    s->n++;
    return true;
}

/* A merged pattern as the shape it has: on chip the partition in front. */
static Ap
merged_operand(const Py *py, const Op *op, int i, Shape *s)
{
    const Operand *in = op_in(py->g, op, i);
    Ap ap = *ap_get(py->g->cx, in->ap);

    ap_merge(&ap);
    *s = pattern_shape(&ap, val_type(py->g, in->v)->space != SP_hbm);
    return ap;
}

static bool
exact_as(Py *py, const Op *op, int i, const Ap *ap, const Shape *want, View *v)
{
    bool chip = val_type(py->g, op_val(py->g, op, i))->space != SP_hbm;
    Ap cut;

    if (chip && (want->n < 2 || want->dim[0] != ap->nparts))
        return false;
    if (!cut_dims(ap, want->dim + chip, want->n - chip, &cut))
        return false;
    *v = nki_exact_view(py, op, i, cut);
    return same_shape(&v->shape, want);
}

void
nki_pair(Py *py, const Op *op, View *dst, View *src)
{
    Shape a, b, both;
    Ap x = merged_operand(py, op, KI_dst, &a), y = merged_operand(py, op, KI_src, &b);

    *dst = nki_any_view(py, op, KI_dst);
    *src = nki_any_view(py, op, KI_src);
    if (same_shape(&dst->shape, &src->shape))
        return;
    if (exact_as(py, op, KI_src, &y, &dst->shape, src) || exact_as(py, op, KI_dst, &x, &src->shape, dst))
        return;
    View d, s;
    bool lone = x.nparts == 1 || y.nparts == 1;
    if (common_dims(&a, &b, &both) && with_partition(&both, lone) &&
        exact_as(py, op, KI_dst, &x, &both, &d) && exact_as(py, op, KI_src, &y, &both, &s)) {
        *dst = d;
        *src = s;
    }
}
