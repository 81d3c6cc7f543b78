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

/* A traced result and a NumPy array of somebody else. */
static PyObject *
raise_foreign_out(Session *s, const char *name)
{
    return raise_here(
        s, E_Trace,
        "NKI-1004 %s: the result is traced and cannot be written to a NumPy array that was made outside of the "
        "kernel; make the array inside of it with numpy.zeros, ones, empty, full or array, or pass it in "
        "as a parameter",
        name);
}

/* In nkigen.ops stand compositions for functions without an op of their own, and for the methods of ufuncs under their
 * names. Borrowed; NULL: none. */
static PyObject *
composition(State *st, PyObject *fn)
{
    PyObject *ops = ops_module(st), *table = ops ? PyObject_GetAttrString(ops, "COMPOSITIONS") : NULL, *r;

    if (!table)
        return NULL;
    r = PyDict_GetItemWithError(table, fn); /* the module keeps the table */
    Py_DECREF(table);
    return r;
}

static PyObject *
composition_named(State *st, const char *name)
{
    PyObject *key = PyUnicode_FromString(name), *r = key ? composition(st, key) : NULL;

    Py_XDECREF(key);
    return r;
}

static PyObject *
call_with_first(PyObject *fn, PyObject *first, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    Py_ssize_t skip = first ? 1 : 0;
    PyObject *all = PyTuple_New(n + skip), *r;

    if (!all)
        return NULL;
    if (first)
        PyTuple_SET_ITEM(all, 0, Py_NewRef(first));
    for (Py_ssize_t i = 0; i < n; i++)
        PyTuple_SET_ITEM(all, i + skip, Py_NewRef(args[i]));
    r = PyObject_Call(fn, all, kwargs);
    Py_DECREF(all);
    return r;
}

/* Whether keywords have one with a value that changes something. */
static bool
has_keyword(State *st, PyObject *kwargs, const char *name)
{
    PyObject *v = kwargs ? PyDict_GetItemString(kwargs, name) : NULL;

    return given(v) && v != st->no_value && v != Py_True;
}

/* where=, initial= and mean= of a reduction are masks and a last step: a composition. Borrowed; NULL: not asked for. */
static PyObject *
composition_of_chosen(Session *s, int row, PyObject *kwargs)
{
    PyObject *fn, *r;

    if (!has_keyword(s->st, kwargs, "where") && !has_keyword(s->st, kwargs, "initial") &&
        !has_keyword(s->st, kwargs, "mean"))
        return NULL;
    fn = PyObject_GetAttrString(s->st->np, rows[row].name);
    if (!fn)
        return NULL;
    r = composition(s->st, fn);
    Py_DECREF(fn);
    return r;
}

static PyObject *
call_row(Session *s, int row, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    PyObject *bound[MAX_PARAMS] = {0}, *rest = NULL, *r = NULL, *chosen = composition_of_chosen(s, row, kwargs);

    if (chosen)
        return call_with_first(chosen, NULL, args, n, kwargs);
    if (PyErr_Occurred())
        return NULL;
    if (bind_arguments(s, rows[row].name, rows[row].sig, args, n, kwargs, bound, &rest) == 0)
        r = rows[row].fn(s, rows[row].name, bound);
    Py_XDECREF(rest);
    return r;
}

/* out= by name of a function that has it, borrowed; NULL without one. */
static PyObject *
out_of_function(int row, PyObject *kwargs)
{
    PyObject *out = kwargs && strstr(rows[row].sig, " out!") ? PyDict_GetItemString(kwargs, "out") : NULL;

    if (out && PyTuple_Check(out) && PyTuple_GET_SIZE(out) == 1) /* from a ufunc's method */
        out = PyTuple_GET_ITEM(out, 0);
    return given(out) ? out : NULL;
}

/* Writes a function's result to `target`, which has its shape. */
static int
store_result(Session *s, const char *name, PyObject *target, PyObject *r)
{
    const Type *to = traced_type(target), *ty = traced_type(r);
    char have[MAX_SHAPE_TEXT], want[MAX_SHAPE_TEXT];

    if (to->rank == ty->rank && memcmp(to->dim, ty->dim, sizeof(int64_t) * ty->rank) == 0)
        return traced_store(s, name, target, r);
    raise_here(s, E_Shape, "NKI-1005 %s: the result has shape %s, out has shape %s", name,
               shape_text(want, ty->rank, ty->dim), shape_text(have, to->rank, to->dim));
    return -1;
}

static PyObject *
call_into_target(Session *s, int row, PyObject *const *args, Py_ssize_t n, PyObject *kwargs, PyObject *target)
{
    const char *name = rows[row].name;
    PyObject *kw, *r = NULL;

    if (((Traced *)target)->scalar)
        return raise_here(s, E_DType, "NKI-1006 %s: out is a NumPy scalar, expected an array", name);
    kw = usable(s, target) ? PyDict_Copy(kwargs) : NULL;
    if (kw && PyDict_DelItemString(kw, "out") == 0)
        r = call_row(s, row, args, n, kw);
    if (r && store_result(s, name, target, r) < 0)
        Py_CLEAR(r);
    Py_XDECREF(kw);
    return r;
}

PyObject *
call_function(Session *s, int row, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    PyObject *out = out_of_function(row, kwargs), *target, *r = NULL;

    if (!out)
        return call_row(s, row, args, n, kwargs);
    target = target_array(s, out);
    if (target)
        r = call_into_target(s, row, args, n, kwargs, target);
    else if (!PyErr_Occurred())
        raise_foreign_out(s, rows[row].name);
    Py_XDECREF(target);
    if (r)
        Py_SETREF(r, Py_NewRef(out));
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

/* A method that is a composition: numpy's function of that name. */
static PyObject *
call_composed(PyObject *self, const char *name, PyObject *args, PyObject *kwargs)
{
    Session *s = ((Traced *)self)->session;
    PyObject *fn = usable(s, self) ? PyObject_GetAttrString(s->st->np, name) : NULL, *r = NULL;

    if (fn)
        r = call_with_first(fn, self, ((PyTupleObject *)args)->ob_item, PyTuple_GET_SIZE(args), kwargs);
    Py_XDECREF(fn);
    return r;
}

#define COMPOSED(id, doc)                                                                                              \
    PyObject *method_##id(PyObject *self, PyObject *args, PyObject *kwargs)                                            \
    {                                                                                                                  \
        return call_composed(self, #id, args, kwargs);                                                                 \
    }
#include "py/functions.def"

/* ---- NumPy's protocols ---- */

static PyObject *
call_composition(Session *s, PyObject *fn, const char *name, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    PyObject *plain = plain_operands(s, name, args, n), *r = plain ? PyObject_Call(fn, plain, kwargs) : NULL;

    Py_XDECREF(plain);
    if (!r && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        raise_here(s, E_DType, "NKI-1007 %s: a Python integer is out of bounds for the dtype of the other operand",
                   name);
    }
    return r;
}

/* reduce, accumulate, outer, at, reduceat */
static PyObject *
call_ufunc_method(Session *s, PyObject *ufunc, const char *method, PyObject *const *args, Py_ssize_t n,
                  PyObject *kwargs)
{
    PyObject *fn = composition_named(s->st, method);

    if (fn)
        return call_with_first(fn, ufunc, args, n, kwargs);
    if (PyErr_Occurred())
        return NULL;
    return raise_here(s, E_Unsupported, "NKI-1010 %s.%.50s is not supported", ((PyUFuncObject *)ufunc)->name, method);
}

static PyObject *
reduce_ufunc(Session *s, PyObject *ufunc, TOp op, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    int row = op == T_add           ? FN_sum
              : op == T_maximum     ? FN_max
              : op == T_minimum     ? FN_min
              : op == T_logical_or  ? FN_any
              : op == T_logical_and ? FN_all
                                    : -1;
    PyObject *kw, *r = NULL;

    if (row < 0)
        return call_ufunc_method(s, ufunc, "reduce", args, n, kwargs);
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

static PyObject *
call_op(Session *s, TOp op, const char *name, PyObject *const *args, Py_ssize_t n)
{
    int nin = tensor_dialect.ops[op].nin;

    if (n != nin)
        return raise_here(s, E_DType, "NKI-1009 %s: takes %d operands, got %zd", name, nin, n);
    return nin == 1 ? traced_unary(s, op, args[0]) : traced_binary(s, op, args[0], args[1]);
}

/* Keywords of a ufunc: dtype and casting are used, those with a value that changes nothing are accepted. */
static int
ufunc_keywords(Session *s, const char *name, PyObject *kwargs, PyObject **dtype, PyObject **casting)
{
    static const char sig[] = "dtype? casting? out! where!=True order!=K|C|A subok!=True|False";
    PyObject *bound[MAX_PARAMS];

    *dtype = *casting = NULL;
    if (!kwargs || !PyDict_GET_SIZE(kwargs))
        return 0;
    if (bind_arguments(s, name, sig, NULL, 0, kwargs, bound, NULL) < 0)
        return -1;
    *dtype = given(bound[0]) ? bound[0] : NULL;
    *casting = given(bound[1]) ? bound[1] : NULL;
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
call_loop(Session *s, PyObject *ufunc, TOp op, const char *name, PyObject *const *args, Py_ssize_t n)
{
    PyObject *fn;

    if (op == T_matmul)
        return call_function(s, FN_matmul, args, n, NULL);
    if (op != T_none)
        return call_op(s, op, name, args, n);
    if (strcmp(name, "divmod") == 0)
        return traced_divmod(s, args[0], args[1]);
    if (strcmp(name, "clip") == 0)
        return call_function(s, FN_clip, args, n, NULL);
    fn = composition(s->st, ufunc);
    if (fn)
        return call_composition(s, fn, name, args, n, NULL);
    if (PyErr_Occurred())
        return NULL;
    return raise_absent(s, "numpy", name);
}

/* In the loop that dtype= and casting= choose. */
static PyObject *
call_chosen(Session *s, PyObject *ufunc, TOp op, const char *name, PyObject *const *args, Py_ssize_t n, PyObject *dtype,
            PyObject *casting)
{
    PyObject *result, *cast = operands_of_loop(s, ufunc, name, args, n, dtype, casting, &result), *r = NULL;

    if (cast)
        r = call_loop(s, ufunc, op, name, ((PyTupleObject *)cast)->ob_item, n);
    if (r && is_traced(r))
        Py_SETREF(r, fn_astype(s, name, (PyObject *const[]){r, result, NULL}));
    Py_XDECREF(cast);
    Py_XDECREF(result);
    return r;
}

static PyObject *
call_ufunc(Session *s, PyObject *ufunc, const char *method, PyObject *const *args, Py_ssize_t n, PyObject *kwargs)
{
    const char *name = ((PyUFuncObject *)ufunc)->name ? ((PyUFuncObject *)ufunc)->name : "ufunc";
    int op = ufunc_op(s->st, ufunc, name);
    PyObject *dtype, *casting;

    if (op < 0)
        return NULL;
    if (strcmp(method, "reduce") == 0)
        return reduce_ufunc(s, ufunc, (TOp)op, args, n, kwargs);
    if (strcmp(method, "__call__") != 0)
        return call_ufunc_method(s, ufunc, method, args, n, kwargs);
    if (((PyUFuncObject *)ufunc)->core_enabled && op == T_none) { /* those with axes are whole compositions */
        PyObject *fn = composition(s->st, ufunc);

        if (fn || PyErr_Occurred())
            return fn ? call_composition(s, fn, name, args, n, kwargs) : NULL;
    }
    if (ufunc_keywords(s, name, kwargs, &dtype, &casting) < 0)
        return NULL;
    if (n != ((PyUFuncObject *)ufunc)->nin)
        return raise_here(s, E_DType, "NKI-1011 %s: takes %d operands, got %zd", name, ((PyUFuncObject *)ufunc)->nin,
                          n);
    if (!dtype && !casting)
        return call_loop(s, ufunc, (TOp)op, name, args, n);
    return call_chosen(s, ufunc, (TOp)op, name, args, n, dtype, casting);
}

/* out= of a ufunc with one result, borrowed; NULL without one. */
static PyObject *
out_of(PyObject *kwargs)
{
    PyObject *out = kwargs ? PyDict_GetItemString(kwargs, "out") : NULL;

    if (!out || !PyTuple_Check(out) || PyTuple_GET_SIZE(out) != 1 || PyTuple_GET_ITEM(out, 0) == Py_None)
        return NULL;
    return PyTuple_GET_ITEM(out, 0);
}

static PyObject *
call_into(Session *s, PyObject *ufunc, PyObject *const *args, Py_ssize_t n, PyObject *kwargs, PyObject *target)
{
    const char *name = ((PyUFuncObject *)ufunc)->name;
    PyObject *kw, *r = NULL;

    if (((Traced *)target)->scalar)
        return raise_here(s, E_DType, "NKI-1012 %s: out is a NumPy scalar, expected an array", name);
    kw = usable(s, target) ? PyDict_Copy(kwargs) : NULL;
    if (kw && PyDict_DelItemString(kw, "out") == 0)
        r = call_ufunc(s, ufunc, "__call__", args, n, kw);
    if (r && traced_store(s, name, target, r) < 0)
        Py_CLEAR(r);
    Py_XDECREF(kw);
    return r;
}

/* The result of a ufunc, written to `out`, which is returned. */
static PyObject *
call_with_out(Session *s, PyObject *ufunc, PyObject *const *args, Py_ssize_t n, PyObject *kwargs, PyObject *out)
{
    PyObject *target = target_array(s, out), *r = NULL;

    if (target)
        r = call_into(s, ufunc, args, n, kwargs, target);
    else if (!PyErr_Occurred())
        raise_foreign_out(s, ((PyUFuncObject *)ufunc)->name);
    Py_XDECREF(target);
    if (r)
        Py_SETREF(r, Py_NewRef(out));
    return r;
}

PyObject *
traced_array_ufunc(PyObject *self, PyObject *args, PyObject *kwargs)
{
    Session *s = ((Traced *)self)->session;
    PyObject *const *item = ((PyTupleObject *)args)->ob_item;
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    const char *method;
    PyObject *out;

    if (n < 3 || !PyObject_TypeCheck(item[0], &PyUFunc_Type) || !PyUnicode_Check(item[1]))
        return raise_plain(s->st, E_DType, "NKI-1013 __array_ufunc__ expects a ufunc, a method name and operands");
    method = PyUnicode_AsUTF8(item[1]);
    if (!method || !usable(s, self))
        return NULL;
    if (strcmp(method, "__call__") == 0 && has_keyword(s->st, kwargs, "where"))
        return call_ufunc_method(s, item[0], "where", item + 2, n - 2, kwargs);
    out = strcmp(method, "__call__") == 0 ? out_of(kwargs) : NULL;
    if (out)
        return call_with_out(s, item[0], item + 2, n - 2, kwargs, out);
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
        raise_here(s, E_Unsupported, "NKI-1014 this function is not supported");
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
