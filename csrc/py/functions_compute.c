/* functions_compute.c - NumPy functions that compute elements: reductions, element-wise, products, creation; and the
 * facts they answer about an array.
 *
 * in:   bound arguments, one object or NULL per parameter in the order of functions.def
 * out:  traced arrays; Python objects for facts
 * rule: calls the builder and decides nothing about shapes or dtypes itself
 */
#include "py/py.h"

#include <math.h>
#include <string.h>

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
    if (flag_of(s, name, keep, &r->keep) < 0 || dtype_arg(s, dtype, &dt) < 0 ||
        (given(dtype) && check_cast(s, name, val_dtype(s->graph, r->v), dt, NULL) < 0))
        return -1;
    st = t_cast(s->graph, r->v, dt, here(s), &r->v);
    if (st == ST_OK)
        return 0;
    raise_status(s, st, E_Shape);
    return -1;
}

/* NumPy takes the integers 0 and -1 as axes of what has none; in a tuple it does not. */
static void
allow_no_axis(Session *s, PyObject *axis, Reduction *r)
{
    if (r->n == 1 && (r->axes[0] == 0 || r->axes[0] == -1) && type_of(s, r->v)->rank == 0 && is_index(axis))
        r->n = 0;
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
    allow_no_axis(s, axis, &r);
    loc = here(s);
    st = t_reduce(s->graph, op, r.v, r.axes, r.n, r.keep, loc, &v);
    if (st == ST_OK && given(dtype)) /* sum(dtype=i8) adds in 64 bits and wraps, which is the same */
        st = t_cast(s->graph, v, val_dtype(s->graph, r.v), loc, &v);
    return traced_reduced(s, st, v, a, r.axes, r.n);
}

PyObject *
fn_sum(Session *s, const char *name, PyObject *const *a)
{
    return reduce_with(s, name, T_reduce_sum, a[0], a[1], a[2], a[4]);
}

PyObject *
fn_max(Session *s, const char *name, PyObject *const *a)
{
    return reduce_with(s, name, T_reduce_max, a[0], a[1], NULL, a[3]);
}

PyObject *
fn_min(Session *s, const char *name, PyObject *const *a)
{
    return reduce_with(s, name, T_reduce_min, a[0], a[1], NULL, a[3]);
}

/* any of nothing is False, all of nothing True; extremes have no such identity, the count of true ones has. */
static Status
truth_of_nothing(Graph *g, TOp op, const Reduction *r, LocId loc, Val *v)
{
    TRY(t_reduce(g, T_reduce_sum, r->v, r->axes, r->n, r->keep, loc, v));
    TRY(t_cast(g, *v, DT_bool, loc, v));
    return op == T_reduce_min ? t_unary(g, T_logical_not, *v, loc, v) : ST_OK;
}

static PyObject *
truth_over(Session *s, const char *name, TOp op, PyObject *const *a)
{
    PyObject *dtype = np_type_object(s->st, DT_bool);
    Reduction r;
    Val v = {0};
    int bad = reduction(s, name, a[0], a[1], dtype, a[3], &r);
    Status st;

    Py_DECREF(dtype);
    if (bad < 0)
        return NULL;
    allow_no_axis(s, a[1], &r);
    if (type_numel(type_of(s, r.v)) == 0)
        st = truth_of_nothing(s->graph, op, &r, here(s), &v);
    else
        st = t_reduce(s->graph, op, r.v, r.axes, r.n, r.keep, here(s), &v);
    return traced_result(s, st, v);
}

PyObject *
fn_any(Session *s, const char *name, PyObject *const *a)
{
    return truth_over(s, name, T_reduce_max, a);
}

PyObject *
fn_all(Session *s, const char *name, PyObject *const *a)
{
    return truth_over(s, name, T_reduce_min, a);
}

static int
statistic(Session *s, const char *name, PyObject *const *a, PyObject *keep, Reduction *r, Over *over)
{
    *over = (Over){.axes = r->axes, .dtype = DT_none};
    if (reduction(s, name, a[0], a[1], NULL, keep, r) < 0 || dtype_arg(s, a[2], &over->dtype) < 0)
        return -1;
    over->n = r->n;
    over->keepdims = r->keep;
    return over->dtype == DT_none ? 0 : check_cast(s, name, val_dtype(s->graph, r->v), over->dtype, NULL);
}

PyObject *
fn_mean(Session *s, const char *name, PyObject *const *a)
{
    Reduction r;
    Over over;
    Val v = {0};

    if (statistic(s, name, a, a[4], &r, &over) < 0)
        return NULL;
    return traced_reduced(s, t_mean(s->graph, r.v, &over, here(s), &v), v, a[0], r.axes, r.n);
}

/* Parameters: a axis dtype out ddof keepdims where mean correction. */
static PyObject *
variance(Session *s, const char *name, PyObject *const *a, bool root)
{
    PyObject *ddof = a[8] ? a[8] : a[4];
    Reduction r;
    Over over;
    double d = 0;
    Val v = {0};

    if (statistic(s, name, a, a[5], &r, &over) < 0 || (ddof && real_of(s, name, ddof, &d) < 0))
        return NULL;
    return traced_reduced(s, (root ? t_std : t_var)(s->graph, r.v, &over, d, here(s), &v), v, a[0], r.axes, r.n);
}

PyObject *
fn_var(Session *s, const char *name, PyObject *const *a)
{
    return variance(s, name, a, false);
}

PyObject *
fn_std(Session *s, const char *name, PyObject *const *a)
{
    return variance(s, name, a, true);
}

/* ---- element-wise ---- */

PyObject *
fn_where(Session *s, const char *name, PyObject *const *a)
{
    PyObject *r;
    Val c, x, y, v = {0};
    char wx, wy;

    if (!a[1] || !a[2])
        return raise_here(s, E_Unsupported,
                          "NKI-1066 where: with the condition alone its result has no static shape; give x and y");
    if (traced_operand(s, name, a[0], &c) < 0 || operand_of(s, name, a[1], &x, &wx) < 0 ||
        operand_of(s, name, a[2], &y, &wy) < 0)
        return NULL;
    r = traced_like(s, t_where_np(s->graph, c, x, wx, y, wy, here(s), &v), v, a, 3);
    if (r)
        ((Traced *)r)->scalar = false;
    return r;
}

/* A Python integer beyond an integer dtype is no bound. */
static bool
bounds(PyObject *x, PyObject *o, bool above)
{
    DType dt = (DType)traced_type(x)->dtype;
    double v;
    int sign = 0;

    if (!given(o))
        return false;
    if (!is_integer(dt) || !PyLong_CheckExact(o))
        return true;
    v = PyLong_AsDouble(o);
    if (v == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        PyLong_AsLongLongAndOverflow(o, &sign);
        v = sign * HUGE_VAL;
    }
    return above ? v < dtypes[dt].max : v > (dtypes[dt].kind == DK_int ? -dtypes[dt].max - 1 : 0);
}

/* With both bounds NumPy has a loop of its own for three operands. */
static PyObject *
clip_both(Session *s, PyObject *const *args)
{
    PyObject *umath = PyObject_GetAttrString(s->st->np, "_core"), *ufunc, *cast, *dtype = NULL, *r = NULL;

    Py_SETREF(umath, umath ? PyObject_GetAttrString(umath, "umath") : NULL);
    ufunc = umath ? PyObject_GetAttrString(umath, "clip") : NULL;
    cast = ufunc ? operands_of_loop(s, ufunc, "clip", args, 3, NULL, NULL, &dtype) : NULL;
    if (cast) {
        PyObject *low = traced_binary(s, T_maximum, PyTuple_GET_ITEM(cast, 0), PyTuple_GET_ITEM(cast, 1));

        r = low ? traced_binary(s, T_minimum, low, PyTuple_GET_ITEM(cast, 2)) : NULL;
        Py_XDECREF(low);
    }
    Py_XDECREF(umath);
    Py_XDECREF(ufunc);
    Py_XDECREF(cast);
    Py_XDECREF(dtype);
    return r;
}

static PyObject *
clip(Session *s, PyObject *o, PyObject *lo, PyObject *hi)
{
    PyObject *x = as_traced(s, "clip", o), *r;
    bool has_lo = x && bounds(x, lo, false), has_hi = x && bounds(x, hi, true);

    if (!x)
        return NULL;
    if (has_lo && has_hi)
        r = clip_both(s, (PyObject *const[]){x, lo, hi});
    else if (has_lo)
        r = traced_binary(s, T_maximum, x, lo);
    else if (has_hi)
        r = traced_binary(s, T_minimum, x, hi);
    else
        r = traced_unary(s, T_positive, x);
    Py_DECREF(x);
    return r;
}

PyObject *
fn_clip(Session *s, const char *Py_UNUSED(name), PyObject *const *a)
{
    return clip(s, a[0], given(a[4]) ? a[4] : a[1], given(a[5]) ? a[5] : a[2]);
}

PyObject *
fn_m_clip(Session *s, const char *Py_UNUSED(name), PyObject *const *a)
{
    return clip(s, a[0], a[1], a[2]);
}

/* rint(x * 10**d) / 10**d, as numpy.round computes it */
static Status
round_decimals(Graph *g, Val x, int64_t d, LocId loc, Val *v)
{
    Val p;

    if (d == 0)
        return t_unary(g, T_rint, x, loc, v);
    TRY(t_full(g, val_dtype(g, x), 0, NULL, pow(10, (double)llabs(d)), loc, &p));
    TRY(t_binary(g, d > 0 ? T_mul : T_div, x, p, loc, v));
    TRY(t_unary(g, T_rint, *v, loc, v));
    return t_binary(g, d > 0 ? T_div : T_mul, *v, p, loc, v);
}

PyObject *
fn_round(Session *s, const char *name, PyObject *const *a)
{
    int64_t d = 0;
    Val x, v = {0};
    DType dt;

    if (traced_operand(s, name, a[0], &x) < 0 || (a[1] && int_of(s, name, a[1], &d) < 0))
        return NULL;
    d = MIN(MAX(d, -400), 400); /* beyond that the factor is infinite or zero anyway */
    dt = val_dtype(s->graph, x);
    if (dt == DT_bool)
        return raise_here(s, E_Unsupported, "NKI-1067 %s: not supported for bool", name);
    if (is_integer(dt) && d < 0)
        return raise_here(s, E_Unsupported, "NKI-1068 %s: negative decimals are not supported for integers", name);
    if (is_integer(dt))
        return as_traced(s, name, a[0]); /* nothing to do: the array itself */
    return traced_like(s, round_decimals(s->graph, x, d, here(s), &v), v, a, 1);
}

/* ---- products ---- */

PyObject *
fn_matmul(Session *s, const char *name, PyObject *const *a)
{
    Val x, y, v = {0};

    if (two_operands(s, name, a, &x, &y) < 0)
        return NULL;
    return traced_result(s, t_matmul_np(s->graph, x, y, here(s), &v), v);
}

/* dot and inner keep the promoted dtype, where matmul of bf16 and fp8 gives f32. */
static Status
product(Session *s, Val x, Val y, LocId loc, Val *v)
{
    DType dt;

    TRY(promote(&s->cx, loc, val_dtype(s->graph, x), 0, val_dtype(s->graph, y), 0, &dt));
    TRY(t_matmul_np(s->graph, x, y, loc, v));
    return t_cast(s->graph, *v, dt, loc, v);
}

PyObject *
fn_dot(Session *s, const char *name, PyObject *const *a)
{
    Val x, y, v = {0};

    if (two_operands(s, name, a, &x, &y) < 0)
        return NULL;
    if (type_of(s, x)->rank == 0 || type_of(s, y)->rank == 0)
        return traced_binary(s, T_mul, a[0], a[1]);
    if (type_of(s, y)->rank > 2)
        return raise_here(s, E_Unsupported, "NKI-1069 dot: a second operand of %d dims is not supported; use matmul",
                          type_of(s, y)->rank);
    return traced_result(s, product(s, x, y, here(s), &v), v);
}

PyObject *
fn_inner(Session *s, const char *name, PyObject *const *a)
{
    LocId loc = here(s);
    Val x, y, v = {0};
    Status st;

    if (two_operands(s, name, a, &x, &y) < 0)
        return NULL;
    if (type_of(s, x)->rank == 0 || type_of(s, y)->rank == 0)
        return traced_binary(s, T_mul, a[0], a[1]);
    if (type_of(s, y)->rank > 2)
        return raise_here(s, E_Unsupported, "NKI-1070 inner: a second operand of %d dims is not supported",
                          type_of(s, y)->rank);
    st = t_transpose(s->graph, y, NULL, 0, loc, &y);
    return traced_result(s, st == ST_OK ? product(s, x, y, loc, &v) : st, v);
}

static Status
outer(Graph *g, Val x, Val y, LocId loc, Val *v)
{
    TRY(t_reshape(g, x, (int64_t[]){-1, 1}, 2, loc, &x));
    TRY(t_reshape(g, y, (int64_t[]){1, -1}, 2, loc, &y));
    return t_binary_np(g, T_mul, x, 0, y, 0, loc, v);
}

PyObject *
fn_outer(Session *s, const char *name, PyObject *const *a)
{
    Val x, y, v = {0};

    if (two_operands(s, name, a, &x, &y) < 0)
        return NULL;
    return traced_result(s, outer(s->graph, x, y, here(s), &v), v);
}

/* ---- creation ---- */

static PyObject *
fill_like(Session *s, const char *name, PyObject *a, PyObject *dtype, PyObject *shape, PyObject *fill, double v)
{
    int64_t dim[MAX_RANK];
    LocId loc = here(s);
    Val x, out = {0};
    Status st;
    char weak;
    DType dt;
    int n;

    if (traced_operand(s, name, a, &x) < 0)
        return NULL;
    dt = val_dtype(s->graph, x);
    n = type_of(s, x)->rank;
    memcpy(dim, type_of(s, x)->dim, sizeof(dim));
    if (dtype_arg(s, dtype, &dt) < 0 || (given(shape) && dims_of(s, name, shape, dim, &n) < 0))
        return NULL;
    if (!fill) {
        st = t_full(s->graph, dt, n, dim, v, loc, &out);
    } else {
        if (operand_of(s, name, fill, &x, &weak) < 0)
            return NULL;
        st = t_convert(s->graph, name, &x, weak, dt, loc);
        if (st == ST_OK)
            st = t_broadcast_to(s->graph, x, dim, n, loc, &out);
    }
    if (st != ST_OK || given(shape) || !is_traced(a) || ((Traced *)a)->scalar)
        return traced_array(s, st, out, false);
    return traced_copy(s, a, out, true);
}

PyObject *
fn_zeros_like(Session *s, const char *name, PyObject *const *a)
{
    return fill_like(s, name, a[0], a[1], a[4], NULL, 0);
}

PyObject *
fn_ones_like(Session *s, const char *name, PyObject *const *a)
{
    return fill_like(s, name, a[0], a[1], a[4], NULL, 1);
}

PyObject *
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

PyObject *
fn_shape(Session *s, const char *name, PyObject *const *a)
{
    return attribute_of(s, name, a[0], "shape");
}

PyObject *
fn_ndim(Session *s, const char *name, PyObject *const *a)
{
    return attribute_of(s, name, a[0], "ndim");
}

PyObject *
fn_size(Session *s, const char *name, PyObject *const *a)
{
    int64_t axes[MAX_RANK], size = 1;
    int n;
    Val x;

    if (!given(a[1]))
        return attribute_of(s, name, a[0], "size");
    if (traced_operand(s, name, a[0], &x) < 0 || distinct_axes(s, name, a[1], type_of(s, x)->rank, axes, &n) < 0)
        return NULL;
    for (int i = 0; i < n; i++)
        size *= type_of(s, x)->dim[axes[i]];
    return PyLong_FromLongLong(size);
}

PyObject *
fn_iscomplexobj(Session *Py_UNUSED(s), const char *Py_UNUSED(name), PyObject *const *Py_UNUSED(a))
{
    Py_RETURN_FALSE;
}

PyObject *
fn_result_type(Session *s, const char *name, PyObject *const *a)
{
    Py_ssize_t n = PyTuple_GET_SIZE(a[0]);
    PyObject *plain = PyTuple_New(n), *fn, *r = NULL;

    for (Py_ssize_t i = 0; plain && i < n; i++) {
        PyObject *o = PyTuple_GET_ITEM(a[0], i);

        PyTuple_SET_ITEM(plain, i, is_traced(o) ? np_type_object(s->st, (DType)traced_type(o)->dtype) : Py_NewRef(o));
    }
    fn = plain ? PyObject_GetAttrString(s->st->np, name) : NULL;
    if (fn)
        r = PyObject_Call(fn, plain, NULL);
    Py_XDECREF(fn);
    Py_XDECREF(plain);
    return r;
}
