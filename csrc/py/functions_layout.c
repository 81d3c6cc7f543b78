/* functions_layout.c - NumPy functions that give an array another shape: transposes, reshapes, broadcasts.
 *
 * in:   bound arguments, one object or NULL per parameter in the order of functions.def
 * out:  traced arrays, or tuples of them: views, except where NumPy copies
 * rule: no element is moved along its axis; those functions stand in functions_join.c
 */
#include "py/py.h"

#include <stdlib.h>
#include <string.h>

/* ---- axes ---- */

/* A function of one array: `make` gives the view. */
typedef PyObject *MakeView(Session *s, const char *name, PyObject *x, PyObject *const *a);

static PyObject *
view_with(Session *s, const char *name, PyObject *const *a, MakeView *make)
{
    PyObject *x = as_traced(s, name, a[0]), *r = x ? make(s, name, x, a) : NULL;

    Py_XDECREF(x);
    return r;
}

static PyObject *
transpose(Session *s, const char *name, PyObject *x, PyObject *const *a)
{
    int64_t perm[MAX_RANK];
    int n = 0;

    if (given(a[1]) && dims_of(s, name, a[1], perm, &n) < 0)
        return NULL;
    if (given(a[1]) && n == 0 && traced_type(x)->rank)
        return raise_here(s, E_Shape, "NKI-1047 transpose: 0 axes given for array of dimension %d",
                          traced_type(x)->rank);
    return view_transpose(s, x, perm, n);
}

PyObject *
fn_transpose(Session *s, const char *name, PyObject *const *a)
{
    return view_with(s, name, a, transpose);
}

PyObject *
fn_m_transpose(Session *s, const char *name, PyObject *const *a)
{
    PyObject *const args[] = {a[0], PyTuple_GET_SIZE(a[1]) ? unpacked(a[1]) : NULL};

    return view_with(s, name, args, transpose);
}

static PyObject *
matrix_transpose(Session *s, const char *Py_UNUSED(name), PyObject *x, PyObject *const *Py_UNUSED(a))
{
    int64_t perm[MAX_RANK];
    int n = traced_type(x)->rank;

    if (n < 2)
        return raise_here(s, E_Shape, "NKI-1048 matrix_transpose: at least 2 dims are needed, got %d", n);
    for (int i = 0; i < n; i++)
        perm[i] = i < n - 2 ? i : 2 * n - 3 - i;
    return view_transpose(s, x, perm, n);
}

PyObject *
fn_matrix_transpose(Session *s, const char *name, PyObject *const *a)
{
    return view_with(s, name, a, matrix_transpose);
}

static PyObject *
swapaxes(Session *s, const char *name, PyObject *x, PyObject *const *a)
{
    int64_t perm[MAX_RANK], i, j;
    int n = traced_type(x)->rank;

    if (axis_of(s, name, a[1], 0, n, &i) < 0 || axis_of(s, name, a[2], 0, n, &j) < 0)
        return NULL;
    for (int k = 0; k < n; k++)
        perm[k] = k == i ? j : k == j ? i : k;
    return view_transpose(s, x, perm, n);
}

PyObject *
fn_swapaxes(Session *s, const char *name, PyObject *const *a)
{
    return view_with(s, name, a, swapaxes);
}

static PyObject *
moveaxis(Session *s, const char *name, PyObject *x, PyObject *const *a)
{
    int64_t from[MAX_RANK], to[MAX_RANK], perm[MAX_RANK];
    unsigned moved = 0, filled = 0;
    int n, m, rank = traced_type(x)->rank, next = 0;

    if (distinct_axes(s, name, a[1], rank, from, &n) < 0 || distinct_axes(s, name, a[2], rank, to, &m) < 0)
        return NULL;
    if (n != m)
        return raise_here(s, E_Shape, "NKI-1049 moveaxis: %d source axes and %d destinations", n, m);
    for (int i = 0; i < n; i++) {
        perm[to[i]] = from[i];
        moved |= 1u << from[i];
        filled |= 1u << to[i];
    }
    for (int i = 0; i < rank; i++) {
        if (filled >> i & 1)
            continue;
        while (moved >> next & 1)
            next++;
        perm[i] = next++;
    }
    return view_transpose(s, x, perm, rank);
}

PyObject *
fn_moveaxis(Session *s, const char *name, PyObject *const *a)
{
    return view_with(s, name, a, moveaxis);
}

/* ---- shapes ---- */

bool
is_fortran_order(PyObject *x)
{
    const Type *ty = traced_type(x);
    int64_t stride[MAX_RANK], step = 1;
    bool same = true;

    traced_strides(x, stride);
    for (int i = 0; i < ty->rank; i++) {
        same &= ty->dim[i] == 1 || stride[i] == step;
        step *= ty->dim[i];
    }
    return same;
}

/* Whether 'A' means Fortran order for an array. */
static bool
is_fortran(PyObject *x)
{
    return is_fortran_order(x) && !is_c_order(x);
}

static bool
order_is(PyObject *order, const char *what)
{
    return order && PyUnicode_Check(order) && PyUnicode_CompareWithASCIIString(order, what) == 0;
}

bool
keeps_order(PyObject *order, PyObject *x, bool absent)
{
    if (!given(order))
        return absent;
    return order_is(order, "K") || (order_is(order, "A") && is_fortran(x));
}

bool
wants_fortran(PyObject *order, PyObject *x)
{
    return order_is(order, "F") || (order_is(order, "A") && is_fortran(x));
}

/* Elements in Fortran order: those of the transposed array in C order, into the transposed shape. */
static PyObject *
reshape_fortran(Session *s, PyObject *x, const int64_t *dim, int n)
{
    int64_t back[MAX_RANK];
    PyObject *t, *r, *out;

    for (int i = 0; i < n; i++)
        back[i] = dim[n - 1 - i];
    t = view_transpose(s, x, NULL, 0);
    r = t ? view_reshape(s, t, back, n) : NULL;
    out = r ? view_transpose(s, r, NULL, 0) : NULL;
    Py_XDECREF(t);
    Py_XDECREF(r);
    return out;
}

/* Parameters: a shape order copy. */
static PyObject *
reshape(Session *s, const char *name, PyObject *x, PyObject *const *a)
{
    int64_t dim[MAX_RANK];
    int n;
    PyObject *r;
    Val v;

    if (dims_of(s, name, a[1], dim, &n) < 0)
        return NULL;
    r = wants_fortran(a[2], x) ? reshape_fortran(s, x, dim, n) : view_reshape(s, x, dim, n);
    if (r && a[3] == Py_False && !((Traced *)r)->base && !((Traced *)x)->scalar) {
        Py_DECREF(r);
        return raise_here(s, E_Shape,
                          "NKI-1050 %s: with copy=False the array cannot have this shape: it would be a copy", name);
    }
    if (r && a[3] == Py_True && ((Traced *)r)->base) {
        int ok = traced_val(r, &v);

        Py_SETREF(r, ok < 0 ? NULL : traced_copy(s, r, v, false));
    }
    return r;
}

PyObject *
fn_reshape(Session *s, const char *name, PyObject *const *a)
{
    return view_with(s, name, a, reshape);
}

PyObject *
fn_m_reshape(Session *s, const char *name, PyObject *const *a)
{
    PyObject *args[] = {a[0], NULL, a[2], a[3]};

    if (!PyTuple_GET_SIZE(a[1]))
        return raise_here(s, E_DType, "NKI-1051 reshape: a shape is missing");
    args[1] = unpacked(a[1]);
    return view_with(s, name, args, reshape);
}

/* The axes from the largest stride to the smallest: the elements as they lie in memory. As in NumPy's iterator an axis
 * without a stride stays where it is. */
static PyObject *
as_in_memory(Session *s, PyObject *x)
{
    int64_t stride[MAX_RANK], inner[MAX_RANK], perm[MAX_RANK]; /* inner: from the smallest stride on */
    int rank = traced_type(x)->rank;

    traced_strides(x, stride);
    for (int i = 0; i < rank; i++) {
        int64_t own = llabs(stride[rank - 1 - i]);
        int to = i;

        for (int k = i - 1; k >= 0; k--) {
            int64_t other = llabs(stride[inner[k]]);

            if (own && other && other <= own)
                break;
            if (own && other)
                to = k;
        }
        memmove(&inner[to + 1], &inner[to], sizeof(int64_t) * (size_t)(i - to));
        inner[to] = rank - 1 - i;
    }
    for (int i = 0; i < rank; i++)
        perm[i] = inner[rank - 1 - i];
    return rank ? view_transpose(s, x, perm, rank) : Py_NewRef(x);
}

/* A copy in place of r. */
static PyObject *
copied(Session *s, PyObject *r)
{
    Val v;

    if (r && traced_val(r, &v) < 0)
        Py_CLEAR(r);
    if (r)
        Py_SETREF(r, traced_copy(s, r, v, false));
    return r;
}

/* Parameters: a order. Unlike reshape's, the result lies in one piece: a view only of what does, too. */
static PyObject *
ravel(Session *s, const char *Py_UNUSED(name), PyObject *x, PyObject *const *a)
{
    int64_t n = type_numel(traced_type(x));
    PyObject *t, *r;

    if (wants_fortran(a[1], x))
        return reshape_fortran(s, x, &n, 1);
    t = order_is(a[1], "K") ? as_in_memory(s, x) : Py_NewRef(x);
    r = t ? view_reshape(s, t, &n, 1) : NULL;
    if (r && !is_c_order(t))
        r = copied(s, r);
    Py_XDECREF(t);
    return r;
}

PyObject *
fn_ravel(Session *s, const char *name, PyObject *const *a)
{
    return view_with(s, name, a, ravel);
}

PyObject *
fn_flatten(Session *s, const char *name, PyObject *const *a)
{
    return copied(s, view_with(s, name, a, ravel));
}

static PyObject *
expand_dims(Session *s, const char *name, PyObject *x, PyObject *const *a)
{
    int64_t axes[MAX_RANK], dim[MAX_RANK];
    unsigned at = 0;
    const Type *ty = traced_type(x);
    int n, from = 0;

    if (indices_of(s, name, a[1], true, axes, &n) < 0)
        return NULL;
    if (ty->rank + n > MAX_RANK)
        return raise_here(s, E_Unsupported, "NKI-1052 expand_dims: the result would have more than %d dims", MAX_RANK);
    if (distinct_axes(s, name, a[1], ty->rank + n, axes, &n) < 0)
        return NULL;
    for (int i = 0; i < n; i++)
        at |= 1u << axes[i];
    for (int i = 0; i < ty->rank + n; i++)
        dim[i] = at >> i & 1 ? 1 : ty->dim[from++];
    return view_reshape(s, x, dim, ty->rank + n);
}

PyObject *
fn_expand_dims(Session *s, const char *name, PyObject *const *a)
{
    return view_with(s, name, a, expand_dims);
}

static PyObject *
squeeze(Session *s, const char *name, PyObject *x, PyObject *const *a)
{
    int64_t axes[MAX_RANK], dim[MAX_RANK], had[MAX_RANK], stride[MAX_RANK];
    unsigned drop = 0;
    const Type *ty = traced_type(x);
    int n = 0, rank = 0;
    PyObject *r;

    if (axes_of(s, name, a[1], axes, &n) < 0 ||
        (given(a[1]) && distinct_axes(s, name, a[1], ty->rank, axes, &n) < 0))
        return NULL;
    for (int i = 0; i < n; i++) {
        if (ty->dim[axes[i]] != 1)
            return raise_here(s, E_Shape, "NKI-1053 squeeze: axis %lld has size %lld, expected 1", (long long)axes[i],
                              (long long)ty->dim[axes[i]]);
        drop |= 1u << axes[i];
    }
    traced_strides(x, had);
    for (int i = 0; i < ty->rank; i++) {
        bool goes = given(a[1]) ? drop >> i & 1 : ty->dim[i] == 1;

        if (goes)
            continue;
        stride[rank] = had[i];
        dim[rank++] = ty->dim[i];
    }
    if (((Traced *)x)->scalar)
        return Py_NewRef(x);
    r = view_reshape(s, x, dim, rank);
    return r ? view_restrided(s, r, stride) : NULL;
}

PyObject *
fn_squeeze(Session *s, const char *name, PyObject *const *a)
{
    return view_with(s, name, a, squeeze);
}

/* ---- broadcasts ---- */

static PyObject *
broadcast_to(Session *s, const char *name, PyObject *x, PyObject *const *a)
{
    int64_t dim[MAX_RANK];
    int n;

    return dims_of(s, name, a[1], dim, &n) < 0 ? NULL : view_broadcast(s, x, dim, n);
}

PyObject *
fn_broadcast_to(Session *s, const char *name, PyObject *const *a)
{
    return view_with(s, name, a, broadcast_to);
}

/* The arrays of a sequence that results may be views of, a new tuple. Arrays of the kernel become traced, for what is
 * written to them later shows in the views. */
static PyObject *
arrays_of(Session *s, const char *name, PyObject *seq)
{
    PyObject *t = PySequence_Tuple(seq), *out = t ? PyTuple_New(PyTuple_GET_SIZE(t)) : NULL;

    for (Py_ssize_t i = 0; out && i < PyTuple_GET_SIZE(t); i++) {
        PyObject *given = PyTuple_GET_ITEM(t, i), *x = target_array(s, given);

        if (!x && !PyErr_Occurred())
            x = as_traced(s, name, given);
        if (!x)
            Py_CLEAR(out);
        else
            PyTuple_SET_ITEM(out, i, x);
    }
    Py_XDECREF(t);
    return out;
}

static Status
common_shape(Session *s, const char *name, PyObject *arrays, Type *all)
{
    LocId loc = here(s);

    all->rank = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(arrays); i++) {
        int64_t dim[MAX_RANK];
        int rank;

        TRY(broadcast_dims(&s->cx, loc, name, all, traced_type(PyTuple_GET_ITEM(arrays, i)), &rank, dim));
        all->rank = (uint8_t)rank;
        memcpy(all->dim, dim, sizeof(int64_t) * (size_t)rank);
    }
    return ST_OK;
}

/* An array that has the shape already is handed out as it is, as in NumPy. */
PyObject *
fn_broadcast_arrays(Session *s, const char *name, PyObject *const *a)
{
    PyObject *x = arrays_of(s, name, a[0]), *out = NULL;
    Type all = {0};
    Status st = x ? common_shape(s, name, x, &all) : ST_OK;

    if (x && st != ST_OK)
        raise_status(s, st, E_Shape);
    else if (x)
        out = PyTuple_New(PyTuple_GET_SIZE(x));
    for (Py_ssize_t i = 0; out && i < PyTuple_GET_SIZE(x); i++) {
        PyObject *one = PyTuple_GET_ITEM(x, i);
        const Type *ty = traced_type(one);
        bool same = ty->rank == all.rank && memcmp(ty->dim, all.dim, sizeof(int64_t) * all.rank) == 0;
        PyObject *item = same ? Py_NewRef(one) : view_broadcast(s, one, all.dim, all.rank);

        if (!item)
            Py_CLEAR(out);
        else
            PyTuple_SET_ITEM(out, i, item);
    }
    Py_XDECREF(x);
    return out;
}

Status
at_least(Session *s, Val x, int rank, Val *v)
{
    const Type *ty = type_of(s, x);
    int64_t dim[MAX_RANK] = {1, 1};

    *v = x;
    if (ty->rank >= rank)
        return ST_OK;
    for (int i = 0; i < ty->rank; i++)
        dim[rank - ty->rank + i] = ty->dim[i];
    return t_reshape(s->graph, x, dim, rank, here(s), v);
}

static PyObject *
view_at_least(Session *s, PyObject *x, int rank)
{
    const Type *ty = traced_type(x);
    int64_t dim[MAX_RANK] = {1, 1};

    if (ty->rank >= rank)
        return Py_NewRef(x);
    for (int i = 0; i < ty->rank; i++)
        dim[rank - ty->rank + i] = ty->dim[i];
    return view_reshape(s, x, dim, rank);
}

/* One array for one argument, else a tuple. */
static PyObject *
each_at_least(Session *s, const char *name, PyObject *args, int rank)
{
    PyObject *x = arrays_of(s, name, args);

    for (Py_ssize_t i = 0; x && i < PyTuple_GET_SIZE(x); i++) {
        PyObject *one = PyTuple_GET_ITEM(x, i), *v = view_at_least(s, one, rank);

        if (v)
            PyTuple_SET_ITEM(x, i, v);
        Py_XDECREF(v ? one : x);
        x = v ? x : NULL;
    }
    if (x && PyTuple_GET_SIZE(x) == 1)
        Py_SETREF(x, Py_NewRef(PyTuple_GET_ITEM(x, 0)));
    return x;
}

PyObject *
fn_atleast_1d(Session *s, const char *name, PyObject *const *a)
{
    return each_at_least(s, name, a[0], 1);
}

PyObject *
fn_atleast_2d(Session *s, const char *name, PyObject *const *a)
{
    return each_at_least(s, name, a[0], 2);
}
