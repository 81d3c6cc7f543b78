/* loops.c - which loop of a ufunc NumPy takes for some operands, and the operands as it takes them.
 *
 * in:   a ufunc, operands as the user wrote them, dtype= and casting= where they are given
 * out:  the operands in the loop's dtypes, and the dtype of its result
 * rule: NumPy itself answers (nkigen.ops.resolve_loop); no table of loops here.
 */
#include "py/py.h"

PyObject *
plain_operands(Session *s, const char *name, PyObject *const *args, Py_ssize_t n)
{
    PyObject *plain = PyTuple_New(n);
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
    return plain;
}

PyObject *
ops_module(State *st)
{
    if (!st->ops)
        st->ops = PyImport_ImportModule("nkigen.ops");
    return st->ops;
}

/* NumPy's answer to dtype= and casting=: a tuple of dtypes, operands first. New. */
static PyObject *
resolve_loop(Session *s, PyObject *ufunc, const char *name, PyObject *args, PyObject *dtype, PyObject *casting)
{
    PyObject *ops = ops_module(s->st), *r;

    r = !ops      ? NULL
        : casting ? PyObject_CallMethod(ops, "resolve_loop", "OOOO", ufunc, args, dtype ? dtype : Py_None, casting)
                  : PyObject_CallMethod(ops, "resolve_loop", "OOO", ufunc, args, dtype ? dtype : Py_None);
    if (r || PyErr_ExceptionMatches(s->st->error[E_Nkigen]) ||
        !(PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError)))
        return r;
    return raise_instead(s, E_DType, name, "there is no loop for these dtypes");
}

/* The operands as the loop takes them; Python scalars stay weak, so that their range is checked. */
static PyObject *
loop_operands(Session *s, const char *name, PyObject *args, PyObject *dtypes)
{
    PyObject *cast = PyTuple_New(PyTuple_GET_SIZE(args));

    for (Py_ssize_t i = 0; cast && i < PyTuple_GET_SIZE(args); i++) {
        PyObject *o = PyTuple_GET_ITEM(args, i), *const call[] = {o, PyTuple_GET_ITEM(dtypes, i), NULL};
        bool weak = PyLong_CheckExact(o) || PyFloat_CheckExact(o);
        PyObject *item = weak ? Py_NewRef(o) : fn_astype(s, name, call);

        if (item)
            PyTuple_SET_ITEM(cast, i, item);
        else
            Py_CLEAR(cast);
    }
    return cast;
}

PyObject *
operands_of_loop(Session *s, PyObject *ufunc, const char *name, PyObject *const *args, Py_ssize_t n, PyObject *dtype,
                 PyObject *casting, PyObject **result)
{
    PyObject *plain = plain_operands(s, name, args, n);
    PyObject *dtypes = plain ? resolve_loop(s, ufunc, name, plain, dtype, casting) : NULL;
    PyObject *cast = dtypes ? loop_operands(s, name, plain, dtypes) : NULL;

    *result = cast ? Py_NewRef(PyTuple_GET_ITEM(dtypes, n)) : NULL;
    Py_XDECREF(plain);
    Py_XDECREF(dtypes);
    return cast;
}
