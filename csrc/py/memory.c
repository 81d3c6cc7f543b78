/* memory.c - a part of an array's memory as a view: what NumPy says with an offset and strides, in layout ops.
 *
 * in:   an owner and, of a view of it, offset, shape and strides in elements
 * out:  the view: the elements as digits of a mixed radix, a slice of those, axes put in order, broadcast
 * rule: digits follow the owner's axes; a view that runs over several of them merges these, one that divides an axis
 *       splits it. What is no slice in any such radix is refused.
 */
#include "py/py.h"

#include <stdlib.h>
#include <string.h>

typedef struct Axis {     /* of the view, longer than 1 and not broadcast */
    int64_t stride, size; /* stride > 0 */
    int at;               /* which axis of the view */
    int digit;
    bool reversed;
} Axis;

typedef struct Radix {
    int64_t unit[2 * MAX_RANK + 1]; /* ascending: elements of one step of a digit; the last is the number of elements */
    int n;                          /* digits */
    Axis axis[MAX_RANK];            /* ascending strides */
    int naxes;
    int64_t offset;
} Radix;

static void
drop_unit(Radix *r, int i)
{
    memmove(&r->unit[i], &r->unit[i + 1], sizeof(int64_t) * (size_t)(r->n - i));
    r->n--;
}

static bool
split_at_unit(Radix *r, int digit, int64_t unit)
{
    if (unit % r->unit[digit] || r->unit[digit + 1] % unit || r->n == COUNT_OF(r->unit) - 1)
        return false;
    memmove(&r->unit[digit + 2], &r->unit[digit + 1], sizeof(int64_t) * (size_t)(r->n - digit));
    r->unit[digit + 1] = unit;
    r->n++;
    return true;
}

static int
digit_of(const Radix *r, int64_t stride)
{
    int d = 0;

    while (d + 1 < r->n && r->unit[d + 1] <= stride)
        d++;
    return d;
}

/* Gives an axis a digit of its own; `taken`: digits below it belong to the axes before. */
static bool
place(Radix *r, Axis *a, int taken)
{
    int d = digit_of(r, a->stride);

    while (d > taken && a->stride % r->unit[d]) /* a diagonal, say: steps over the ends of rows */
        drop_unit(r, d--);
    if (d < taken) {
        while (!split_at_unit(r, d, a->stride)) { /* a view that divides several axes otherwise than the owner */
            if (d + 1 == r->n || a->stride % r->unit[d])
                return false;
            drop_unit(r, d + 1);
        }
        d++;
    }
    if (a->stride % r->unit[d])
        return false;
    a->digit = d;
    for (;;) {
        int64_t count = r->unit[d + 1] / r->unit[d], start = r->offset / r->unit[d] % count;

        if (start + a->stride / r->unit[d] * (a->size - 1) < count)
            return true;
        if (d + 1 == r->n)
            return false;
        drop_unit(r, d + 1);
    }
}

/* A later axis may have split the digit of an earlier one. */
static bool
all_fit(const Radix *r)
{
    bool ok = r->n <= MAX_RANK;

    for (int i = 0; i < r->naxes; i++) {
        const Axis *a = &r->axis[i];
        int64_t unit = r->unit[a->digit], count = r->unit[a->digit + 1] / unit;

        ok &= r->offset / unit % count + a->stride / unit * (a->size - 1) < count;
    }
    return ok;
}

static bool
solve(Radix *r, const Type *ty)
{
    int64_t unit = 1;
    int taken = 0;

    r->unit[0] = 1;
    for (int i = ty->rank - 1; i >= 0; i--) {
        unit *= ty->dim[i];
        if (ty->dim[i] != 1)
            r->unit[++r->n] = unit;
    }
    for (int i = 0; i < r->naxes; i++) {
        if (r->n == 0 || !place(r, &r->axis[i], taken))
            return false;
        taken = r->axis[i].digit + 1;
    }
    return all_fit(r);
}

static void
read_axes(Radix *r, int64_t offset, int rank, const int64_t *dim, const int64_t *stride)
{
    r->offset = offset;
    for (int i = 0; i < rank; i++) {
        Axis a = {.stride = llabs(stride[i]), .size = dim[i], .at = i, .reversed = stride[i] < 0};
        int to = r->naxes;

        if (dim[i] == 1 || stride[i] == 0)
            continue;
        if (a.reversed)
            r->offset += stride[i] * (dim[i] - 1);
        for (; to > 0 && r->axis[to - 1].stride > a.stride; to--)
            r->axis[to] = r->axis[to - 1];
        r->axis[to] = a;
        r->naxes++;
    }
}

/* The digits of a radix as axes, outermost first, and of each what the view takes. */
static PyObject *
digits(Session *s, PyObject *owner, const Radix *r)
{
    int64_t dim[MAX_RANK];
    Box b = {.rank = r->n};
    PyObject *x, *part;

    for (int d = 0; d < r->n; d++) {
        int i = r->n - 1 - d;

        dim[i] = r->unit[d + 1] / r->unit[d];
        b.start[i] = r->offset / r->unit[d] % dim[i];
        b.step[i] = b.size[i] = 1;
    }
    for (int k = 0; k < r->naxes; k++) {
        const Axis *a = &r->axis[k];
        int i = r->n - 1 - a->digit;
        int64_t step = a->stride / r->unit[a->digit];

        b.start[i] += a->reversed ? step * (a->size - 1) : 0;
        b.step[i] = a->reversed ? -step : step;
        b.size[i] = a->size;
    }
    x = view_reshape(s, owner, dim, r->n);
    part = x ? view_slice(s, x, &b) : NULL;
    Py_XDECREF(x);
    return part;
}

/* The axes of the view in its order; those of size 1 and those that are broadcast are new. */
static PyObject *
arranged(Session *s, PyObject *part, const Radix *r, int rank, const int64_t *dim)
{
    int64_t kept[MAX_RANK], perm[MAX_RANK], full[MAX_RANK];
    int place_of[MAX_RANK] = {0}, n = 0;
    bool wide = false;
    PyObject *x, *y, *z;

    for (int i = 0; i < rank; i++)
        full[i] = 1;
    for (int k = r->naxes; k-- > 0;) {
        kept[n] = r->axis[k].size;
        full[r->axis[k].at] = r->axis[k].size;
        place_of[r->axis[k].at] = ++n;
    }
    n = 0;
    for (int i = 0; i < rank; i++)
        if (place_of[i])
            perm[n++] = place_of[i] - 1;
    for (int i = 0; i < rank; i++)
        wide |= full[i] != dim[i];
    x = view_reshape(s, part, kept, r->naxes);
    y = x && n ? view_transpose(s, x, perm, n) : Py_XNewRef(x);
    z = y ? view_reshape(s, y, full, rank) : NULL;
    if (z && wide)
        Py_SETREF(z, view_broadcast(s, z, dim, rank));
    Py_XDECREF(x);
    Py_XDECREF(y);
    return z;
}

/* The run of elements that a view lies in, when the axes of its owner are in the way: the view of memory then has just
 * this one axis to divide. New; NULL without an exception: the run is longer than the owner. */
static PyObject *
run_of(Session *s, PyObject *owner, Radix *r)
{
    const Axis *last = &r->axis[r->naxes - 1];
    int64_t n = type_numel(traced_type(owner)), length;
    PyObject *flat, *run;
    Box b = {.rank = 1};

    if (!r->naxes || __builtin_mul_overflow(last->stride, last->size, &length) || length > n)
        return NULL;
    b.start[0] = MIN(r->offset, n - length);
    b.step[0] = 1;
    b.size[0] = length;
    flat = view_reshape(s, owner, &n, 1);
    run = flat ? view_slice(s, flat, &b) : NULL;
    Py_XDECREF(flat);
    r->offset -= b.start[0];
    return run;
}

/* `c` in C order, or the run of it that can be divided; takes c over. */
static PyObject *
divided(Session *s, PyObject *c, Radix *r)
{
    const Radix given = *r;

    if (((Traced *)c)->stride || !solve(r, traced_type(c))) {
        *r = given;
        Py_SETREF(c, ((Traced *)c)->stride ? NULL : run_of(s, c, r));
        if (c && !solve(r, traced_type(c)))
            Py_CLEAR(c);
        if (!c && !PyErr_Occurred())
            raise_here(s, E_Unsupported,
                       "NKI-1097 a view of this kind on an array that was made inside of the kernel is not "
                       "supported after a traced write to it; use slices, reshape and transpose");
    }
    return c;
}

PyObject *
view_of_memory(Session *s, PyObject *owner, int64_t offset, int rank, const int64_t *dim, const int64_t *stride)
{
    Radix r = {.n = 0};
    PyObject *c = ((Traced *)owner)->stride ? view_transpose(s, owner, NULL, 0) : Py_NewRef(owner);
    PyObject *part, *x;

    read_axes(&r, offset, rank, dim, stride);
    c = c ? divided(s, c, &r) : NULL;
    part = c && r.n ? digits(s, c, &r) : Py_XNewRef(c); /* no digit: one element */
    x = part ? arranged(s, part, &r, rank, dim) : NULL;
    Py_XDECREF(c);
    Py_XDECREF(part);
    return x ? view_restrided(s, x, stride) : NULL;
}
