/* functions.c - NumPy's protocols and the methods of traced arrays, driven by functions.def.
 *
 * in:   arguments as NumPy takes them, positional and by name
 * out:  traced arrays (or shapes, lists and tuples of them, as NumPy returns them)
 * rule: the table binds arguments, a handler sees its parameters bound. Compositions of other NumPy functions stand in
 *       nkigen.ops.
 */
#include "py/py.h"

#include <string.h>

/* ---- the table ---- */

static const struct {
    const char *name, *sig;
    Handler *fn;
} rows[FN_COUNT] = {
#define FN(id, handler, sig) {#id, sig, fn_##handler},
#define METHOD(id, handler, sig, doc) {#id, sig, fn_##handler},
#include "py/functions.def"
};

PyObject *
call_function(Session *s, int row, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    PyObject *bound[MAX_PARAMS] = {0}, *rest = NULL, *r = NULL;

    if (bind_arguments(s, rows[row].name, rows[row].sig, args, n, kwargs, bound, &rest) == 0)
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

#define METHOD(id, handler, sig, doc)                                                                                  \
    PyObject *method_##id(PyObject *self, PyObject *args, PyObject *kwargs)                                            \
    {                                                                                                                  \
        return call_method(self, FN_m_##id, args, kwargs);                                                             \
    }
#include "py/functions.def"

/* ---- NumPy's protocols ---- */

/* A composition sees arrays and scalars only, whatever the user wrote. */
static PyObject *
call_composition(Session *s, PyObject *fn, const char *name, PyObject *const *args, Py_ssize_t n)
{
    PyObject *plain = PyTuple_New(n), *r;
    char weak;
    Val v;

    for (Py_ssize_t i = 0; plain && i < n; i++) {
        bool list = PyList_Check(args[i]) || PyTuple_Check(args[i]);
        PyObject *o = list ? array_of_list(s, name, args[i]) : Py_NewRef(args[i]);

        if (o)
            PyTuple_SET_ITEM(plain, i, o);
        if (!o || operand_of(s, name, o, &v, &weak) < 0)
            Py_CLEAR(plain);
    }
    r = plain ? PyObject_Call(fn, plain, NULL) : NULL;
    Py_XDECREF(plain);
    return r;
}

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
    static const char sig[] = "dtype? out! where!=True casting!=same_kind order!=K|C|A subok!=True|False";
    PyObject *bound[MAX_PARAMS];

    *dtype = NULL;
    if (!kwargs || !PyDict_GET_SIZE(kwargs))
        return 0;
    if (bind_arguments(s, name, sig, NULL, 0, kwargs, bound, NULL) < 0)
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
        return traced_bitwise(s, name, args);
    if (strcmp(name, "divmod") == 0)
        return traced_divmod(s, args[0], args[1]);
    if (strcmp(name, "clip") == 0)
        return call_function(s, FN_clip, args, n, NULL);
    fn = composition(s->st, ufunc);
    if (fn)
        return call_composition(s, fn, name, args, n);
    if (PyErr_Occurred())
        return NULL;
    return raise_absent(s, "numpy", name);
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
        raise_absent(s, PyUnicode_AsUTF8(module), PyUnicode_AsUTF8(name));
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
