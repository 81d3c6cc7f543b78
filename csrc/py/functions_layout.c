/* functions_layout.c - NumPy functions that give an array another shape: transposes, reshapes, broadcasts.
 *
 * in:   bound arguments, one object or NULL per parameter in the order of functions.def
 * out:  traced arrays, or tuples of them
 * rule: no element is moved along its axis; those functions stand in functions_join.c
 */
#include "py/py.h"

#include <string.h>

/* ---- axes ---- */

static PyObject *
transpose(Session *s, PyObject *a, const char *name, PyObject *axes)
{
    int64_t perm[MAX_RANK];
    int n = 0;
    Val x, v = {0};

    if (traced_operand(s, name, a, &x) < 0 || (given(axes) && dims_of(s, name, axes, perm, &n) < 0))
        return NULL;
    if (given(axes) && n == 0 && type_of(s, x)->rank)
        return raise_here(s, E_Shape, "transpose: 0 axes given for array of dimension %d", type_of(s, x)->rank);
    return traced_result(s, t_transpose(s->graph, x, perm, n, here(s), &v), v);
}

PyObject *
fn_transpose(Session *s, const char *name, PyObject *const *a)
{
    return transpose(s, a[0], name, a[1]);
}

PyObject *
fn_m_transpose(Session *s, const char *name, PyObject *const *a)
{
    return transpose(s, a[0], name, PyTuple_GET_SIZE(a[1]) ? unpacked(a[1]) : NULL);
}

static PyObject *
permuted(Session *s, Val x, const int64_t *perm, int n)
{
    Val v = x;

    return traced_result(s, n ? t_transpose(s->graph, x, perm, n, here(s), &v) : ST_OK, v);
}

PyObject *
fn_matrix_transpose(Session *s, const char *name, PyObject *const *a)
{
    int64_t perm[MAX_RANK];
    Val x;
    int n;

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    n = type_of(s, x)->rank;
    if (n < 2)
        return raise_here(s, E_Shape, "matrix_transpose: at least 2 dims are needed, got %d", n);
    for (int i = 0; i < n; i++)
        perm[i] = i < n - 2 ? i : 2 * n - 3 - i;
    return permuted(s, x, perm, n);
}

PyObject *
fn_swapaxes(Session *s, const char *name, PyObject *const *a)
{
    int64_t perm[MAX_RANK], i, j;
    Val x;
    int n;

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    n = type_of(s, x)->rank;
    if (axis_of(s, name, a[1], 0, n, &i) < 0 || axis_of(s, name, a[2], 0, n, &j) < 0)
        return NULL;
    for (int k = 0; k < n; k++)
        perm[k] = k == i ? j : k == j ? i : k;
    return permuted(s, x, perm, n);
}

PyObject *
fn_moveaxis(Session *s, const char *name, PyObject *const *a)
{
    int64_t from[MAX_RANK], to[MAX_RANK], perm[MAX_RANK];
    unsigned moved = 0, filled = 0;
    int n, m, rank, next = 0;
    Val x;

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    rank = type_of(s, x)->rank;
    if (distinct_axes(s, name, a[1], rank, from, &n) < 0 || distinct_axes(s, name, a[2], rank, to, &m) < 0)
        return NULL;
    if (n != m)
        return raise_here(s, E_Shape, "moveaxis: %d source axes and %d destinations", n, m);
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
    return permuted(s, x, perm, rank);
}

/* ---- shapes ---- */

static PyObject *
reshape(Session *s, const char *name, PyObject *a, PyObject *shape)
{
    int64_t dim[MAX_RANK];
    int n;
    Val x, v = {0};

    if (traced_operand(s, name, a, &x) < 0 || dims_of(s, name, shape, dim, &n) < 0)
        return NULL;
    return traced_result(s, t_reshape(s->graph, x, dim, n, here(s), &v), v);
}

PyObject *
fn_reshape(Session *s, const char *name, PyObject *const *a)
{
    return reshape(s, name, a[0], a[1]);
}

PyObject *
fn_m_reshape(Session *s, const char *name, PyObject *const *a)
{
    if (!PyTuple_GET_SIZE(a[1]))
        return raise_here(s, E_DType, "reshape: a shape is missing");
    return reshape(s, name, a[0], unpacked(a[1]));
}

PyObject *
fn_ravel(Session *s, const char *name, PyObject *const *a)
{
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    return traced_result(s, t_reshape(s->graph, x, &(int64_t){type_numel(type_of(s, x))}, 1, here(s), &v), v);
}

PyObject *
fn_expand_dims(Session *s, const char *name, PyObject *const *a)
{
    int64_t axes[MAX_RANK], dim[MAX_RANK];
    unsigned at = 0;
    const Type *ty;
    int n, from = 0;
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0 || indices_of(s, name, a[1], true, axes, &n) < 0)
        return NULL;
    ty = type_of(s, x);
    if (ty->rank + n > MAX_RANK)
        return raise_here(s, E_Unsupported, "expand_dims: the result would have more than %d dims", MAX_RANK);
    if (distinct_axes(s, name, a[1], ty->rank + n, axes, &n) < 0)
        return NULL;
    for (int i = 0; i < n; i++)
        at |= 1u << axes[i];
    for (int i = 0; i < ty->rank + n; i++)
        dim[i] = at >> i & 1 ? 1 : ty->dim[from++];
    return traced_result(s, t_reshape(s->graph, x, dim, ty->rank + n, here(s), &v), v);
}

PyObject *
fn_squeeze(Session *s, const char *name, PyObject *const *a)
{
    int64_t axes[MAX_RANK], dim[MAX_RANK];
    unsigned drop = 0;
    const Type *ty;
    int n = 0, rank = 0;
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    ty = type_of(s, x);
    if (axes_of(s, name, a[1], axes, &n) < 0 ||
        (given(a[1]) && distinct_axes(s, name, a[1], ty->rank, axes, &n) < 0))
        return NULL;
    for (int i = 0; i < n; i++) {
        if (ty->dim[axes[i]] != 1)
            return raise_here(s, E_Shape, "squeeze: axis %lld has size %lld, expected 1", (long long)axes[i],
                              (long long)ty->dim[axes[i]]);
        drop |= 1u << axes[i];
    }
    for (int i = 0; i < ty->rank; i++) {
        bool goes = given(a[1]) ? drop >> i & 1 : ty->dim[i] == 1;

        if (!goes)
            dim[rank++] = ty->dim[i];
    }
    return traced_result(s, t_reshape(s->graph, x, dim, rank, here(s), &v), v);
}

/* ---- broadcasts ---- */

PyObject *
fn_broadcast_to(Session *s, const char *name, PyObject *const *a)
{
    int64_t dim[MAX_RANK];
    int n;
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0 || dims_of(s, name, a[1], dim, &n) < 0)
        return NULL;
    return traced_result(s, t_broadcast_to(s->graph, x, dim, n, here(s), &v), v);
}

static PyObject *
tuple_of_values(Session *s, const Val *v, Py_ssize_t n)
{
    PyObject *out = PyTuple_New(n);

    for (Py_ssize_t i = 0; out && i < n; i++) {
        PyObject *item = traced_new(s, v[i]);

        if (!item)
            Py_CLEAR(out);
        else
            PyTuple_SET_ITEM(out, i, item);
    }
    return out;
}

static Status
broadcast_all(Session *s, const char *name, Val *v, Py_ssize_t n, LocId loc)
{
    Type all = {.rank = 0};

    for (Py_ssize_t i = 0; i < n; i++) {
        int64_t dim[MAX_RANK];
        int rank;

        TRY(broadcast_dims(&s->cx, loc, name, &all, type_of(s, v[i]), &rank, dim));
        all.rank = (uint8_t)rank;
        memcpy(all.dim, dim, sizeof(int64_t) * (size_t)rank);
    }
    for (Py_ssize_t i = 0; i < n; i++)
        TRY(t_broadcast_to(s->graph, v[i], all.dim, all.rank, loc, &v[i]));
    return ST_OK;
}

PyObject *
fn_broadcast_arrays(Session *s, const char *name, PyObject *const *a)
{
    Val *v;
    LocId loc = here(s);
    Py_ssize_t n = values_of(s, name, a[0], &v);
    Status st;

    if (n < 0)
        return NULL;
    st = broadcast_all(s, name, v, n, loc);
    return st == ST_OK ? tuple_of_values(s, v, n) : raise_status(s, st, E_Shape);
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

/* One array for one argument, else a tuple. */
static PyObject *
each_at_least(Session *s, const char *name, PyObject *args, int rank)
{
    Val *v;
    Py_ssize_t n = values_of(s, name, args, &v);
    Status st = ST_OK;

    for (Py_ssize_t i = 0; st == ST_OK && i < n; i++)
        st = at_least(s, v[i], rank, &v[i]);
    if (n < 0)
        return NULL;
    if (st != ST_OK || n == 1)
        return traced_result(s, st, v[0]);
    return tuple_of_values(s, v, n);
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
