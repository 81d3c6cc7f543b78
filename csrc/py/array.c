/* array.c - dtypes, constants and operands: how Python and NumPy objects enter the graph.
 *
 * The core sees pointers, shapes and its own dtypes. bf16 and fp8 are the ml_dtypes types. A Python scalar is a weak
 * operand, as in NumPy 2; a NumPy scalar or array is a strong one.
 */
#include "py/py.h"


static const char *
ml_dtypes_name(DType dt)
{
    switch (dt) {
    case DT_bf16:
    case DT_fp8_e4m3:
    case DT_fp8_e4m3fn:
    case DT_fp8_e5m2:
    case DT_fp8_e3m4:
        return dtypes[dt].np;
    default:
        return NULL;
    }
}

int
np_dtypes_init(State *st)
{
    PyObject *ml = PyImport_ImportModule("ml_dtypes");

    if (!ml)
        return -1;
    for (int i = DT_none + 1; i < DT_COUNT; i++) {
        const char *custom = ml_dtypes_name((DType)i);
        PyObject *type = custom ? PyObject_GetAttrString(ml, custom) : PyUnicode_FromString(dtypes[i].np);
        PyArray_Descr *d = NULL;

        if (type)
            PyArray_DescrConverter(type, &d);
        Py_XDECREF(type);
        if (!d) {
            Py_DECREF(ml);
            return -1;
        }
        st->np_dtype[i] = (PyObject *)d;
    }
    Py_DECREF(ml);
    return 0;
}

DType
dtype_of_descr(const State *st, const PyArray_Descr *d)
{
    int size;

    if (d->type_num >= NPY_USERDEF) {
        for (int i = DT_none + 1; i < DT_COUNT; i++)
            if (((PyArray_Descr *)st->np_dtype[i])->type_num == d->type_num)
                return (DType)i;
        return DT_none;
    }
    if (d->type_num == NPY_LONGDOUBLE)
        return DT_none;
    size = (int)PyDataType_ELSIZE(d);
    switch (d->kind) {
    case 'b':
        return DT_bool;
    case 'i':
        return size == 1 ? DT_i8 : size == 2 ? DT_i16 : size == 4 ? DT_i32 : DT_i64;
    case 'u':
        return size == 1 ? DT_u8 : size == 2 ? DT_u16 : size == 4 ? DT_u32 : DT_u64;
    case 'f':
        return size == 2 ? DT_f16 : size == 4 ? DT_f32 : DT_f64;
    default:
        return DT_none;
    }
}

static void
dtype_names(char *buf, size_t n)
{
    size_t at = 0;

    for (int i = DT_none + 1; i < DT_COUNT && at < n; i++)
        at += (size_t)snprintf(buf + at, n - at, "%s%s", i > 1 ? ", " : "", dtypes[i].name);
}

static int
bad_dtype(State *st, Session *s, PyObject *o)
{
    char names[300];
    PyObject *text = utf8_of(o);

    if (!text)
        return -1;
    dtype_names(names, sizeof(names));
    if (s)
        raise_here(s, E_DType, "NKI-1082 dtype %.100s is not supported; the dtypes are %s", PyBytes_AS_STRING(text),
                   names);
    else
        raise_plain(st, E_DType, "NKI-1083 dtype %.100s is not supported; the dtypes are %s", PyBytes_AS_STRING(text),
                    names);
    Py_DECREF(text);
    return -1;
}

static bool
is_dtype_name(PyObject *o, DType *out)
{
    Py_ssize_t n;
    const char *t = PyUnicode_Check(o) ? PyUnicode_AsUTF8AndSize(o, &n) : NULL;

    PyErr_Clear(); /* text that is no UTF-8 names no dtype */
    return t && dtype_from_name(t, (size_t)n, out) && *out != DT_none;
}

/* What NumPy says of an object that it does not take is ours to say; what the object raises is not. */
static bool
is_refusal(void)
{
    return PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError) ||
           PyErr_ExceptionMatches(PyExc_SyntaxError);
}

int
dtype_of_object(State *st, Session *s, PyObject *o, DType *out)
{
    PyArray_Descr *d = NULL;

    if (is_dtype_name(o, out))
        return 0;
    if (o == Py_None || !PyArray_DescrConverter(o, &d) || !d) {
        if (PyErr_Occurred() && !is_refusal())
            return -1;
        PyErr_Clear();
        return bad_dtype(st, s, o);
    }
    *out = dtype_of_descr(st, d);
    Py_DECREF(d);
    return *out == DT_none ? bad_dtype(st, s, o) : 0;
}

/* Reductions cast to their dtype as they like, but not from one extension dtype to another. */
static PyObject *
may_cast(State *st, DType from, DType to, PyObject *casting)
{
    if (casting)
        return PyObject_CallMethod(st->np, "can_cast", "OOO", st->np_dtype[from], st->np_dtype[to], casting);
    return PyBool_FromLong(from == to || !ml_dtypes_name(from) || !ml_dtypes_name(to));
}

int
check_cast(Session *s, const char *what, DType from, DType to, PyObject *casting)
{
    PyObject *r = may_cast(s->st, from, to, casting);
    const char *rule = casting && PyUnicode_Check(casting) ? PyUnicode_AsUTF8(casting) : NULL;
    bool may = r && PyObject_IsTrue(r) > 0;

    if (!r && !is_refusal())
        return -1;
    PyErr_Clear();
    Py_XDECREF(r);
    if (may)
        return 0;
    raise_here(s, E_DType, "NKI-1084 %s: %s does not cast to %s%s%s", what, dtypes[from].name, dtypes[to].name,
               rule ? " by the rule " : "", rule ? rule : "");
    return -1;
}

PyObject *
np_type_object(const State *st, DType dt)
{
    return Py_NewRef(st->np_dtype[dt]);
}

int
const_of_array(Session *s, PyArrayObject *a, Val *out)
{
    int rank = PyArray_NDIM(a);
    DType dt = dtype_of_descr(s->st, PyArray_DESCR(a));
    int64_t dim[MAX_RANK];
    PyArrayObject *c;
    Status st;

    if (dt == DT_none)
        return bad_dtype(s->st, s, (PyObject *)PyArray_DESCR(a));
    if (rank > MAX_RANK) {
        raise_here(s, E_Unsupported, "NKI-1085 an array of %d dims; at most %d are supported", rank, MAX_RANK);
        return -1;
    }
    for (int i = 0; i < rank; i++)
        dim[i] = PyArray_DIM(a, i);
    Py_INCREF(s->st->np_dtype[dt]); /* stolen below */
    c = (PyArrayObject *)PyArray_FromArray(a, (PyArray_Descr *)s->st->np_dtype[dt], NPY_ARRAY_CARRAY_RO);
    if (!c)
        return -1;
    st = t_const(s->graph, dt, rank, dim, PyArray_DATA(c), here(s), out);
    Py_DECREF(c);
    if (st == ST_OK)
        return 0;
    raise_status(s, st, E_Shape);
    return -1;
}

/* i64, or u64, or beyond them f64: then only a float can take it. */
static Status
full_of_int(Session *s, PyObject *o, Val *out)
{
    int overflow;
    long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
    unsigned long long u;

    if (!overflow)
        return t_full_int(s->graph, DT_i64, 0, NULL, v, here(s), out);
    u = PyLong_AsUnsignedLongLong(o);
    if (u != (unsigned long long)-1 || !PyErr_Occurred())
        return t_full_int(s->graph, DT_u64, 0, NULL, (int64_t)u, here(s), out);
    PyErr_Clear();
    return t_full(s->graph, DT_f64, 0, NULL, PyLong_AsDouble(o), here(s), out);
}

static int
scalar_operand(Session *s, const char *what, PyObject *o, Val *out, char *weak)
{
    Status st;

    *weak = PyBool_Check(o) ? 'b' : PyLong_Check(o) ? 'i' : 'f';
    if (*weak == 'b')
        st = t_full_int(s->graph, DT_bool, 0, NULL, o == Py_True, here(s), out);
    else if (*weak == 'i')
        st = full_of_int(s, o, out);
    else
        st = t_full(s->graph, DT_f64, 0, NULL, PyFloat_AS_DOUBLE(o), here(s), out);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        raise_here(s, E_DType, "NKI-1086 %s: the integer is too large for any dtype", what);
        return -1;
    }
    if (st == ST_OK)
        return 0;
    raise_status(s, st, E_Shape);
    return -1;
}

/* A subclass with operators, elements or a priority of its own computes something else than numpy.ndarray would. */
static bool
is_plain_array(PyObject *o)
{
    PyObject *priority;
    double p = 0;

    if (PyArray_CheckExact(o))
        return true;
    if (Py_TYPE(o)->tp_as_number->nb_multiply != PyArray_Type.tp_as_number->nb_multiply ||
        Py_TYPE(o)->tp_as_number->nb_add != PyArray_Type.tp_as_number->nb_add)
        return false;
    priority = PyObject_GetAttrString(o, "__array_priority__");
    p = priority ? PyFloat_AsDouble(priority) : 0;
    Py_XDECREF(priority);
    PyErr_Clear();
    return p <= 0;
}

int
check_plain(State *st, Session *s, const char *what, PyObject *o)
{
    static const char text[] = "%s: %.100s is no plain array; its operators or elements mean something else than those "
                               "of numpy.ndarray; pass numpy.asarray(...) of it, or its data and mask one by one";

    if (!PyArray_Check(o) || is_plain_array(o))
        return 0;
    if (s)
        raise_here(s, E_DType, text, what, Py_TYPE(o)->tp_name);
    else
        raise_plain(st, E_DType, text, what, Py_TYPE(o)->tp_name);
    return -1;
}

PyObject *
array_of_list(Session *s, const char *what, PyObject *list)
{
    PyObject *a = PyArray_FROM_O(list);

    if (a || !PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(s->st->error[E_Nkigen]))
        return a;
    return raise_instead(s, E_Shape, what, "a sequence that is no array");
}

/* What a function of nkigen.buffers says of an array; NULL without an exception for None. */
static PyObject *
ask_buffers(PyObject **known, const char *name, PyObject *o)
{
    PyObject *module, *r;

    if (!*known) {
        module = PyImport_ImportModule("nkigen.buffers");
        *known = module ? PyObject_GetAttrString(module, name) : NULL;
        Py_XDECREF(module);
    }
    r = *known ? PyObject_CallOneArg(*known, o) : NULL;
    if (r == Py_None)
        Py_CLEAR(r);
    return r;
}

static bool
may_be_buffer(PyObject *o)
{
    PyObject *base = PyArray_Check(o) ? PyArray_BASE((PyArrayObject *)o) : NULL;

    return PyArray_Check(o) && (!PyArray_CheckExact(o) || (base && PyArray_Check(base)));
}

PyObject *
live_array(Session *s, PyObject *o)
{
    return may_be_buffer(o) ? ask_buffers(&s->st->live, "live", o) : NULL;
}

PyObject *
target_array(Session *s, PyObject *o)
{
    if (is_traced(o))
        return Py_NewRef(o);
    return may_be_buffer(o) ? ask_buffers(&s->st->target, "target", o) : NULL;
}

int
operand_of(Session *s, const char *what, PyObject *o, Val *out, char *weak)
{
    PyObject *a;
    int r;

    *weak = 0;
    if (is_traced(o))
        return usable(s, o) ? traced_val(o, out) : -1;
    if (PyArray_Check(o)) {
        a = live_array(s, o);
        if (!a && PyErr_Occurred())
            return -1;
        if (a) {
            r = usable(s, a) ? traced_val(a, out) : -1;
            Py_DECREF(a);
            return r;
        }
        return check_plain(s->st, s, what, o) < 0 ? -1 : const_of_array(s, (PyArrayObject *)o, out);
    }
    if (PyArray_IsScalar(o, Generic)) { /* before float: numpy.float64 is one */
        a = PyArray_FromScalar(o, NULL);
        r = a ? const_of_array(s, (PyArrayObject *)a, out) : -1;
        Py_XDECREF(a);
        return r;
    }
    if (PyLong_Check(o) || PyFloat_Check(o))
        return scalar_operand(s, what, o, out, weak);
    if (PyList_Check(o) || PyTuple_Check(o)) {
        a = array_of_list(s, what, o);
        if (!a)
            return -1;
        r = const_of_array(s, (PyArrayObject *)a, out);
        Py_DECREF(a);
        return r;
    }
    raise_here(s, E_DType, "NKI-1087 %s: an operand of type %.100s; expected an array or a real number", what,
               Py_TYPE(o)->tp_name);
    return -1;
}

PyObject *
array_of_data(Session *s, const Data *d, const Type *ty)
{
    npy_intp dim[MAX_RANK];
    PyObject *a;

    for (int i = 0; i < ty->rank; i++)
        dim[i] = (npy_intp)ty->dim[i];
    a = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)np_type_object(s->st, (DType)ty->dtype), ty->rank, dim,
                             NULL, (void *)(uintptr_t)d->p, 0, NULL);
    if (!a)
        return NULL;
    if (PyArray_SetBaseObject((PyArrayObject *)a, Py_NewRef((PyObject *)s)) < 0) {
        Py_DECREF(a);
        return NULL;
    }
    return a;
}

/* Integers, and arrays of no dims that hold one. */
bool
is_index(PyObject *o)
{
    if (is_traced(o))
        return false;
    if (PyArray_Check(o))
        return PyArray_NDIM((PyArrayObject *)o) == 0 && PyArray_ISINTEGER((PyArrayObject *)o);
    return PyIndex_Check(o) && !PySequence_Check(o);
}

/* An exception of the object's own __index__ is the user's and stays. */
static int
index_item(Session *s, const char *what, PyObject *o, bool bools, int64_t *out)
{
    PyObject *number, *text;
    int overflow;

    if (!is_index(o) || (!bools && (PyBool_Check(o) || PyArray_IsScalar(o, Bool)))) {
        raise_here(s, E_DType, "NKI-1088 %s: expected integers, got %.100s", what, Py_TYPE(o)->tp_name);
        return -1;
    }
    number = PyNumber_Index(o);
    if (!number)
        return -1;
    *out = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow) {
        text = PyNumber_ToBase(number, 16); /* decimal digits of long integers are quadratic, and may be refused */
        if (text)
            raise_here(s, E_Shape, "NKI-1089 %s: a number out of range: %.40s does not fit in 64 bits", what,
                       PyUnicode_AsUTF8(text));
        Py_XDECREF(text);
    }
    Py_DECREF(number);
    return overflow ? -1 : 0;
}

int
indices_of(Session *s, const char *what, PyObject *o, bool bools, int64_t *out, int *n)
{
    PyObject *seq;
    Py_ssize_t len;
    int r = 0;

    if (is_index(o)) {
        *n = 1;
        return index_item(s, what, o, bools, out);
    }
    if (is_traced(o) || PyUnicode_Check(o) || !(Py_TYPE(o)->tp_iter || PySequence_Check(o)) ||
        (PyArray_Check(o) && PyArray_NDIM((PyArrayObject *)o) == 0)) {
        raise_here(s, E_DType, "NKI-1090 %s: expected an integer or a sequence of integers, got %.100s", what,
                   Py_TYPE(o)->tp_name);
        return -1;
    }
    seq = PySequence_Tuple(o);
    if (!seq)
        return -1;
    len = PyTuple_GET_SIZE(seq);
    if (len > MAX_RANK) {
        Py_DECREF(seq);
        raise_here(s, E_Unsupported, "NKI-1091 %s: %zd dims; at most %d are supported", what, len, MAX_RANK);
        return -1;
    }
    *n = (int)len;
    for (Py_ssize_t i = 0; r == 0 && i < len; i++)
        r = index_item(s, what, PyTuple_GET_ITEM(seq, i), bools, &out[i]);
    Py_DECREF(seq);
    return r;
}

int
dims_of(Session *s, const char *what, PyObject *o, int64_t *dim, int *n)
{
    return indices_of(s, what, o, false, dim, n);
}

PyObject *
int_tuple(const int64_t *v, int n)
{
    PyObject *t = PyTuple_New(n);

    for (int i = 0; t && i < n; i++) {
        PyObject *item = PyLong_FromLongLong(v[i]);

        if (!item)
            Py_CLEAR(t);
        else
            PyTuple_SET_ITEM(t, i, item);
    }
    return t;
}
