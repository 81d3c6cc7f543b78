/* functions.c - NumPy functions, ufuncs and methods on traced arrays, driven by functions.def.
 *
 * in:   arguments as NumPy takes them, positional and by name
 * out:  traced arrays (or shapes, lists and tuples of them, as NumPy returns them)
 * rule: a handler sees its parameters bound and does nothing but call the builder. An argument that would be ignored
 *       is an error. Compositions of other NumPy functions stand in nkigen.ops.
 */
#include "py/py.h"

#include <math.h>
#include <string.h>

#define MAX_SECTIONS (1 << 20) /* of a split */

typedef PyObject *Handler(Session *s, const char *name, PyObject *const *a);

typedef struct Row {
    const char *name, *sig;
    Handler *fn;
} Row;

/* ---- arguments ---- */

static int
axes_of(Session *s, const char *name, PyObject *o, int64_t *axes, int *n)
{
    *n = -1; /* all */
    return o && o != Py_None ? dims_of(s, name, o, axes, n) : 0;
}

/* One integer, also as a sequence of one. */
static int
int_of(Session *s, const char *name, PyObject *o, int64_t *out)
{
    int64_t list[MAX_RANK];
    int n;

    if (dims_of(s, name, o, list, &n) < 0)
        return -1;
    if (n != 1) {
        raise_here(s, E_Shape, "%s: expected one integer, got %d", name, n);
        return -1;
    }
    *out = list[0];
    return 0;
}

static int
axis_of(Session *s, const char *name, PyObject *o, int64_t absent, int rank, int64_t *axis)
{
    *axis = absent;
    if (o && int_of(s, name, o, axis) < 0)
        return -1;
    if (*axis < -rank || *axis >= rank) {
        raise_here(s, E_Shape, "%s: axis %lld is out of bounds for array of dimension %d", name, (long long)*axis,
                   rank);
        return -1;
    }
    *axis += *axis < 0 ? rank : 0;
    return 0;
}

static int
flag_of(PyObject *o, bool *out)
{
    int v = o && o != Py_None ? PyObject_IsTrue(o) : 0;

    *out = v > 0;
    return v < 0 ? -1 : 0;
}

/* *dt stays as it is when there is no dtype argument. */
static int
dtype_arg(Session *s, PyObject *o, DType *dt)
{
    return o && o != Py_None ? dtype_of_object(s->st, s, o, dt) : 0;
}

static bool
given(PyObject *o)
{
    return o && o != Py_None;
}

/* The values of a sequence of arrays (a traced array is the sequence of its parts). -1: exception. */
static Py_ssize_t
values_of(Session *s, const char *name, PyObject *seq, Val **out)
{
    PyObject *list = is_traced(seq) || PySequence_Check(seq) ? PySequence_List(seq) : NULL;
    Py_ssize_t n;

    if (!list) {
        if (!PyErr_Occurred())
            raise_here(s, E_DType, "%s: expected a sequence of arrays, got %.100s", name, Py_TYPE(seq)->tp_name);
        return -1;
    }
    n = PyList_GET_SIZE(list);
    *out = arena_alloc(&s->cx.scratch, sizeof(Val) * (size_t)(n + 1));
    if (!*out) {
        PyErr_NoMemory();
        n = -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (traced_operand(s, name, PyList_GET_ITEM(list, i), &(*out)[i]) < 0)
            n = -1;
    Py_DECREF(list);
    return n;
}

/* ---- reductions ---- */

typedef struct Reduction {
    Val v;
    int64_t axes[MAX_RANK];
    int n;
    bool keep;
} Reduction;

static int
reduction(Session *s, const char *name, PyObject *a, PyObject *axis, PyObject *dtype, PyObject *keep, Reduction *r)
{
    DType dt;
    Status st;

    if (traced_operand(s, name, a, &r->v) < 0 || axes_of(s, name, axis, r->axes, &r->n) < 0)
        return -1;
    dt = val_dtype(s->graph, r->v);
    if (flag_of(keep, &r->keep) < 0 || dtype_arg(s, dtype, &dt) < 0)
        return -1;
    st = t_cast(s->graph, r->v, dt, here(s), &r->v);
    if (st == ST_OK)
        return 0;
    raise_status(s, st, E_Shape);
    return -1;
}

static PyObject *
reduce_with(Session *s, const char *name, TOp op, PyObject *a, PyObject *axis, PyObject *dtype, PyObject *keep)
{
    Reduction r;
    Status st;
    Val v = {0};
    LocId loc;

    if (reduction(s, name, a, axis, dtype, keep, &r) < 0)
        return NULL;
    loc = here(s);
    st = t_reduce(s->graph, op, r.v, r.axes, r.n, r.keep, loc, &v);
    if (st == ST_OK && given(dtype)) /* sum(dtype=i8) adds in 64 bits and wraps, which is the same */
        st = t_cast(s->graph, v, val_dtype(s->graph, r.v), loc, &v);
    return traced_result(s, st, v);
}

static PyObject *
fn_sum(Session *s, const char *name, PyObject *const *a)
{
    return reduce_with(s, name, T_reduce_sum, a[0], a[1], a[2], a[4]);
}

static PyObject *
fn_max(Session *s, const char *name, PyObject *const *a)
{
    return reduce_with(s, name, T_reduce_max, a[0], a[1], NULL, a[3]);
}

static PyObject *
fn_min(Session *s, const char *name, PyObject *const *a)
{
    return reduce_with(s, name, T_reduce_min, a[0], a[1], NULL, a[3]);
}
#define fn_amax fn_max
#define fn_amin fn_min

static PyObject *
truth_over(Session *s, const char *name, TOp op, PyObject *const *a)
{
    PyObject *dtype = np_type_object(s->st, DT_bool), *r;

    r = reduce_with(s, name, op, a[0], a[1], dtype, a[3]);
    Py_DECREF(dtype);
    return r;
}

static PyObject *
fn_any(Session *s, const char *name, PyObject *const *a)
{
    return truth_over(s, name, T_reduce_max, a);
}

static PyObject *
fn_all(Session *s, const char *name, PyObject *const *a)
{
    return truth_over(s, name, T_reduce_min, a);
}

static PyObject *
fn_mean(Session *s, const char *name, PyObject *const *a)
{
    Reduction r;
    Val v = {0};

    if (reduction(s, name, a[0], a[1], a[2], a[4], &r) < 0)
        return NULL;
    return traced_result(s, t_mean(s->graph, r.v, r.axes, r.n, r.keep, here(s), &v), v);
}

/* Parameters: a axis dtype out ddof keepdims where mean correction. */
static PyObject *
variance(Session *s, const char *name, PyObject *const *a, bool root)
{
    PyObject *ddof = given(a[8]) ? a[8] : a[4];
    Reduction r;
    double d = 0;
    Status st;
    Val v = {0};

    if (reduction(s, name, a[0], a[1], a[2], a[5], &r) < 0)
        return NULL;
    if (given(ddof) && (d = PyFloat_AsDouble(ddof)) == -1 && PyErr_Occurred())
        return NULL;
    st = t_var(s->graph, r.v, r.axes, r.n, d, r.keep, here(s), &v);
    if (st == ST_OK && root)
        st = t_unary(s->graph, T_sqrt, v, here(s), &v);
    return traced_result(s, st, v);
}

static PyObject *
fn_var(Session *s, const char *name, PyObject *const *a)
{
    return variance(s, name, a, false);
}

static PyObject *
fn_std(Session *s, const char *name, PyObject *const *a)
{
    return variance(s, name, a, true);
}

/* ---- element-wise ---- */

static PyObject *
fn_where(Session *s, const char *name, PyObject *const *a)
{
    Val c, x, y, v = {0};
    char wx, wy;

    if (!a[1] || !a[2])
        return raise_here(s, E_Unsupported,
                          "where: with the condition alone its result has no static shape; give x and y");
    if (traced_operand(s, name, a[0], &c) < 0 || operand_of(s, name, a[1], &x, &wx) < 0 ||
        operand_of(s, name, a[2], &y, &wy) < 0)
        return NULL;
    return traced_result(s, t_where_np(s->graph, c, x, wx, y, wy, here(s), &v), v);
}

static PyObject *
clip(Session *s, PyObject *x, PyObject *lo, PyObject *hi)
{
    PyObject *y = Py_NewRef(x), *z;

    if (given(lo)) {
        z = traced_binary(s, T_maximum, y, lo);
        Py_SETREF(y, z);
    }
    if (y && given(hi)) {
        z = traced_binary(s, T_minimum, y, hi);
        Py_SETREF(y, z);
    }
    return y;
}

static PyObject *
as_traced(Session *s, const char *name, PyObject *o)
{
    Val v;

    if (is_traced(o))
        return usable(s, o) ? Py_NewRef(o) : NULL;
    return traced_operand(s, name, o, &v) < 0 ? NULL : traced_new(s, v);
}

static PyObject *
fn_clip(Session *s, const char *name, PyObject *const *a)
{
    PyObject *x = as_traced(s, name, a[0]), *r;

    r = x ? clip(s, x, given(a[4]) ? a[4] : a[1], given(a[5]) ? a[5] : a[2]) : NULL;
    Py_XDECREF(x);
    return r;
}

static PyObject *
fn_m_clip(Session *s, const char *Py_UNUSED(name), PyObject *const *a)
{
    return clip(s, a[0], a[1], a[2]);
}

/* rint(x * 10**d) / 10**d, as numpy.round computes it */
static PyObject *
fn_round(Session *s, const char *name, PyObject *const *a)
{
    int64_t d = 0;
    Val x, p, v;
    Status st;
    LocId loc;

    if (traced_operand(s, name, a[0], &x) < 0 || (given(a[1]) && int_of(s, name, a[1], &d) < 0))
        return NULL;
    d = MIN(MAX(d, -400), 400); /* beyond that the factor is infinite or zero anyway */
    if (val_dtype(s->graph, x) == DT_bool)
        return raise_here(s, E_Unsupported, "%s: not supported for bool", name);
    if (is_integer(val_dtype(s->graph, x)) && d < 0)
        return raise_here(s, E_Unsupported, "%s: negative decimals are not supported for integers", name);
    if (is_integer(val_dtype(s->graph, x)))
        return traced_new(s, x);
    loc = here(s);
    if (d == 0)
        return traced_result(s, t_unary(s->graph, T_rint, x, loc, &v), v);
    st = t_full(s->graph, val_dtype(s->graph, x), 0, NULL, pow(10, (double)llabs(d)), loc, &p);
    if (st == ST_OK)
        st = t_binary(s->graph, d > 0 ? T_mul : T_div, x, p, loc, &v);
    if (st == ST_OK)
        st = t_unary(s->graph, T_rint, v, loc, &v);
    if (st == ST_OK)
        st = t_binary(s->graph, d > 0 ? T_div : T_mul, v, p, loc, &v);
    return traced_result(s, st, v);
}
#define fn_around fn_round

static PyObject *
fn_astype(Session *s, const char *name, PyObject *const *a)
{
    DType dt;
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0 || dtype_of_object(s->st, s, a[1], &dt) < 0)
        return NULL;
    return traced_result(s, t_cast(s->graph, x, dt, here(s), &v), v);
}

static PyObject *
fn_copy(Session *s, const char *name, PyObject *const *a)
{
    return as_traced(s, name, a[0]);
}

/* ---- products ---- */

static PyObject *
fn_matmul(Session *s, const char *name, PyObject *const *a)
{
    Val x, y, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0 || traced_operand(s, name, a[1], &y) < 0)
        return NULL;
    return traced_result(s, t_matmul_np(s->graph, x, y, here(s), &v), v);
}

/* dot and inner keep the promoted dtype, where matmul of bf16 and fp8 gives f32. */
static PyObject *
product(Session *s, Val x, Val y)
{
    LocId loc = here(s);
    Val v = {0};
    DType dt;
    Status st = promote(&s->cx, loc, val_dtype(s->graph, x), 0, val_dtype(s->graph, y), 0, &dt);

    if (st == ST_OK)
        st = t_matmul_np(s->graph, x, y, loc, &v);
    if (st == ST_OK)
        st = t_cast(s->graph, v, dt, loc, &v);
    return traced_result(s, st, v);
}

static PyObject *
fn_dot(Session *s, const char *name, PyObject *const *a)
{
    Val x, y;

    if (traced_operand(s, name, a[0], &x) < 0 || traced_operand(s, name, a[1], &y) < 0)
        return NULL;
    if (type_of(s, x)->rank == 0 || type_of(s, y)->rank == 0)
        return traced_binary(s, T_mul, a[0], a[1]);
    if (type_of(s, y)->rank > 2)
        return raise_here(s, E_Unsupported, "dot: a second operand of %d dims is not supported; use matmul",
                          type_of(s, y)->rank);
    return product(s, x, y);
}

static PyObject *
fn_inner(Session *s, const char *name, PyObject *const *a)
{
    Val x, y;
    Status st;

    if (traced_operand(s, name, a[0], &x) < 0 || traced_operand(s, name, a[1], &y) < 0)
        return NULL;
    if (type_of(s, x)->rank == 0 || type_of(s, y)->rank == 0)
        return traced_binary(s, T_mul, a[0], a[1]);
    if (type_of(s, y)->rank > 2)
        return raise_here(s, E_Unsupported, "inner: a second operand of %d dims is not supported", type_of(s, y)->rank);
    st = t_transpose(s->graph, y, NULL, 0, here(s), &y);
    return st == ST_OK ? product(s, x, y) : raise_status(s, st, E_Shape);
}

static PyObject *
fn_outer(Session *s, const char *name, PyObject *const *a)
{
    Val x, y, v = {0};
    LocId loc = here(s);
    Status st;

    if (traced_operand(s, name, a[0], &x) < 0 || traced_operand(s, name, a[1], &y) < 0)
        return NULL;
    st = t_reshape(s->graph, x, (int64_t[]){-1, 1}, 2, loc, &x);
    if (st == ST_OK)
        st = t_reshape(s->graph, y, (int64_t[]){1, -1}, 2, loc, &y);
    if (st == ST_OK)
        st = t_binary_np(s->graph, T_mul, x, 0, y, 0, loc, &v);
    return traced_result(s, st, v);
}

/* ---- layout ---- */

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

static PyObject *
fn_transpose(Session *s, const char *name, PyObject *const *a)
{
    return transpose(s, a[0], name, a[1]);
}
#define fn_permute_dims fn_transpose

/* A method takes its dims as x.f(2, 3) or x.f((2, 3)). */
static PyObject *
unpacked(PyObject *rest)
{
    if (PyTuple_GET_SIZE(rest) == 1 &&
        (PyTuple_GET_ITEM(rest, 0) == Py_None || !PyIndex_Check(PyTuple_GET_ITEM(rest, 0))))
        return PyTuple_GET_ITEM(rest, 0);
    return rest;
}

static PyObject *
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

static PyObject *
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

static PyObject *
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

/* Axes as numbers in [0, rank), each once. */
static int
distinct_axes(Session *s, const char *name, PyObject *o, int rank, int64_t *axes, int *n)
{
    unsigned seen = 0;

    if (dims_of(s, name, o, axes, n) < 0)
        return -1;
    for (int i = 0; i < *n; i++) {
        if (axes[i] < -rank || axes[i] >= rank) {
            raise_here(s, E_Shape, "%s: axis %lld is out of bounds for array of dimension %d", name, (long long)axes[i],
                       rank);
            return -1;
        }
        axes[i] += axes[i] < 0 ? rank : 0;
        if (seen >> axes[i] & 1) {
            raise_here(s, E_Shape, "%s: axis %lld is repeated", name, (long long)axes[i]);
            return -1;
        }
        seen |= 1u << axes[i];
    }
    return 0;
}

static PyObject *
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

static PyObject *
fn_reshape(Session *s, const char *name, PyObject *const *a)
{
    return reshape(s, name, a[0], a[1]);
}

static PyObject *
fn_m_reshape(Session *s, const char *name, PyObject *const *a)
{
    if (!PyTuple_GET_SIZE(a[1]))
        return raise_here(s, E_DType, "reshape: a shape is missing");
    return reshape(s, name, a[0], unpacked(a[1]));
}

static PyObject *
fn_ravel(Session *s, const char *name, PyObject *const *a)
{
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    return traced_result(s, t_reshape(s->graph, x, &(int64_t){type_numel(type_of(s, x))}, 1, here(s), &v), v);
}

static PyObject *
fn_expand_dims(Session *s, const char *name, PyObject *const *a)
{
    int64_t axes[MAX_RANK], dim[MAX_RANK];
    unsigned at = 0;
    const Type *ty;
    int n, from = 0;
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0 || dims_of(s, name, a[1], axes, &n) < 0)
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

static PyObject *
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
    if (given(a[1]) && distinct_axes(s, name, a[1], ty->rank, axes, &n) < 0)
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

static PyObject *
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
fn_broadcast_arrays(Session *s, const char *name, PyObject *const *a)
{
    Type all = {.rank = 0};
    PyObject *out;
    Val *v;
    LocId loc = here(s);
    Py_ssize_t n = values_of(s, name, a[0], &v);
    Status st = ST_OK;
    int rank;

    if (n < 0)
        return NULL;
    for (Py_ssize_t i = 0; st == ST_OK && i < n; i++) {
        int64_t dim[MAX_RANK];

        st = broadcast_dims(&s->cx, loc, name, &all, type_of(s, v[i]), &rank, dim);
        all.rank = (uint8_t)rank;
        memcpy(all.dim, dim, sizeof(int64_t) * (size_t)(st == ST_OK ? rank : 0));
    }
    for (Py_ssize_t i = 0; st == ST_OK && i < n; i++)
        st = t_broadcast_to(s->graph, v[i], all.dim, all.rank, loc, &v[i]);
    if (st != ST_OK)
        return raise_status(s, st, E_Shape);
    out = PyTuple_New(n);
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
each_at_least(Session *s, const char *name, PyObject *args, int rank)
{
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    PyObject *out = PyTuple_New(n), *one;

    for (Py_ssize_t i = 0; out && i < n; i++) {
        Val x, v = {0};
        PyObject *item = traced_operand(s, name, PyTuple_GET_ITEM(args, i), &x) < 0
                             ? NULL
                             : traced_result(s, at_least(s, x, rank, &v), v);

        if (!item)
            Py_CLEAR(out);
        else
            PyTuple_SET_ITEM(out, i, item);
    }
    if (!out || n != 1)
        return out;
    one = Py_NewRef(PyTuple_GET_ITEM(out, 0));
    Py_DECREF(out);
    return one;
}

static PyObject *
fn_atleast_1d(Session *s, const char *name, PyObject *const *a)
{
    return each_at_least(s, name, a[0], 1);
}

static PyObject *
fn_atleast_2d(Session *s, const char *name, PyObject *const *a)
{
    return each_at_least(s, name, a[0], 2);
}

/* ---- joining and splitting ---- */

/* min_rank and add_axis prepare each part: vstack makes rows of them, stack a new axis. */
static PyObject *
join(Session *s, Val *v, Py_ssize_t n, int64_t axis, PyObject *dtype)
{
    DType dt;
    Val out = {0};
    LocId loc = here(s);
    Status st = ST_OK;

    if (given(dtype)) {
        if (dtype_of_object(s->st, s, dtype, &dt) < 0)
            return NULL;
        for (Py_ssize_t i = 0; st == ST_OK && i < n; i++)
            st = t_cast(s->graph, v[i], dt, loc, &v[i]);
    }
    if (st == ST_OK)
        st = t_concat(s->graph, v, (int)n, axis, loc, &out);
    return traced_result(s, st, out);
}

static PyObject *
fn_concatenate(Session *s, const char *name, PyObject *const *a)
{
    int64_t axis = 0;
    Val *v;
    LocId loc = here(s);
    Py_ssize_t n = values_of(s, name, a[0], &v);
    Status st = ST_OK;

    if (n < 0)
        return NULL;
    if (a[1] == Py_None)
        for (Py_ssize_t i = 0; st == ST_OK && i < n; i++)
            st = t_reshape(s->graph, v[i], (int64_t[]){type_numel(type_of(s, v[i]))}, 1, loc, &v[i]);
    else if (a[1] && int_of(s, name, a[1], &axis) < 0)
        return NULL;
    return st == ST_OK ? join(s, v, n, axis, a[3]) : raise_status(s, st, E_Shape);
}

static PyObject *
fn_stack(Session *s, const char *name, PyObject *const *a)
{
    int64_t axis;
    Val *v;
    Py_ssize_t n = values_of(s, name, a[0], &v);

    if (n < 0)
        return NULL;
    if (n == 0)
        return raise_here(s, E_Shape, "stack: need at least one array to stack");
    if (type_of(s, v[0])->rank == MAX_RANK)
        return raise_here(s, E_Unsupported, "stack: the result would have more than %d dims", MAX_RANK);
    if (axis_of(s, name, a[1], 0, type_of(s, v[0])->rank + 1, &axis) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        Type ty = *type_of(s, v[i]), first = *type_of(s, v[0]);
        int64_t dim[MAX_RANK];
        Status st;

        if (i && (ty.rank + 1 != first.rank))
            return raise_here(s, E_Shape, "stack: all input arrays must have the same shape");
        for (int k = 0; k <= ty.rank; k++)
            dim[k] = k < axis ? ty.dim[k] : k == axis ? 1 : ty.dim[k - 1];
        if (i && memcmp(dim, first.dim, sizeof(int64_t) * first.rank) != 0)
            return raise_here(s, E_Shape, "stack: all input arrays must have the same shape");
        st = t_reshape(s->graph, v[i], dim, ty.rank + 1, here(s), &v[i]);
        if (st != ST_OK)
            return raise_status(s, st, E_Shape);
    }
    return join(s, v, n, axis, a[3]);
}

static PyObject *
stack_rows(Session *s, const char *name, PyObject *const *a, int min_rank, int64_t axis)
{
    Val *v;
    Py_ssize_t n = values_of(s, name, a[0], &v);
    Status st = ST_OK;

    for (Py_ssize_t i = 0; st == ST_OK && i < n; i++)
        st = at_least(s, v[i], min_rank, &v[i]);
    if (n < 0)
        return NULL;
    if (n && axis == 1 && type_of(s, v[0])->rank == 1)
        axis = 0;
    return st == ST_OK ? join(s, v, n, axis, a[1]) : raise_status(s, st, E_Shape);
}

static PyObject *
fn_vstack(Session *s, const char *name, PyObject *const *a)
{
    return stack_rows(s, name, a, 2, 0);
}

static PyObject *
fn_hstack(Session *s, const char *name, PyObject *const *a)
{
    return stack_rows(s, name, a, 1, 1);
}

/* Elements start, start + step, ... of one axis. */
static Status
part(Session *s, Val x, int64_t axis, int64_t start, int64_t step, int64_t size, LocId loc, Val *v)
{
    const Type *ty = type_of(s, x);
    int64_t st[MAX_RANK], by[MAX_RANK], n[MAX_RANK];

    for (int i = 0; i < ty->rank; i++) {
        st[i] = i == axis ? start : 0;
        by[i] = i == axis ? step : 1;
        n[i] = i == axis ? size : ty->dim[i];
    }
    return t_slice(s->graph, x, st, by, n, loc, v);
}

/* Appends elements [from, to) of an axis, with Python's rules for bounds, to a list. */
static int
append_part(Session *s, PyObject *list, Val x, int64_t axis, int64_t from, int64_t to)
{
    Py_ssize_t begin = (Py_ssize_t)from, end = (Py_ssize_t)to;
    Py_ssize_t n = PySlice_AdjustIndices((Py_ssize_t)type_of(s, x)->dim[axis], &begin, &end, 1);
    Val v = {0};
    PyObject *item = traced_result(s, part(s, x, axis, n ? begin : 0, 1, n, here(s), &v), v);
    int r = item ? PyList_Append(list, item) : -1;

    Py_XDECREF(item);
    return r;
}

static PyObject *
split_at(Session *s, const char *name, Val x, int64_t axis, PyObject *where)
{
    PyObject *list, *seq = PySequence_Tuple(where);
    int64_t from = 0;
    Py_ssize_t n = seq ? PyTuple_GET_SIZE(seq) : 0;

    if (!seq) {
        PyErr_Clear();
        return raise_here(s, E_DType, "%s: expected a number of sections or indices, got %.100s", name,
                          Py_TYPE(where)->tp_name);
    }
    list = PyList_New(0);
    for (Py_ssize_t i = 0; list && i <= n; i++) {
        Py_ssize_t to = i < n ? PyNumber_AsSsize_t(PyTuple_GET_ITEM(seq, i), NULL) : PY_SSIZE_T_MAX;

        if ((to == -1 && PyErr_Occurred()) || append_part(s, list, x, axis, from, to) < 0)
            Py_CLEAR(list);
        from = to;
    }
    Py_DECREF(seq);
    return list;
}

static PyObject *
split_even(Session *s, const char *name, Val x, int64_t axis, int64_t n, bool exact)
{
    int64_t size = type_of(s, x)->dim[axis], from = 0;
    PyObject *list;

    if (n <= 0)
        return raise_here(s, E_Shape, "%s: number of sections must be larger than 0, got %lld", name, (long long)n);
    if (exact && size % n)
        return raise_here(s, E_Shape, "%s: %lld elements along axis %lld do not split into %lld equal parts", name,
                          (long long)size, (long long)axis, (long long)n);
    if (n > MAX_SECTIONS)
        return raise_here(s, E_Unsupported, "%s: %lld sections are not supported, at most %d", name, (long long)n,
                          MAX_SECTIONS);
    list = PyList_New(0);
    for (int64_t i = 0; list && i < n; i++) {
        int64_t to = from + size / n + (i < size % n);

        if (append_part(s, list, x, axis, from, to) < 0)
            Py_CLEAR(list);
        from = to;
    }
    return list;
}

static PyObject *
split(Session *s, const char *name, PyObject *a, PyObject *where, PyObject *axis_arg, int64_t axis, bool exact)
{
    Val x;
    int64_t n;

    if (traced_operand(s, name, a, &x) < 0 || axis_of(s, name, axis_arg, axis, type_of(s, x)->rank, &axis) < 0)
        return NULL;
    if (is_traced(where) || !PyIndex_Check(where) || PySequence_Check(where))
        return split_at(s, name, x, axis, where);
    if (int_of(s, name, where, &n) < 0)
        return NULL;
    return split_even(s, name, x, axis, n, exact);
}

static PyObject *
fn_split(Session *s, const char *name, PyObject *const *a)
{
    return split(s, name, a[0], a[1], a[2], 0, true);
}

static PyObject *
fn_array_split(Session *s, const char *name, PyObject *const *a)
{
    return split(s, name, a[0], a[1], a[2], 0, false);
}

static PyObject *
fn_vsplit(Session *s, const char *name, PyObject *const *a)
{
    return split(s, name, a[0], a[1], NULL, 0, true);
}

static PyObject *
fn_hsplit(Session *s, const char *name, PyObject *const *a)
{
    Val x;

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    return split(s, name, a[0], a[1], NULL, type_of(s, x)->rank > 1, true);
}

/* ---- moving elements ---- */

static PyObject *
fn_flip(Session *s, const char *name, PyObject *const *a)
{
    int64_t axes[MAX_RANK];
    LocId loc = here(s);
    Status st = ST_OK;
    int n, rank;
    Val x;

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    rank = n = type_of(s, x)->rank;
    for (int i = 0; i < n; i++)
        axes[i] = i;
    if (given(a[1]) && distinct_axes(s, name, a[1], rank, axes, &n) < 0)
        return NULL;
    for (int i = 0; st == ST_OK && i < n; i++) {
        int64_t d = type_of(s, x)->dim[axes[i]];

        st = part(s, x, axes[i], d ? d - 1 : 0, -1, d, loc, &x);
    }
    return traced_result(s, st, x);
}

static Status
roll_axis(Session *s, Val x, int64_t axis, int64_t shift, LocId loc, Val *v)
{
    int64_t d = type_of(s, x)->dim[axis], k = d ? ((shift % d) + d) % d : 0;
    Val half[2];

    *v = x;
    if (k == 0)
        return ST_OK;
    TRY(part(s, x, axis, d - k, 1, k, loc, &half[0]));
    TRY(part(s, x, axis, 0, 1, d - k, loc, &half[1]));
    return t_concat(s->graph, half, 2, axis, loc, v);
}

static PyObject *
fn_roll(Session *s, const char *name, PyObject *const *a)
{
    int64_t shift[MAX_RANK], axes[MAX_RANK];
    LocId loc = here(s);
    Status st = ST_OK;
    Type ty;
    int n, m;
    Val x;

    if (traced_operand(s, name, a[0], &x) < 0 || dims_of(s, name, a[1], shift, &n) < 0)
        return NULL;
    ty = *type_of(s, x);
    if (!given(a[2])) {
        if (n != 1)
            return raise_here(s, E_Unsupported, "roll: several shifts need as many axes");
        st = t_reshape(s->graph, x, (int64_t[]){type_numel(&ty)}, 1, loc, &x);
        if (st == ST_OK)
            st = roll_axis(s, x, 0, shift[0], loc, &x);
        if (st == ST_OK)
            st = t_reshape(s->graph, x, ty.dim, ty.rank, loc, &x);
        return traced_result(s, st, x);
    }
    if (distinct_axes(s, name, a[2], ty.rank, axes, &m) < 0)
        return NULL;
    if (n != m && n != 1)
        return raise_here(s, E_Shape, "roll: %d shifts for %d axes", n, m);
    for (int i = 0; st == ST_OK && i < m; i++)
        st = roll_axis(s, x, axes[i], shift[n == 1 ? 0 : i], loc, &x);
    return traced_result(s, st, x);
}

/* Every element of an axis `count` times: a size-1 axis behind it is broadcast and merged. */
static Status
repeat_axis(Session *s, Val x, int64_t axis, int64_t count, LocId loc, Val *v)
{
    Type ty = *type_of(s, x);
    int64_t dim[MAX_RANK + 1];

    if (ty.rank == MAX_RANK)
        return fail(&s->cx, ST_UNSUPPORTED, loc, "repeat: arrays of %d dims are not supported", MAX_RANK);
    for (int i = 0; i <= ty.rank; i++)
        dim[i] = i <= axis ? ty.dim[i] : i == axis + 1 ? 1 : ty.dim[i - 1];
    TRY(t_reshape(s->graph, x, dim, ty.rank + 1, loc, v));
    dim[axis + 1] = count;
    TRY(t_broadcast_to(s->graph, *v, dim, ty.rank + 1, loc, v));
    ty.dim[axis] *= count;
    return t_reshape(s->graph, *v, ty.dim, ty.rank, loc, v);
}

static PyObject *
fn_repeat(Session *s, const char *name, PyObject *const *a)
{
    int64_t count, axis = 0;
    LocId loc = here(s);
    Status st = ST_OK;
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    if (is_traced(a[1]) || !PyIndex_Check(a[1]))
        return raise_here(s, E_Unsupported, "repeat: only an integer number of repeats is supported");
    if (int_of(s, name, a[1], &count) < 0)
        return NULL;
    if (count < 0)
        return raise_here(s, E_Shape, "repeat: repeats may not be negative, got %lld", (long long)count);
    if (given(a[2]) ? axis_of(s, name, a[2], 0, type_of(s, x)->rank, &axis) < 0 : 0)
        return NULL;
    if (!given(a[2]))
        st = t_reshape(s->graph, x, (int64_t[]){type_numel(type_of(s, x))}, 1, loc, &x);
    if (st == ST_OK)
        st = repeat_axis(s, x, axis, count, loc, &v);
    return traced_result(s, st, v);
}

static PyObject *
fn_tile(Session *s, const char *name, PyObject *const *a)
{
    int64_t reps[MAX_RANK], split_dim[2 * MAX_RANK], wide[2 * MAX_RANK], out[MAX_RANK];
    LocId loc = here(s);
    int n, rank, m = 0;
    Type ty;
    Status st;
    Val x;

    if (traced_operand(s, name, a[0], &x) < 0 || dims_of(s, name, a[1], reps, &n) < 0)
        return NULL;
    ty = *type_of(s, x);
    rank = MAX(n, ty.rank);
    for (int i = 0; i < rank; i++) {
        int64_t r = i >= rank - n ? reps[i - (rank - n)] : 1;
        int64_t d = i >= rank - ty.rank ? ty.dim[i - (rank - ty.rank)] : 1;

        if (r < 0)
            return raise_here(s, E_Shape, "tile: repetitions may not be negative, got %lld", (long long)r);
        if (r != 1) {
            split_dim[m] = 1;
            wide[m++] = r;
        }
        split_dim[m] = wide[m] = d;
        m++;
        if (__builtin_mul_overflow(r, d, &out[i]))
            return raise_here(s, E_Shape, "tile: the result is too large");
    }
    if (m > MAX_RANK)
        return raise_here(s, E_Unsupported, "tile: too many repeated axes for an array of %d dims", rank);
    st = t_reshape(s->graph, x, split_dim, m, loc, &x);
    if (st == ST_OK)
        st = t_broadcast_to(s->graph, x, wide, m, loc, &x);
    if (st == ST_OK)
        st = t_reshape(s->graph, x, out, rank, loc, &x);
    return traced_result(s, st, x);
}

/* where(column - row <= k (lower) or >= k (upper), m, 0); the mask is a constant. */
static PyObject *
triangle(Session *s, const char *name, PyObject *m, PyObject *k_arg, bool lower)
{
    PyObject *mask, *rows, *r = NULL;
    Type ty;
    Val x, c, zero;
    LocId loc = here(s);
    int64_t k = 0;

    if (traced_operand(s, name, m, &x) < 0 || (given(k_arg) && int_of(s, name, k_arg, &k) < 0))
        return NULL;
    ty = *type_of(s, x);
    if (ty.rank == 0)
        return raise_here(s, E_Shape, "%s: a 0-d array has no triangle", name);
    rows = PyLong_FromLongLong(ty.dim[MAX(ty.rank - 2, 0)]);
    mask = rows ? PyObject_CallMethod(s->st->np, "tri", "OLLs", rows, (long long)ty.dim[ty.rank - 1],
                                      (long long)(lower ? k : k - 1), "?")
                : NULL;
    if (mask && const_of_array(s, (PyArrayObject *)mask, &c) == 0) {
        Status st = t_full_int(s->graph, (DType)ty.dtype, 0, NULL, 0, loc, &zero);

        if (st == ST_OK)
            st = t_where(s->graph, c, lower ? x : zero, lower ? zero : x, loc, &x);
        r = traced_result(s, st, x);
    }
    Py_XDECREF(rows);
    Py_XDECREF(mask);
    return r;
}

static PyObject *
fn_tril(Session *s, const char *name, PyObject *const *a)
{
    return triangle(s, name, a[0], a[1], true);
}

static PyObject *
fn_triu(Session *s, const char *name, PyObject *const *a)
{
    return triangle(s, name, a[0], a[1], false);
}

/* ---- creation ---- */

static PyObject *
fill_like(Session *s, const char *name, PyObject *a, PyObject *dtype, PyObject *shape, PyObject *fill, double v)
{
    int64_t dim[MAX_RANK];
    LocId loc = here(s);
    Val x, out = {0};
    Status st;
    DType dt;
    int n;

    if (traced_operand(s, name, a, &x) < 0)
        return NULL;
    dt = val_dtype(s->graph, x);
    n = type_of(s, x)->rank;
    memcpy(dim, type_of(s, x)->dim, sizeof(dim));
    if (dtype_arg(s, dtype, &dt) < 0 || (given(shape) && dims_of(s, name, shape, dim, &n) < 0))
        return NULL;
    if (!fill)
        return traced_result(s, t_full(s->graph, dt, n, dim, v, loc, &out), out);
    if (traced_operand(s, name, fill, &x) < 0)
        return NULL;
    st = t_cast(s->graph, x, dt, loc, &x);
    if (st == ST_OK)
        st = t_broadcast_to(s->graph, x, dim, n, loc, &out);
    return traced_result(s, st, out);
}

static PyObject *
fn_zeros_like(Session *s, const char *name, PyObject *const *a)
{
    return fill_like(s, name, a[0], a[1], a[4], NULL, 0);
}
#define fn_empty_like fn_zeros_like

static PyObject *
fn_ones_like(Session *s, const char *name, PyObject *const *a)
{
    return fill_like(s, name, a[0], a[1], a[4], NULL, 1);
}

static PyObject *
fn_full_like(Session *s, const char *name, PyObject *const *a)
{
    return fill_like(s, name, a[0], a[2], a[5], a[1], 0);
}

/* ---- facts ---- */

static PyObject *
attribute_of(Session *s, const char *name, PyObject *o, const char *attr)
{
    PyObject *x = as_traced(s, name, o), *r = x ? PyObject_GetAttrString(x, attr) : NULL;

    Py_XDECREF(x);
    return r;
}

static PyObject *
fn_shape(Session *s, const char *name, PyObject *const *a)
{
    return attribute_of(s, name, a[0], "shape");
}

static PyObject *
fn_ndim(Session *s, const char *name, PyObject *const *a)
{
    return attribute_of(s, name, a[0], "ndim");
}

static PyObject *
fn_size(Session *s, const char *name, PyObject *const *a)
{
    int64_t axis;
    Val x;

    if (!given(a[1]))
        return attribute_of(s, name, a[0], "size");
    if (traced_operand(s, name, a[0], &x) < 0 || axis_of(s, name, a[1], 0, type_of(s, x)->rank, &axis) < 0)
        return NULL;
    return PyLong_FromLongLong(type_of(s, x)->dim[axis]);
}

static PyObject *
fn_iscomplexobj(Session *Py_UNUSED(s), const char *Py_UNUSED(name), PyObject *const *Py_UNUSED(a))
{
    Py_RETURN_FALSE;
}

static PyObject *
fn_result_type(Session *s, const char *name, PyObject *const *a)
{
    Py_ssize_t n = PyTuple_GET_SIZE(a[0]);
    PyObject *plain = PyTuple_New(n), *fn, *r = NULL;

    for (Py_ssize_t i = 0; plain && i < n; i++) {
        PyObject *o = PyTuple_GET_ITEM(a[0], i);

        PyTuple_SET_ITEM(plain, i, is_traced(o) ? np_type_object(s->st, val_dtype(s->graph, val_of(o))) : Py_NewRef(o));
    }
    fn = plain ? PyObject_GetAttrString(s->st->np, name) : NULL;
    if (fn)
        r = PyObject_Call(fn, plain, NULL);
    Py_XDECREF(fn);
    Py_XDECREF(plain);
    return r;
}

/* ---- the table ---- */

#define fn_m_astype fn_astype
#define fn_m_sum fn_sum
#define fn_m_mean fn_mean
#define fn_m_var fn_var
#define fn_m_std fn_std
#define fn_m_max fn_max
#define fn_m_min fn_min
#define fn_m_any fn_any
#define fn_m_all fn_all
#define fn_m_squeeze fn_squeeze
#define fn_m_ravel fn_ravel
#define fn_m_flatten fn_ravel
#define fn_m_copy fn_copy
#define fn_m_swapaxes fn_swapaxes
#define fn_m_dot fn_dot
#define fn_m_round fn_round
#define fn_m_repeat fn_repeat

static const Row rows[FN_COUNT] = {
#define FN(id, name, sig) {name, sig, fn_##id},
#define METHOD(id, name, sig, doc) {name, sig, fn_m_##id},
#include "py/functions.def"
};

/* ---- binding ---- */

typedef enum ParamKind { P_required, P_optional, P_default, P_rest } ParamKind;
typedef struct Param {
    const char *name, *allowed; /* P_default: values that change nothing, with '|' between */
    size_t len, allowed_len;
    ParamKind kind;
    bool keyword_only;
} Param;

static int
parse_signature(const char *sig, Param *p)
{
    bool keyword_only = false;
    int n = 0;

    while (*sig) {
        size_t len = strcspn(sig, " "), name = strcspn(sig, " ?!");
        Param *q = &p[n];

        if (len == 1 && sig[0] == '*') {
            keyword_only = true;
        } else {
            *q = (Param){.name = sig, .len = name, .keyword_only = keyword_only};
            q->kind = name == len ? P_required : sig[name] == '?' ? P_optional : P_default;
            if (sig[0] == '*') {
                q->kind = P_rest;
                q->name++;
                q->len--;
                keyword_only = true;
            }
            if (q->kind == P_default && name + 1 < len && sig[name + 1] == '=') {
                q->allowed = sig + name + 2;
                q->allowed_len = len - name - 2;
            }
            n++;
        }
        sig += len + (sig[len] == ' ');
    }
    return n;
}

static bool
is_allowed(const Param *p, PyObject *v)
{
    const char *text, *at = p->allowed, *end = at + p->allowed_len;
    PyObject *str;
    bool hit = false;

    if (v == Py_None)
        return true;
    if (!at || !(PyUnicode_Check(v) || PyBool_Check(v)))
        return false;
    str = PyObject_Str(v);
    text = str ? PyUnicode_AsUTF8(str) : NULL;
    while (text && at < end && !hit) {
        size_t n = strcspn(at, "| ");

        hit = strlen(text) == n && memcmp(at, text, n) == 0;
        at += n + 1;
    }
    PyErr_Clear();
    Py_XDECREF(str);
    return hit;
}

static int
bind_keywords(Session *s, const char *name, PyObject *kwargs, const Param *p, int np, PyObject **out)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;

    while (PyDict_Next(kwargs, &at, &key, &value)) {
        Py_ssize_t len;
        const char *k = PyUnicode_AsUTF8AndSize(key, &len);
        int i;

        if (!k)
            return -1;
        for (i = 0; i < np; i++)
            if (p[i].kind != P_rest && (size_t)len == p[i].len && memcmp(k, p[i].name, p[i].len) == 0)
                break;
        if (i == np) {
            raise_here(s, E_Unsupported, "%s: the argument '%s' is not supported", name, k);
            return -1;
        }
        if (out[i]) {
            raise_here(s, E_DType, "%s: got multiple values for argument '%s'", name, k);
            return -1;
        }
        out[i] = value;
    }
    return 0;
}

/* Binds like Python would; borrowed references in out, the tuple of a '*name' parameter is new (*rest). */
static int
bind(Session *s, const Row *row, PyObject *const *args, Py_ssize_t n, PyObject *kwargs, PyObject **out, PyObject **rest)
{
    Param p[MAX_PARAMS];
    int np = parse_signature(row->sig, p), positional = 0;

    for (int i = 0; i < np; i++) {
        out[i] = NULL;
        if (p[i].kind == P_rest) {
            Py_ssize_t extra = MAX(n - positional, 0);

            *rest = out[i] = PyTuple_New(extra);
            for (Py_ssize_t k = 0; *rest && k < extra; k++)
                PyTuple_SET_ITEM(*rest, k, Py_NewRef(args[positional + k]));
            if (!*rest)
                return -1;
            n -= extra;
        } else if (!p[i].keyword_only) {
            out[i] = positional < n ? args[positional] : NULL;
            positional++;
        }
    }
    if (n > positional) {
        raise_here(s, E_DType, "%s: takes at most %d positional arguments, got %zd", row->name, positional, n);
        return -1;
    }
    if (kwargs && bind_keywords(s, row->name, kwargs, p, np, out) < 0)
        return -1;
    for (int i = 0; i < np; i++) {
        if (out[i] == s->st->no_value)
            out[i] = NULL;
        if (!out[i] && p[i].kind == P_required) {
            raise_here(s, E_DType, "%s: missing argument '%.*s'", row->name, (int)p[i].len, p[i].name);
            return -1;
        }
        if (out[i] && p[i].kind == P_default && !is_allowed(&p[i], out[i])) {
            raise_here(s, E_Unsupported, "%s: the argument '%.*s' is not supported", row->name, (int)p[i].len,
                       p[i].name);
            return -1;
        }
    }
    return 0;
}

PyObject *
call_function(Session *s, int row, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    PyObject *bound[MAX_PARAMS] = {0}, *rest = NULL, *r = NULL;

    if (bind(s, &rows[row], args, n, kwargs, bound, &rest) == 0)
        r = rows[row].fn(s, rows[row].name, bound);
    Py_XDECREF(rest);
    return r;
}

static PyObject *
call_method(PyObject *self, int row, PyObject *args, PyObject *kwargs)
{
    PyObject *few[8], **all = few, *r;
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    Session *s = ((Traced *)self)->session;

    if (!usable(s, self))
        return NULL;
    if (n + 1 > COUNT_OF(few) && !(all = PyMem_Malloc(sizeof(PyObject *) * (size_t)(n + 1))))
        return PyErr_NoMemory();
    all[0] = self;
    for (Py_ssize_t i = 0; i < n; i++)
        all[i + 1] = PyTuple_GET_ITEM(args, i);
    r = call_function(s, row, all, n + 1, kwargs);
    if (all != few)
        PyMem_Free(all);
    return r;
}

#define METHOD(id, name, sig, doc)                                                                                     \
    PyObject *method_##id(PyObject *self, PyObject *args, PyObject *kwargs)                                            \
    {                                                                                                                  \
        return call_method(self, FN_m_##id, args, kwargs);                                                             \
    }
#include "py/functions.def"

/* ---- NumPy's protocols ---- */

/* In nkigen.ops stand compositions for functions without an op of their own. Borrowed; NULL: none. */
static PyObject *
composition(State *st, PyObject *fn)
{
    PyObject *table, *r;

    if (!st->ops && !(st->ops = PyImport_ImportModule("nkigen.ops")))
        return NULL;
    table = PyObject_GetAttrString(st->ops, "COMPOSITIONS");
    if (!table)
        return NULL;
    r = PyDict_GetItemWithError(table, fn); /* the module keeps the table */
    Py_DECREF(table);
    return r;
}

static PyObject *
reduce_ufunc(Session *s, TOp op, const char *name, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    int row = op == T_add           ? FN_sum
              : op == T_maximum     ? FN_max
              : op == T_minimum     ? FN_min
              : op == T_logical_or  ? FN_any
              : op == T_logical_and ? FN_all
                                    : -1;
    PyObject *kw, *r = NULL;

    if (row < 0)
        return raise_here(s, E_Unsupported, "%s.reduce is not supported", name);
    kw = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
    if (kw && n < 2 && !PyDict_GetItemString(kw, "axis")) { /* ufuncs reduce the first axis by default */
        PyObject *zero = PyLong_FromLong(0);

        if (!zero || PyDict_SetItemString(kw, "axis", zero) < 0)
            Py_CLEAR(kw);
        Py_XDECREF(zero);
    }
    if (kw)
        r = call_function(s, row, args, n, kw);
    Py_XDECREF(kw);
    return r;
}

static bool
is_bitwise(const char *name)
{
    return strncmp(name, "bitwise_", 8) == 0 || strcmp(name, "invert") == 0;
}

static PyObject *
bitwise_ufunc(const char *name, PyObject *const *args)
{
    if (strcmp(name, "bitwise_and") == 0)
        return PyNumber_And(args[0], args[1]);
    if (strcmp(name, "bitwise_or") == 0)
        return PyNumber_Or(args[0], args[1]);
    if (strcmp(name, "bitwise_xor") == 0)
        return PyNumber_Xor(args[0], args[1]);
    return PyNumber_Invert(args[0]);
}

/* Operands of a ufunc called with dtype=. */
static PyObject *
cast_operand(Session *s, const char *name, PyObject *o, PyObject *dtype)
{
    PyObject *const args[] = {o, dtype};

    return fn_astype(s, name, args);
}

static PyObject *
call_op(Session *s, TOp op, const char *name, PyObject *const *args, Py_ssize_t n, PyObject *dtype)
{
    PyObject *cast[2] = {NULL, NULL}, *r = NULL;
    int nin = tensor_dialect.ops[op].nin;

    if (n != nin)
        return raise_here(s, E_DType, "%s: takes %d operands, got %zd", name, nin, n);
    if (dtype && strcmp(tensor_dialect.ops[op].cls, "CMP") == 0)
        return raise_here(s, E_Unsupported, "%s: the argument 'dtype' is not supported", name);
    for (int i = 0; dtype && i < nin; i++)
        if (!(cast[i] = cast_operand(s, name, args[i], dtype)))
            goto done;
    if (dtype)
        args = cast;
    r = nin == 1 ? traced_unary(s, op, args[0]) : traced_binary(s, op, args[0], args[1]);
done:
    Py_XDECREF(cast[0]);
    Py_XDECREF(cast[1]);
    return r;
}

/* Keywords of a ufunc: dtype is used, those with a value that changes nothing are accepted. -1: exception. */
static int
ufunc_keywords(Session *s, const char *name, PyObject *kwargs, PyObject **dtype)
{
    static const Row row = {"", "dtype? out! where!=True casting!=same_kind order!=K|C|A subok!=True|False", NULL};
    Row named = row;
    PyObject *bound[MAX_PARAMS];

    named.name = name;
    *dtype = NULL;
    if (!kwargs || !PyDict_GET_SIZE(kwargs))
        return 0;
    if (bind(s, &named, NULL, 0, kwargs, bound, NULL) < 0)
        return -1;
    *dtype = given(bound[0]) ? bound[0] : NULL;
    return 0;
}

static int
ufunc_op(State *st, PyObject *ufunc, const char *name)
{
    PyObject *known = PyDict_GetItemWithError(st->ufuncs, ufunc);
    int op;

    if (known)
        return (int)PyLong_AsLong(known);
    if (PyErr_Occurred())
        return -1;
    op = (int)t_from_np_ufunc(name);
    known = PyLong_FromLong(op);
    if (!known || PyDict_SetItem(st->ufuncs, ufunc, known) < 0)
        op = -1;
    Py_XDECREF(known);
    return op;
}

static PyObject *
call_ufunc(Session *s, PyObject *ufunc, const char *method, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    const char *name = ((PyUFuncObject *)ufunc)->name ? ((PyUFuncObject *)ufunc)->name : "ufunc";
    int op = ufunc_op(s->st, ufunc, name);
    PyObject *dtype, *fn;

    if (op < 0)
        return NULL;
    if (strcmp(method, "reduce") == 0)
        return reduce_ufunc(s, (TOp)op, name, args, n, kwargs);
    if (strcmp(method, "__call__") != 0)
        return raise_here(s, E_Unsupported, "%s.%.50s is not supported", name, method);
    if (ufunc_keywords(s, name, kwargs, &dtype) < 0)
        return NULL;
    if (n != ((PyUFuncObject *)ufunc)->nin)
        return raise_here(s, E_DType, "%s: takes %d operands, got %zd", name, ((PyUFuncObject *)ufunc)->nin, n);
    if (op == T_matmul && !dtype)
        return call_function(s, FN_matmul, args, n, NULL);
    if (op != T_none && op != T_matmul)
        return call_op(s, (TOp)op, name, args, n, dtype);
    if (dtype)
        return raise_here(s, E_Unsupported, "%s: the argument 'dtype' is not supported", name);
    if (is_bitwise(name))
        return bitwise_ufunc(name, args);
    if (strcmp(name, "clip") == 0)
        return call_function(s, FN_clip, args, n, NULL);
    fn = composition(s->st, ufunc);
    if (fn)
        return PyObject_Vectorcall(fn, args, (size_t)n, NULL);
    if (PyErr_Occurred())
        return NULL;
    return raise_here(s, E_Unsupported, "numpy.%s is not supported", name);
}

PyObject *
traced_array_ufunc(PyObject *self, PyObject *args, PyObject *kwargs)
{
    Session *s = ((Traced *)self)->session;
    PyObject *const *item = ((PyTupleObject *)args)->ob_item;
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    const char *method;

    if (n < 3 || !PyObject_TypeCheck(item[0], &PyUFunc_Type) || !PyUnicode_Check(item[1]))
        return raise_plain(s->st, E_DType, "__array_ufunc__ expects a ufunc, a method name and operands");
    method = PyUnicode_AsUTF8(item[1]);
    if (!method || !usable(s, self))
        return NULL;
    return call_ufunc(s, item[0], method, item + 2, n - 2, kwargs);
}

static PyObject *
call_unknown(Session *s, PyObject *fn, PyObject *args, PyObject *kwargs)
{
    PyObject *py = composition(s->st, fn), *name, *module;

    if (py)
        return PyObject_Call(py, args, kwargs);
    if (PyErr_Occurred())
        return NULL;
    name = PyObject_GetAttrString(fn, "__name__");
    module = PyObject_GetAttrString(fn, "__module__");
    if (name && module && PyUnicode_Check(name) && PyUnicode_Check(module))
        raise_here(s, E_Unsupported, "%s.%s is not supported", PyUnicode_AsUTF8(module), PyUnicode_AsUTF8(name));
    else
        raise_here(s, E_Unsupported, "this function is not supported");
    Py_XDECREF(name);
    Py_XDECREF(module);
    return NULL;
}

PyObject *
traced_array_function(PyObject *self, PyObject *args)
{
    Session *s = ((Traced *)self)->session;
    PyObject *fn, *types, *fargs, *fkwargs, *known;

    if (!PyArg_ParseTuple(args, "OOO!O!:__array_function__", &fn, &types, &PyTuple_Type, &fargs, &PyDict_Type,
                          &fkwargs))
        return NULL;
    if (!usable(s, self))
        return NULL;
    known = PyDict_GetItemWithError(s->st->functions, fn);
    if (known)
        return call_function(s, (int)PyLong_AsLong(known), ((PyTupleObject *)fargs)->ob_item, PyTuple_GET_SIZE(fargs),
                             fkwargs);
    if (PyErr_Occurred())
        return NULL;
    return call_unknown(s, fn, fargs, fkwargs);
}

/* The rows of NumPy functions by function object; a NumPy that lacks one does without. */
int
functions_init(State *st)
{
    int first_method = FN_m_astype;

    st->functions = PyDict_New();
    st->ufuncs = PyDict_New();
    if (!st->functions || !st->ufuncs)
        return -1;
    for (int i = 0; i < first_method; i++) {
        PyObject *fn = PyObject_GetAttrString(st->np, rows[i].name), *row = PyLong_FromLong(i);
        int r = fn && row ? PyDict_SetItem(st->functions, fn, row) : 0;

        if (!fn)
            PyErr_Clear();
        Py_XDECREF(fn);
        Py_XDECREF(row);
        if (r < 0 || !row)
            return -1;
    }
    return 0;
}
