/* nki_view.c - operands as Python: a slice of the declared shape when the pattern is a box of it, else `.ap`.
 *
 * in:   an access pattern and the shape its buffer is declared with
 * out:  an expression, and the dims that NKI will see
 * rule: a slice is used only when it stays inside every declared dim for all values of the loop variables
 */
#include "emit/nki.h"

static const char *
affine_text(Py *py, const Affine *a)
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
        if (k != 1)
            text_put(&t, "%lld * ", (long long)k);
        text_puts(&t, py->name[a->term[i].var.i]);
    }
    if (!t.n)
        text_put(&t, "%lld", (long long)c);
    else if (c)
        text_put(&t, " %c %lld", c < 0 ? '-' : '+', (long long)(c < 0 ? -c : c));
    return nki_written(py, &t);
}

typedef struct Axis { /* one declared dim of a box: start, start + step, ... */
    Affine start;
    int64_t count, step, extent;
} Axis;
typedef struct Box {
    Axis axis[MAX_RANK + 1];
    int n;
} Box;
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

/* The dims of a pattern matched to the declared dims, innermost first; false: not a box. */
static bool
match_dims(Ap ap, const int64_t *dim, int n, Axis *axis)
{
    int64_t stride = 1;
    int k = ap_merge(&ap) - 1;

    for (int i = n - 1; i >= 0; stride *= MAX(dim[i], 1), i--) {
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
box_of(const Py *py, const Type *ty, const Ap *ap, Box *b)
{
    bool chip = ty->space != SP_hbm;
    const int64_t one = 1, *dim = ty->rank > chip ? ty->dim + chip : &one;
    int n = MAX(ty->rank - chip, 1);
    Affine rest = ap->off;
    int64_t stride = 1;

    b->n = n + chip;
    if (chip)
        b->axis[0] = (Axis){ap->part, ap->nparts, 1, ty->dim[0]};
    if (!match_dims(*ap, dim, n, b->axis + chip))
        return false;
    for (int i = 0; i < n; i++)
        stride *= MAX(dim[i], 1);
    for (int i = 0; i < n; i++) {
        Axis *x = &b->axis[i + chip];
        stride /= MAX(dim[i], 1);
        x->start = split_start(&rest, MAX(stride, 1)).start;
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

static void
put_axis(Py *py, const Axis *x, bool index, Text *t)
{
    Affine stop = x->start;

    text_puts(t, affine_text(py, &x->start));
    if (index)
        return;
    stop.c += (x->count - 1) * x->step + 1;
    text_puts(t, ":");
    text_puts(t, affine_text(py, &stop));
    if (x->step != 1)
        text_put(t, ":%lld", (long long)x->step);
}

static View
box_view(Py *py, const char *name, const Type *ty, const Box *b)
{
    View v = {.text = name};
    int chip = ty->space != SP_hbm, kept = 0;
    Text t;

    if (is_whole(b)) {
        for (int i = 0; i < b->n; i++)
            v.dim[v.ndim++] = b->axis[i].count;
        return v;
    }
    text_init(&t, py->g->cx, &py->arena);
    text_put(&t, "%s[", name);
    for (int i = 0; i < b->n; i++) { /* an index drops its dim; the partition and one more stay */
        const Axis *x = &b->axis[i];
        bool index = i >= chip && x->count == 1 && (i + 1 < b->n || kept);
        if (i)
            text_puts(&t, ", ");
        put_axis(py, x, index, &t);
        kept += i >= chip && !index;
        if (!index)
            v.dim[v.ndim++] = x->count;
    }
    text_puts(&t, "]");
    v.text = nki_written(py, &t);
    return v;
}

/* The general form: strides and counts over the storage. */
View
nki_ap_view(Py *py, const char *name, const Type *ty, const Ap *ap)
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
        v.dim[v.ndim++] = ap->nparts;
        off = affine_add(off, affine_scale(ap->part, row));
    }
    for (uint32_t i = 0; i < ap->ndim; i++) {
        text_put(&t, "%s[%lld, %lld]", i ? ", " : "", (long long)ap->dim[i].stride, (long long)ap->dim[i].count);
        v.dim[v.ndim++] = ap->dim[i].count;
    }
    if (!ap->ndim) {
        text_puts(&t, "[1, 1]");
        v.dim[v.ndim++] = 1;
    }
    text_puts(&t, "]");
    if (off.c || off.nterms)
        text_put(&t, ", offset=%s", affine_text(py, &off));
    text_puts(&t, ")");
    v.text = nki_written(py, &t);
    return v;
}

View
nki_any_view(Py *py, const Op *op, int i)
{
    const Operand *in = op_in(py->g, op, i);
    const Type *ty = val_type(py->g, in->v);
    const Ap *ap = ap_get(py->g->cx, in->ap);
    Box b = {0};

    if (box_of(py, ty, ap, &b))
        return box_view(py, py->name[in->v.i], ty, &b);
    return nki_ap_view(py, py->name[in->v.i], ty, ap);
}

View
nki_exact_view(Py *py, const Op *op, int i, Ap ap)
{
    const Operand *in = op_in(py->g, op, i);
    const Type *ty = val_type(py->g, in->v);
    View v = nki_any_view(py, op, i);
    int chip = ty->space != SP_hbm;
    bool same = v.ndim == MAX((int)ap.ndim, 1) + chip;

    for (int k = 0; same && k < (int)ap.ndim; k++)
        same = v.dim[k + chip] == ap.dim[k].count;
    return same ? v : nki_ap_view(py, py->name[in->v.i], ty, &ap);
}

const char *
nki_flat_text(Py *py, const Op *op, int i)
{
    Ap ap = *ap_get(py->g->cx, op_in(py->g, op, i)->ap);
    int n = ap_merge(&ap);

    return n <= 1 ? nki_exact_view(py, op, i, ap).text : nki_any_view(py, op, i).text;
}
