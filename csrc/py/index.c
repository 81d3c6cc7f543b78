/* index.c - x[key]: integers, slices, Ellipsis and None become one slice and one reshape.
 *
 * in:   a key as NumPy's basic indexing takes it
 * out:  a view; a copy for a single element, which is a scalar
 */
#include "py/py.h"

typedef struct Basic { /* what a key means, per axis of the operand */
    Box box;
    int64_t dim[2 * MAX_RANK], stride[2 * MAX_RANK]; /* of the result */
    int64_t had[MAX_RANK];                           /* strides of the operand */
    int ndim, axis;                                  /* dims of the result so far; next axis of the operand */
    bool ellipsis;
} Basic;

/* The next axis of the operand. */
static void
take(Basic *b, int64_t start, int64_t step, int64_t size, bool keep)
{
    if (keep) {
        b->stride[b->ndim] = b->had[b->axis] * step;
        b->dim[b->ndim++] = size;
    }
    b->box.start[b->axis] = start;
    b->box.step[b->axis] = step;
    b->box.size[b->axis++] = size;
}

static int
take_all(const Type *ty, Basic *b, int naxes)
{
    for (; naxes > 0; naxes--)
        take(b, 0, 1, ty->dim[b->axis], true);
    return 0;
}

static int
take_int(Session *s, const Type *ty, Basic *b, PyObject *item)
{
    Py_ssize_t n = (Py_ssize_t)ty->dim[b->axis], i = PyNumber_AsSsize_t(item, NULL); /* clips, like NumPy's error */

    if (i == -1 && PyErr_Occurred())
        return -1;
    if (i < -n || i >= n) {
        raise_here(s, E_Index, "NKI-1117 index %zd is out of bounds for axis %d with size %zd", i, b->axis, n);
        return -1;
    }
    take(b, i < 0 ? i + n : i, 1, 1, false);
    return 0;
}

static int
take_slice(Session *s, const Type *ty, Basic *b, PyObject *item)
{
    PySliceObject *sl = (PySliceObject *)item;
    Py_ssize_t start, stop, step, n = (Py_ssize_t)ty->dim[b->axis], count;
    PyObject *part[] = {sl->start, sl->stop, sl->step};

    for (int i = 0; i < 3; i++)
        if (part[i] != Py_None && !PyIndex_Check(part[i])) {
            raise_here(s, E_Index, "NKI-1118 a slice takes integers or None, got %.100s", Py_TYPE(part[i])->tp_name);
            return -1;
        }
    if (PySlice_Unpack(item, &start, &stop, &step) < 0) {
        if (PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            raise_here(s, E_Index, "NKI-1119 a slice step cannot be zero");
        }
        return -1;
    }
    count = PySlice_AdjustIndices(n, &start, &stop, step);
    take(b, count ? start : 0, step, count, true);
    return 0;
}

static int
bad_index(Session *s, PyObject *item)
{
    if (is_traced(item))
        raise_here(s, E_Unsupported,
                   "NKI-1120 an index that is a traced array is not supported; use integers and slices");
    else if (PyBool_Check(item) || PyArray_Check(item) || PyList_Check(item) || PyArray_IsScalar(item, Bool))
        raise_here(s, E_Unsupported,
                   "NKI-1121 indexing with %.100s is not supported; use integers, slices, ... and None",
                   Py_TYPE(item)->tp_name);
    else
        raise_here(s, E_Index, "NKI-1122 only integers, slices, ... and None are valid indices, got %.100s",
                   Py_TYPE(item)->tp_name);
    return -1;
}

static int
take_item(Session *s, const Type *ty, Basic *b, PyObject *item, int nconsumed)
{
    if (item == Py_Ellipsis) {
        b->ellipsis = true;
        return take_all(ty, b, ty->rank - nconsumed);
    }
    if (item == Py_None) {
        b->stride[b->ndim] = 0;
        b->dim[b->ndim++] = 1;
        return 0;
    }
    if (PySlice_Check(item))
        return take_slice(s, ty, b, item);
    return take_int(s, ty, b, item);
}

/* Counts the axes that the key consumes and refuses what is no basic index; -1: exception. */
static int
check_key(Session *s, const Type *ty, PyObject *const *item, Py_ssize_t n)
{
    int axes = 0, ellipses = 0, extra = 0;

    for (Py_ssize_t i = 0; i < n; i++) {
        if (item[i] == Py_None)
            extra++;
        else if (item[i] == Py_Ellipsis)
            ellipses++;
        else if (PySlice_Check(item[i]) ||
                 (PyIndex_Check(item[i]) && !PyBool_Check(item[i]) && !is_traced(item[i]) && !PyArray_Check(item[i])))
            axes++;
        else if (PyArray_Check(item[i]) && PyArray_NDIM((PyArrayObject *)item[i]) == 0 && PyIndex_Check(item[i]) &&
                 PyArray_ISINTEGER((PyArrayObject *)item[i]))
            axes++;
        else
            return bad_index(s, item[i]);
    }
    if (ellipses > 1) {
        raise_here(s, E_Index, "NKI-1123 an index can only have a single ellipsis ('...')");
        return -1;
    }
    if (axes > ty->rank) {
        raise_here(s, E_Index, "NKI-1124 too many indices: the array is %d-dimensional, but %d were indexed", ty->rank,
                   axes);
        return -1;
    }
    if (extra + ty->rank > MAX_RANK) {
        raise_here(s, E_Unsupported, "NKI-1125 the result would have more than %d dims", MAX_RANK);
        return -1;
    }
    return axes;
}

static int
parse_key(PyObject *self, PyObject *key, Basic *b)
{
    Session *s = ((Traced *)self)->session;
    const Type *ty = traced_type(self);
    bool tuple = PyTuple_Check(key);
    Py_ssize_t n = tuple ? PyTuple_GET_SIZE(key) : 1;
    PyObject *const *item = tuple ? ((PyTupleObject *)key)->ob_item : &key;
    int axes;

    *b = (Basic){.box = {.rank = ty->rank}};
    traced_strides(self, b->had);
    if (!usable(s, self) || (axes = check_key(s, ty, item, n)) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++)
        if (take_item(s, ty, b, item[i], axes) < 0)
            return -1;
    return take_all(ty, b, ty->rank - b->axis);
}

static PyObject *
basic_view(PyObject *self, const Basic *b)
{
    Session *s = ((Traced *)self)->session;
    PyObject *part = view_slice(s, self, &b->box), *r = part ? view_reshape(s, part, b->dim, b->ndim) : NULL;

    Py_XDECREF(part);
    return r ? view_restrided(s, r, b->stride) : NULL;
}

PyObject *
view_of_key(PyObject *self, PyObject *key)
{
    Basic b;

    return parse_key(self, key, &b) < 0 ? NULL : basic_view(self, &b);
}

PyObject *
traced_subscript(PyObject *self, PyObject *key)
{
    Basic b;
    PyObject *r = parse_key(self, key, &b) < 0 ? NULL : basic_view(self, &b);

    if (r && b.ndim == 0 && !b.ellipsis) /* a scalar */
        Py_SETREF(r, traced_new(((Traced *)self)->session, ((Traced *)r)->val));
    return r;
}
