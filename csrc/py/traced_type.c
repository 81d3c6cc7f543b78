/* traced_type.c - the type TracedArray: its operators, attributes and methods.
 *
 * in:   what Python calls it with
 * out:  traced arrays, facts about one
 * rule: a slot hands on to operators.c, functions.c, index.c or inplace.c; whatever would need the elements is a
 * TraceError.
 */
#include "py/py.h"

/* ---- operators ---- */

static Session *
session_of_pair(PyObject *a, PyObject *b)
{
    return ((Traced *)(is_traced(a) ? a : b))->session;
}

#define BINARY(slot, op)                                                                                               \
    static PyObject *slot(PyObject *a, PyObject *b)                                                                    \
    {                                                                                                                  \
        return traced_binary(session_of_pair(a, b), op, a, b);                                                         \
    }
#define UNARY(slot, op)                                                                                                \
    static PyObject *slot(PyObject *a)                                                                                 \
    {                                                                                                                  \
        return traced_unary(((Traced *)a)->session, op, a);                                                            \
    }
BINARY(nb_add, T_add)
BINARY(nb_subtract, T_sub)
BINARY(nb_multiply, T_mul)
BINARY(nb_true_divide, T_div)
BINARY(nb_floor_divide, T_floor_divide)
BINARY(nb_remainder, T_remainder)
UNARY(nb_negative, T_neg)
UNARY(nb_positive, T_positive)
UNARY(nb_absolute, T_abs)

static PyObject *
nb_power(PyObject *a, PyObject *b, PyObject *mod)
{
    Session *s;

    if (!is_traced(a) && !is_traced(b))
        return raise_here(((Traced *)mod)->session, E_Unsupported, "NKI-1073 pow: a modulus is not supported");
    s = session_of_pair(a, b);
    if (mod != Py_None)
        return raise_here(s, E_Unsupported, "NKI-1074 pow: a modulus is not supported");
    return traced_binary(s, T_power, a, b);
}

static PyObject *
nb_matmul(PyObject *a, PyObject *b)
{
    PyObject *const args[] = {a, b};

    return call_function(session_of_pair(a, b), FN_matmul, args, 2, NULL);
}

BINARY(nb_and, T_bitwise_and)
BINARY(nb_or, T_bitwise_or)
BINARY(nb_xor, T_bitwise_xor)
BINARY(nb_lshift, T_left_shift)
BINARY(nb_rshift, T_right_shift)
UNARY(nb_invert, T_invert)

static PyObject *
nb_divmod(PyObject *a, PyObject *b)
{
    return traced_divmod(session_of_pair(a, b), a, b);
}

static PyObject *
traced_richcompare(PyObject *a, PyObject *b, int code)
{
    static const TOp ops[] = {[Py_LT] = T_less,      [Py_LE] = T_less_equal, [Py_EQ] = T_equal,
                              [Py_NE] = T_not_equal, [Py_GT] = T_greater,    [Py_GE] = T_greater_equal};

    return traced_binary(((Traced *)a)->session, ops[code], a, b);
}

/* ---- what would need the elements ---- */

static PyObject *
unknown(PyObject *self, const char *what, const char *hint)
{
    return raise_here(((Traced *)self)->session, E_Trace,
                      "NKI-1077 %s of a traced array is not known while tracing; %s", what, hint);
}

#define NO_ELEMENTS                                                                                                    \
    "use .astype to convert elements; to write it into an array, make that inside of the kernel with numpy.zeros, "    \
    "ones, empty, full or array, called as attributes of numpy"

static int
nb_bool(PyObject *self)
{
    unknown(self, "the truth value",
            "use numpy.where for a choice per element, and decide on shapes and Python values");
    return -1;
}

static PyObject *
nb_int(PyObject *self)
{
    return unknown(self, "the integer value", NO_ELEMENTS);
}

static PyObject *
nb_float(PyObject *self)
{
    return unknown(self, "the float value", NO_ELEMENTS);
}

static PyObject *
nb_index(PyObject *self)
{
    return unknown(self, "the value", "an index or a size must be a Python integer");
}

static PyObject *
traced_item(PyObject *self, PyObject *Py_UNUSED(args))
{
    return unknown(self, "the value", "keep it as an array");
}

static PyObject *
traced_round(PyObject *self, PyObject *args)
{
    PyObject *digits = NULL;

    if (!PyArg_ParseTuple(args, "|O:round", &digits))
        return NULL;
    return digits && digits != Py_None ? PyObject_CallMethod(self, "round", "O", digits)
                                       : unknown(self, "the integer value", "use numpy.round, which gives an array");
}

static PyObject *
traced_content(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return unknown(self, "the content", NO_ELEMENTS);
}

static Py_hash_t
traced_hash(PyObject *self)
{
    raise_here(((Traced *)self)->session, E_DType, "NKI-1078 a traced array is not hashable");
    return -1;
}

/* ---- sequence ---- */

static Py_ssize_t
traced_length(PyObject *self)
{
    Traced *t = (Traced *)self;
    const Type *ty = val_type(t->graph, t->val);

    if (ty->rank)
        return (Py_ssize_t)ty->dim[0];
    raise_here(t->session, E_DType, "NKI-1079 len() of a 0-d array");
    return -1;
}

/* Only iteration comes here; past the end it wants a bare IndexError. */
static PyObject *
traced_item_at(PyObject *self, Py_ssize_t i)
{
    Traced *t = (Traced *)self;
    const Type *ty = val_type(t->graph, t->val);
    PyObject *key, *item;

    if (ty->rank && (i < 0 || i >= ty->dim[0])) {
        PyErr_SetNone(PyExc_IndexError);
        return NULL;
    }
    key = PyLong_FromSsize_t(i);
    item = key ? traced_subscript(self, key) : NULL;
    Py_XDECREF(key);
    return item;
}

static PyObject *
traced_iter(PyObject *self)
{
    return traced_length(self) < 0 ? NULL : PySeqIter_New(self);
}

static int
traced_contains(PyObject *self, PyObject *Py_UNUSED(value))
{
    unknown(self, "membership", "compare and reduce instead");
    return -1;
}

/* ---- attributes ---- */

static PyObject *
get_shape(PyObject *self, void *Py_UNUSED(closure))
{
    Traced *t = (Traced *)self;
    const Type *ty = val_type(t->graph, t->val);

    return int_tuple(ty->dim, ty->rank);
}

static PyObject *
get_strides(PyObject *self, void *Py_UNUSED(closure))
{
    const Type *ty = traced_type(self);
    int64_t stride[MAX_RANK];

    traced_strides(self, stride);
    for (int i = 0; i < ty->rank; i++)
        stride[i] *= dtypes[ty->dtype].bytes;
    return int_tuple(stride, ty->rank);
}

static PyObject *
get_base(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *base = (PyObject *)((Traced *)self)->base;

    return Py_NewRef(base ? base : Py_None);
}

static PyObject *
get_ndim(PyObject *self, void *Py_UNUSED(closure))
{
    Traced *t = (Traced *)self;

    return PyLong_FromLong(val_type(t->graph, t->val)->rank);
}

static PyObject *
get_size(PyObject *self, void *Py_UNUSED(closure))
{
    Traced *t = (Traced *)self;

    return PyLong_FromLongLong(type_numel(val_type(t->graph, t->val)));
}

static PyObject *
get_dtype(PyObject *self, void *Py_UNUSED(closure))
{
    Traced *t = (Traced *)self;

    return np_type_object(t->session->st, val_dtype(t->graph, t->val));
}

static PyObject *
get_itemsize(PyObject *self, void *Py_UNUSED(closure))
{
    Traced *t = (Traced *)self;

    return PyLong_FromLong(dtypes[val_dtype(t->graph, t->val)].bytes);
}

static PyObject *
get_nbytes(PyObject *self, void *Py_UNUSED(closure))
{
    Traced *t = (Traced *)self;
    const Type *ty = val_type(t->graph, t->val);

    return PyLong_FromLongLong(type_numel(ty) * dtypes[ty->dtype].bytes);
}

static PyObject *
get_T(PyObject *self, void *Py_UNUSED(closure))
{
    return call_function(((Traced *)self)->session, FN_transpose, &self, 1, NULL);
}

static PyObject *
get_mT(PyObject *self, void *Py_UNUSED(closure))
{
    return call_function(((Traced *)self)->session, FN_matrix_transpose, &self, 1, NULL);
}

static PyObject *
get_real(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self);
}

static PyObject *
get_imag(PyObject *self, void *Py_UNUSED(closure))
{
    return call_function(((Traced *)self)->session, FN_zeros_like, &self, 1, NULL);
}

static PyObject *
get_device(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyUnicode_FromString("cpu");
}

/* NumPy lets these be set; what to do instead is the closure. */
static int
set_member(PyObject *self, PyObject *Py_UNUSED(value), void *way)
{
    raise_here(((Traced *)self)->session, E_Unsupported, "NKI-1080 %s", (const char *)way);
    return -1;
}

static PyObject *
traced_reversed(PyObject *self, PyObject *Py_UNUSED(args))
{
    PyObject *items = PySequence_List(self), *r = items && PyList_Reverse(items) == 0 ? PyObject_GetIter(items) : NULL;

    Py_XDECREF(items);
    return r;
}

static PyObject *
traced_namespace(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return Py_NewRef(((Traced *)self)->session->st->np);
}

static PyMethodDef traced_methods[] = {
#define METHOD(id, handler, sig, doc)                                                                                  \
    {#id, (PyCFunction)(void (*)(void))method_##id, METH_VARARGS | METH_KEYWORDS, doc},
#define COMPOSED(id, doc) {#id, (PyCFunction)(void (*)(void))method_##id, METH_VARARGS | METH_KEYWORDS, doc},
#include "py/functions.def"
#define ABSENT_METHOD(name, error, what, way)                                                                          \
    {#name, (PyCFunction)(void (*)(void))absent_##name, METH_VARARGS | METH_KEYWORDS, what "; " way "."},
#include "py/absent.def"
    {"item", traced_item, METH_VARARGS, "item($self, /, *args)\n--\n\nAlways a TraceError: the value is not known."},
    {"tolist", traced_item, METH_NOARGS, "tolist($self, /)\n--\n\nAlways a TraceError: the values are not known."},
    {"__array__", (PyCFunction)(void (*)(void))traced_content, METH_VARARGS | METH_KEYWORDS,
     "__array__($self, /, dtype=None, *, copy=None)\n--\n\nAlways a TraceError: the content is not known."},
    {"__reversed__", traced_reversed, METH_NOARGS, "__reversed__($self, /)\n--\n\nThe parts, the last one first."},
    {"__round__", traced_round, METH_VARARGS,
     "__round__($self, ndigits=None, /)\n--\n\nround(ndigits); without, it would be a Python integer: a TraceError."},
    {"__array_namespace__", (PyCFunction)(void (*)(void))traced_namespace, METH_VARARGS | METH_KEYWORDS,
     "__array_namespace__($self, /, *, api_version=None)\n--\n\nThe module numpy."},
    {"__array_ufunc__", (PyCFunction)(void (*)(void))traced_array_ufunc, METH_VARARGS | METH_KEYWORDS,
     "__array_ufunc__($self, ufunc, method, /, *inputs, **kwargs)\n--\n\nNumPy's protocol for ufuncs."},
    {"__array_function__", traced_array_function, METH_VARARGS,
     "__array_function__($self, func, types, args, kwargs, /)\n--\n\nNumPy's protocol for functions."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef traced_getset[] = {
    {"shape", get_shape, set_member, "Dims, a tuple of int.",
     "shape is not set; x.reshape(...) is a view of that shape"},
    {"ndim", get_ndim, NULL, "Number of dims.", NULL},
    {"size", get_size, NULL, "Number of elements.", NULL},
    {"dtype", get_dtype, set_member, "NumPy dtype; bf16 and fp8 are those of ml_dtypes.",
     "dtype is not set; x.astype(...) converts"},
    {"itemsize", get_itemsize, NULL, "Bytes per element.", NULL},
    {"nbytes", get_nbytes, NULL, "Bytes of all elements.", NULL},
    {"strides", get_strides, set_member, "Bytes to step per axis, as NumPy would have laid the array out.",
     "strides are not set; a traced array has no memory"},
    {"base", get_base, NULL, "The array whose elements a view sees; None for an array with its own.", NULL},
    {"T", get_T, NULL, "All axes reversed.", NULL},
    {"mT", get_mT, NULL, "The last two axes exchanged.", NULL},
#define ABSENT_MEMBER(name, error, what, way) {#name, absent_##name, set_member, what "; " way ".", what "; " way},
#include "py/absent.def"
    {"device", get_device, NULL, "'cpu', as numpy.ndarray has it.", NULL},
    {"imag", get_imag, set_member, "Zeros: there are no complex dtypes.",
     "imag is not set; there are no complex dtypes"},
    {"real", get_real, set_member, "The array itself.", "real is not set; x[...] = value writes all elements"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot traced_slots[] = {
    {Py_tp_doc,
     "An array of a kernel that is being traced: shape and dtype are known, elements are not.\n\n"
     "It behaves like numpy.ndarray in operators, methods and NumPy functions; what it cannot do is a typed\n"
     "error at the user's line. Views see the elements of their base, as NumPy's do: a write changes all of them."},
    {Py_tp_dealloc, traced_dealloc},
    {Py_tp_traverse, traced_traverse},
    {Py_tp_repr, traced_repr},
    {Py_tp_hash, traced_hash},
    {Py_tp_getattro, traced_getattro},
    {Py_tp_richcompare, traced_richcompare},
    {Py_tp_iter, traced_iter},
    {Py_tp_methods, traced_methods},
    {Py_tp_getset, traced_getset},
    {Py_nb_add, nb_add},
    {Py_nb_subtract, nb_subtract},
    {Py_nb_multiply, nb_multiply},
    {Py_nb_true_divide, nb_true_divide},
    {Py_nb_floor_divide, nb_floor_divide},
    {Py_nb_remainder, nb_remainder},
    {Py_nb_power, nb_power},
    {Py_nb_matrix_multiply, nb_matmul},
    {Py_nb_negative, nb_negative},
    {Py_nb_positive, nb_positive},
    {Py_nb_absolute, nb_absolute},
    {Py_nb_and, nb_and},
    {Py_nb_or, nb_or},
    {Py_nb_xor, nb_xor},
    {Py_nb_invert, nb_invert},
    {Py_nb_lshift, nb_lshift},
    {Py_nb_rshift, nb_rshift},
    {Py_nb_divmod, nb_divmod},
    {Py_nb_inplace_add, nb_inplace_add},
    {Py_nb_inplace_subtract, nb_inplace_subtract},
    {Py_nb_inplace_multiply, nb_inplace_multiply},
    {Py_nb_inplace_true_divide, nb_inplace_true_divide},
    {Py_nb_inplace_floor_divide, nb_inplace_floor_divide},
    {Py_nb_inplace_remainder, nb_inplace_remainder},
    {Py_nb_inplace_power, nb_inplace_power},
    {Py_nb_inplace_matrix_multiply, nb_inplace_matrix_multiply},
    {Py_nb_inplace_and, nb_inplace_and},
    {Py_nb_inplace_or, nb_inplace_or},
    {Py_nb_inplace_xor, nb_inplace_xor},
    {Py_nb_inplace_lshift, nb_inplace_lshift},
    {Py_nb_inplace_rshift, nb_inplace_rshift},
    {Py_nb_bool, nb_bool},
    {Py_nb_int, nb_int},
    {Py_nb_float, nb_float},
    {Py_nb_index, nb_index},
    {Py_mp_length, traced_length},
    {Py_mp_subscript, traced_subscript},
    {Py_mp_ass_subscript, traced_ass_subscript},
    {Py_sq_item, traced_item_at},
    {Py_sq_contains, traced_contains},
    {0, NULL},
};

PyType_Spec traced_spec = {
    .name = "nkigen._core.TracedArray",
    .basicsize = sizeof(Traced),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = traced_slots,
};
