/* simulate.c - tile programs in the simulator: arrays in and out, the GIL released.
 *
 * in:   one array per input buffer, in any memory order
 * out:  fresh C-order arrays, one per output buffer
 * rule: signals are looked at now and then, so that an interrupt ends a long run.
 */
#include "py/py.h"

#include <math.h>
#include <string.h>

/* ---- arguments ---- */

static bool
same_shape(PyArrayObject *a, const Type *ty)
{
    if (PyArray_NDIM(a) != ty->rank)
        return false;
    for (int i = 0; i < ty->rank; i++)
        if (PyArray_DIM(a, i) != ty->dim[i])
            return false;
    return true;
}

/* 64-bit data for what was narrowed to 32 bits. */
static bool
narrows(DType from, DType to)
{
    return dtypes[from].kind == dtypes[to].kind && dtypes[from].bytes == 8 && dtypes[to].bytes == 4;
}

typedef struct Range { /* of 64-bit data, as text, and what part of it is beyond the 32-bit dtype */
    char lo[32], hi[32];
    bool beyond;
} Range;

#define RANGE_LOOP(T, FMT, LEFT_OUT, BEYOND)                                                                           \
    do {                                                                                                               \
        const T *p = data;                                                                                             \
        T lo = 0, hi = 0;                                                                                              \
        bool any = false;                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const T v = p[i];                                                                                          \
            if (LEFT_OUT)                                                                                              \
                continue;                                                                                              \
            lo = !any || v < lo ? v : lo;                                                                              \
            hi = !any || v > hi ? v : hi;                                                                              \
            any = true;                                                                                                \
        }                                                                                                              \
        snprintf(r->lo, sizeof(r->lo), FMT, lo);                                                                       \
        snprintf(r->hi, sizeof(r->hi), FMT, hi);                                                                       \
        r->beyond = any && (BEYOND);                                                                                   \
    } while (0)

/* Infinities and nan are numbers of f32, too. */
static void
range_of(DType from, const void *data, int64_t n, Range *r)
{
    if (from == DT_f64)
        RANGE_LOOP(double, "%g", !isfinite(v), !isfinite((float)lo) || !isfinite((float)hi));
    else if (from == DT_u64)
        RANGE_LOOP(npy_uint64, "%" NPY_UINT64_FMT, false, hi > UINT32_MAX);
    else
        RANGE_LOOP(npy_int64, "%" NPY_INT64_FMT, false, lo < INT32_MIN || hi > INT32_MAX);
}

/* 64-bit data that the 32-bit dtype cannot hold is an error, at the call. */
static int
check_range(Session *s, PyArrayObject *a, DType from, DType to, const char *what)
{
    PyArrayObject *c = (PyArrayObject *)PyArray_FromArray(a, (PyArray_Descr *)np_type_object(s->st, from),
                                                          NPY_ARRAY_CARRAY_RO | NPY_ARRAY_ENSUREARRAY);
    Range r;

    if (!c)
        return -1;
    range_of(from, PyArray_DATA(c), PyArray_SIZE(c), &r);
    Py_DECREF(c);
    if (!r.beyond)
        return 0;
    raise_plain(s->st, E_DType,
                "NKI-1092 %s: it is computed as %s on the device, which cannot hold its values from %s to %s", what,
                dtypes[to].name, r.lo, r.hi);
    return -1;
}

static int
check_shape(Session *s, PyArrayObject *a, const Type *ty, const char *what)
{
    char want[MAX_SHAPE_TEXT];
    PyObject *shape, *text;

    if (same_shape(a, ty))
        return 0;
    shape = PyObject_GetAttrString((PyObject *)a, "shape");
    text = shape ? PyObject_Str(shape) : NULL;
    if (text)
        raise_plain(s->st, E_Shape, "NKI-1093 %s: expected shape %s, got %s", what, shape_text(want, ty->rank, ty->dim),
                    PyUnicode_AsUTF8(text));
    Py_XDECREF(text);
    Py_XDECREF(shape);
    return -1;
}

static int
check_dtype(Session *s, PyArrayObject *a, DType from, DType to, const char *what)
{
    if (from == to || narrows(from, to))
        return 0;
    raise_plain(s->st, E_DType, "NKI-1094 %s: expected dtype %s, got %s", what, dtypes[to].name,
                from ? dtypes[from].name : PyArray_DESCR(a)->typeobj->tp_name);
    return -1;
}

PyArrayObject *
array_argument(Session *s, PyObject *arg, const Type *ty, Py_ssize_t i, const char *name)
{
    PyArrayObject *a = (PyArrayObject *)PyArray_FROM_O(arg), *c = NULL;
    DType from, to = (DType)ty->dtype;
    char what[512];

    if (!a)
        return NULL;
    snprintf(what, sizeof(what), *name ? "argument %zd ('%.400s')" : "argument %zd", i + 1, name);
    from = dtype_of_descr(s->st, PyArray_DESCR(a));
    if (check_plain(s->st, NULL, "argument", arg) == 0 && check_dtype(s, a, from, to, what) == 0 &&
        check_shape(s, a, ty, what) == 0 && (from == to || check_range(s, a, from, to, what) == 0))
        c = (PyArrayObject *)PyArray_FromArray(a, (PyArray_Descr *)np_type_object(s->st, to),
                                               NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
    Py_DECREF(a);
    return c;
}

/* ---- running ---- */

typedef struct Run {
    Val *in, *out; /* by index */
    PyObject **in_array, **out_array;
    const void **in_data;
    void **out_data;
    int nin, nout;
    PyThreadState *thread;
} Run;

static bool
poll(void *env)
{
    Run *r = env;
    bool go_on;

    PyEval_RestoreThread(r->thread);
    go_on = PyErr_CheckSignals() == 0;
    r->thread = PyEval_SaveThread();
    return go_on;
}

static int
open_run(Session *s, const Graph *g, Run *r)
{
    r->nin = program_io(s, g, false, &r->in);
    r->nout = r->nin < 0 ? -1 : program_io(s, g, true, &r->out);
    if (r->nout < 0)
        return -1;
    r->in_array = PyMem_Calloc((size_t)r->nin + 1, sizeof(*r->in_array));
    r->out_array = PyMem_Calloc((size_t)r->nout + 1, sizeof(*r->out_array));
    r->in_data = PyMem_Calloc((size_t)r->nin + 1, sizeof(*r->in_data));
    r->out_data = PyMem_Calloc((size_t)r->nout + 1, sizeof(*r->out_data));
    if (r->in_array && r->out_array && r->in_data && r->out_data)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static void
close_run(Run *r)
{
    for (int i = 0; r->in_array && i < r->nin; i++)
        Py_XDECREF(r->in_array[i]);
    for (int i = 0; r->out_array && i < r->nout; i++)
        Py_XDECREF(r->out_array[i]);
    PyMem_Free(r->in);
    PyMem_Free(r->out);
    PyMem_Free(r->in_array);
    PyMem_Free(r->out_array);
    PyMem_Free(r->in_data);
    PyMem_Free(r->out_data);
}

static int
prepare(Session *s, const Graph *g, PyObject *const *args, Py_ssize_t n, Run *r)
{
    if (open_run(s, g, r) < 0)
        return -1;
    if (n != r->nin) {
        raise_plain(s->st, E_DType, "NKI-1095 expected %d arrays, got %zd", r->nin, n);
        return -1;
    }
    for (int i = 0; i < r->nin; i++) {
        const char *name = str_get(&s->cx, g->vals.p[r->in[i].i].name);

        r->in_array[i] = (PyObject *)array_argument(s, args[i], val_type(g, r->in[i]), i, name);
        if (!r->in_array[i])
            return -1;
        r->in_data[i] = PyArray_DATA((PyArrayObject *)r->in_array[i]);
    }
    for (int i = 0; i < r->nout; i++) {
        const Type *ty = val_type(g, r->out[i]);
        npy_intp dim[MAX_RANK];

        for (int k = 0; k < ty->rank; k++)
            dim[k] = (npy_intp)ty->dim[k];
        r->out_array[i] = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)np_type_object(s->st, (DType)ty->dtype),
                                               ty->rank, dim, NULL, NULL, 0, NULL);
        if (!r->out_array[i])
            return -1;
        r->out_data[i] = PyArray_DATA((PyArrayObject *)r->out_array[i]);
    }
    return 0;
}

static PyObject *
results(Run *r)
{
    PyObject *t;

    if (r->nout == 1)
        return Py_NewRef(r->out_array[0]);
    t = PyTuple_New(r->nout);
    for (int i = 0; t && i < r->nout; i++)
        PyTuple_SET_ITEM(t, i, Py_NewRef(r->out_array[i]));
    return t;
}

static PyObject *
simulate(Session *s, const Graph *g, Run *r)
{
    EvalOptions opt = {.poll = poll, .poll_env = r};
    PyObject *out = NULL;
    Status st;

    if (!session_enter(s))
        return NULL;
    r->thread = PyEval_SaveThread();
    st = tile_eval(g, r->in_data, r->out_data, &opt);
    PyEval_RestoreThread(r->thread);
    if (st == ST_OK && !PyErr_Occurred())
        out = results(r);
    else if (st != ST_OK)
        raise_status(s, st, E_Verify);
    session_leave(s);
    return out;
}

/* Before anything is allocated for it. */
static bool
is_within(Session *s, const Graph *g, WorkLimit limit)
{
    Work w;
    Status st;

    if (!limit.most)
        return true;
    if (!session_enter(s))
        return false;
    st = tile_work(g, INT64_MAX / 4, &w);
    session_leave(s);
    if (st != ST_OK)
        raise_status(s, st, E_Verify);
    return st == ST_OK && work_allowed(s, limit, (double)w.once, (double)w.all);
}

PyObject *
simulate_run(Session *s, const Graph *g, PyObject *const *args, Py_ssize_t n, WorkLimit limit)
{
    Run r = {0};
    PyObject *out = NULL;

    if (is_within(s, g, limit) && prepare(s, g, args, n, &r) == 0)
        out = simulate(s, g, &r);
    close_run(&r);
    return out;
}
