/* index.c - x[key]: integers, slices, Ellipsis and None become one slice and one reshape.
 *
 * in:   a key as NumPy's basic indexing takes it
 * out:  the same array when nothing changes
 */
#include "py/py.h"

typedef struct Basic { /* what a key means, per axis of the operand */
    int64_t start[MAX_RANK], step[MAX_RANK], size[MAX_RANK];
    int64_t dim[2 * MAX_RANK]; /* result shape */
    int ndim, axis;            /* dims of the result so far; next axis of the operand */
} Basic;

static int
take_all(const Type *ty, Basic *b, int naxes)
{
    for (; naxes > 0; naxes--, b->axis++) {
        b->start[b->axis] = 0;
        b->step[b->axis] = 1;
        b->size[b->axis] = b->dim[b->ndim++] = ty->dim[b->axis];
    }
    return 0;
}

static int
take_int(Session *s, const Type *ty, Basic *b, PyObject *item)
{
    Py_ssize_t n = (Py_ssize_t)ty->dim[b->axis], i = PyNumber_AsSsize_t(item, NULL); /* clips, like NumPy's error */

    if (i == -1 && PyErr_Occurred())
        return -1;
    if (i < -n || i >= n) {
        raise_here(s, E_Index, "index %zd is out of bounds for axis %d with size %zd", i, b->axis, n);
        return -1;
    }
    b->start[b->axis] = i < 0 ? i + n : i;
    b->step[b->axis] = b->size[b->axis] = 1;
    b->axis++;
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
            raise_here(s, E_Index, "a slice takes integers or None, got %.100s", Py_TYPE(part[i])->tp_name);
            return -1;
        }
    if (PySlice_Unpack(item, &start, &stop, &step) < 0) {
        if (PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            raise_here(s, E_Index, "a slice step cannot be zero");
        }
        return -1;
    }
    count = PySlice_AdjustIndices(n, &start, &stop, step);
    b->start[b->axis] = count ? start : 0;
    b->step[b->axis] = count ? step : 1;
    b->size[b->axis] = b->dim[b->ndim++] = count;
    b->axis++;
    return 0;
}

static int
bad_index(Session *s, PyObject *item)
{
    if (is_traced(item))
        raise_here(s, E_Unsupported, "an index that is a traced array is not supported; use integers and slices");
    else if (PyBool_Check(item) || PyArray_Check(item) || PyList_Check(item) || PyArray_IsScalar(item, Bool))
        raise_here(s, E_Unsupported, "indexing with %.100s is not supported; use integers, slices, ... and None",
                   Py_TYPE(item)->tp_name);
    else
        raise_here(s, E_Index, "only integers, slices, ... and None are valid indices, got %.100s",
                   Py_TYPE(item)->tp_name);
    return -1;
}

static int
take_item(Session *s, const Type *ty, Basic *b, PyObject *item, int nconsumed)
{
    if (item == Py_Ellipsis)
        return take_all(ty, b, ty->rank - nconsumed);
    if (item == Py_None) {
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
        raise_here(s, E_Index, "an index can only have a single ellipsis ('...')");
        return -1;
    }
    if (axes > ty->rank) {
        raise_here(s, E_Index, "too many indices: the array is %d-dimensional, but %d were indexed", ty->rank, axes);
        return -1;
    }
    if (extra + ty->rank > MAX_RANK) {
        raise_here(s, E_Unsupported, "the result would have more than %d dims", MAX_RANK);
        return -1;
    }
    return axes;
}

PyObject *
traced_subscript(PyObject *self, PyObject *key)
{
    Traced *t = (Traced *)self;
    Session *s = t->session;
    const Type *ty = val_type(t->graph, t->val);
    bool tuple = PyTuple_Check(key);
    Py_ssize_t n = tuple ? PyTuple_GET_SIZE(key) : 1;
    PyObject *const *item = tuple ? ((PyTupleObject *)key)->ob_item : &key;
    Basic b = {.ndim = 0};
    LocId loc;
    Val v = {0};
    Status st;
    int axes;

    if (!usable(s, self) || (axes = check_key(s, ty, item, n)) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < n; i++)
        if (take_item(s, ty, &b, item[i], axes) < 0)
            return NULL;
    take_all(ty, &b, ty->rank - b.axis);
    loc = here(s);
    st = t_slice(s->graph, t->val, b.start, b.step, b.size, loc, &v);
    if (st == ST_OK)
        st = t_reshape(s->graph, v, b.dim, b.ndim, loc, &v);
    return traced_result(s, st, v);
}

int
traced_ass_subscript(PyObject *self, PyObject *Py_UNUSED(key), PyObject *Py_UNUSED(value))
{
    raise_here(((Traced *)self)->session, E_Unsupported,
               "assignment to elements of a traced array is not supported; build the result with numpy.where or "
               "numpy.concatenate");
    return -1;
}
