/* inplace.c - writes: in-place operators, assignment to elements, out= of a ufunc.
 *
 * in:   the array that is written, and what is computed or assigned
 * out:  the array itself, with another value
 * rule: what is written is computed first, so that overlapping operands read what was there. An operator keeps dtype
 *       and shape of the left side and raises where NumPy would; a NumPy scalar is immutable and gives a new array.
 */
#include "py/py.h"

#include <math.h>
#include <string.h>

/* ---- results of operators ---- */

static bool
same_kind(State *st, DType from, DType to)
{
    return PyArray_CanCastTypeTo((PyArray_Descr *)st->np_dtype[from], (PyArray_Descr *)st->np_dtype[to],
                                 NPY_SAME_KIND_CASTING);
}

static bool
broadcasts_to(const Type *a, const Type *to)
{
    if (a->rank > to->rank)
        return false;
    for (int i = 1; i <= a->rank; i++)
        if (a->dim[a->rank - i] != to->dim[to->rank - i] && a->dim[a->rank - i] != 1)
            return false;
    return true;
}

static int
write_value(Session *s, PyObject *target, Val v)
{
    const Type *to = traced_type(target);
    LocId loc = here(s);
    Status st = t_cast(s->graph, v, (DType)to->dtype, loc, &v);

    if (st == ST_OK && type_of(s, v)->rank > to->rank) { /* axes of size 1 in front */
        const Type *ty = type_of(s, v);
        st = t_reshape(s->graph, v, ty->dim + (ty->rank - to->rank), to->rank, loc, &v);
    }
    if (st == ST_OK)
        st = t_broadcast_to(s->graph, v, to->dim, to->rank, loc, &v);
    if (st == ST_OK)
        return traced_write(s, target, v);
    raise_status(s, st, E_Shape);
    return -1;
}

int
traced_store(Session *s, const char *name, PyObject *target, PyObject *result)
{
    const Type *to = traced_type(target), *ty = traced_type(result);
    char have[MAX_SHAPE_TEXT], want[MAX_SHAPE_TEXT];
    Val v;

    if (!is_writable(s, target) || traced_val(result, &v) < 0)
        return -1;
    if (!same_kind(s->st, (DType)ty->dtype, (DType)to->dtype)) {
        raise_here(
            s, E_DType,
            "NKI-1037 %s: the result is %s and cannot be written to an array of %s (casting rule 'same_kind'); use "
            "astype, or an operator that makes a new array",
            name, dtypes[ty->dtype].name, dtypes[to->dtype].name);
        return -1;
    }
    if (!broadcasts_to(ty, to)) {
        raise_here(s, E_Shape, "NKI-1038 %s: the result has shape %s and cannot be written to an array of shape %s",
                   name, shape_text(want, ty->rank, ty->dim), shape_text(have, to->rank, to->dim));
        return -1;
    }
    return write_value(s, target, v);
}

static PyObject *
inplace(const char *name, binaryfunc op, PyObject *a, PyObject *b)
{
    PyObject *r = op(a, b);

    if (!r || ((Traced *)a)->scalar || r == Py_NotImplemented)
        return r;
    if (traced_store(((Traced *)a)->session, name, a, r) < 0)
        Py_CLEAR(r);
    else
        Py_SETREF(r, Py_NewRef(a));
    return r;
}

#define INPLACE(slot, name, op)                                                                                        \
    PyObject *slot(PyObject *a, PyObject *b)                                                                           \
    {                                                                                                                  \
        return inplace(name, op, a, b);                                                                                \
    }
INPLACE(nb_inplace_add, "add", PyNumber_Add)
INPLACE(nb_inplace_subtract, "subtract", PyNumber_Subtract)
INPLACE(nb_inplace_multiply, "multiply", PyNumber_Multiply)
INPLACE(nb_inplace_true_divide, "divide", PyNumber_TrueDivide)
INPLACE(nb_inplace_floor_divide, "floor_divide", PyNumber_FloorDivide)
INPLACE(nb_inplace_remainder, "remainder", PyNumber_Remainder)
INPLACE(nb_inplace_matrix_multiply, "matmul", PyNumber_MatrixMultiply)
INPLACE(nb_inplace_and, "bitwise_and", PyNumber_And)
INPLACE(nb_inplace_or, "bitwise_or", PyNumber_Or)
INPLACE(nb_inplace_xor, "bitwise_xor", PyNumber_Xor)
INPLACE(nb_inplace_lshift, "left_shift", PyNumber_Lshift)
INPLACE(nb_inplace_rshift, "right_shift", PyNumber_Rshift)

static PyObject *
power(PyObject *a, PyObject *b)
{
    return PyNumber_Power(a, b, Py_None);
}

PyObject *
nb_inplace_power(PyObject *a, PyObject *b, PyObject *mod)
{
    return mod == Py_None ? inplace("power", power, a, b) : PyNumber_Power(a, b, mod);
}

/* ---- assignment to elements ---- */

/* Python numbers that an integer array does not take; NumPy raises for them, too. */
static int
check_number(Session *s, PyObject *value, DType dt)
{
    const DTypeInfo *d = &dtypes[dt];
    double v, low = d->kind == DK_int ? -d->max - 1 : 0;

    if (!is_integer(dt) || PyBool_Check(value) || !(PyLong_Check(value) || PyFloat_Check(value)) ||
        PyArray_IsScalar(value, Generic))
        return 0;
    v = PyFloat_AsDouble(value);
    if (v == -1 && PyErr_Occurred())
        PyErr_Clear(); /* an integer of more than 1024 bits */
    else if (isfinite(v) && trunc(v) >= low && trunc(v) <= d->max)
        return 0;
    raise_here(s, E_DType, "NKI-1039 assignment: the number %.60g is out of bounds for %s", v, d->np);
    return -1;
}

/* A list with traced arrays in it: its items, in the dtype that is written, one after the other. */
static PyObject *
stacked(Session *s, PyObject *list, DType dt)
{
    PyObject *items = PySequence_List(list), *dtype = s->st->np_dtype[dt], *r = NULL;
    Py_ssize_t i = 0, n = items ? PyList_GET_SIZE(items) : 0;

    for (; i < n; i++) {
        PyObject *x = fn_astype(s, "assignment", (PyObject *const[]){PyList_GET_ITEM(items, i), dtype, NULL});

        if (!x || PyList_SetItem(items, i, x) < 0)
            break;
    }
    if (items && i == n)
        r = fn_stack(s, "stack", (PyObject *const[MAX_PARAMS]){items});
    Py_XDECREF(items);
    return r;
}

/* What is assigned, constants in the dtype that is written. */
static PyObject *
assigned_array(Session *s, PyObject *value, DType dt)
{
    bool list = PyList_Check(value) || PyTuple_Check(value), any = false;
    PyObject *a, *r;

    for (Py_ssize_t i = 0; list && i < PySequence_Fast_GET_SIZE(value); i++)
        any |= is_traced(PySequence_Fast_GET_ITEM(value, i));
    if (any)
        return stacked(s, value, dt);
    a = live_array(s, value);
    if (a || PyErr_Occurred())
        return a;
    a = list ? array_of_list(s, "assignment", value) : Py_NewRef(value);
    if (!a || !PyArray_CheckExact(a) || dtype_of_descr(s->st, PyArray_DESCR((PyArrayObject *)a)) == DT_none)
        return a;
    r = PyArray_CastToType((PyArrayObject *)a, (PyArray_Descr *)np_type_object(s->st, dt), 0);
    Py_DECREF(a);
    return r;
}

static int
assign(Session *s, PyObject *target, PyObject *value)
{
    const Type *to = traced_type(target);
    char have[MAX_SHAPE_TEXT], want[MAX_SHAPE_TEXT];
    Type ty;
    Val v;
    int skip = 0;

    if (check_number(s, value, (DType)to->dtype) < 0 || traced_operand(s, "assignment", value, &v) < 0)
        return -1;
    ty = *type_of(s, v);
    while (ty.rank - skip > to->rank && ty.dim[skip] == 1)
        skip++;
    memmove(ty.dim, ty.dim + skip, sizeof(int64_t) * (size_t)(ty.rank - skip));
    ty.rank = (uint8_t)(ty.rank - skip);
    if (broadcasts_to(&ty, to))
        return write_value(s, target, v);
    raise_here(s, E_Shape, "NKI-1040 could not broadcast an array of shape %s into the shape %s of what is assigned to",
               shape_text(have, type_of(s, v)->rank, type_of(s, v)->dim), shape_text(want, to->rank, to->dim));
    return -1;
}

int
traced_ass_subscript(PyObject *self, PyObject *key, PyObject *value)
{
    Session *s = ((Traced *)self)->session;
    PyObject *target, *v;
    int r = -1;

    if (!usable(s, self))
        return -1;
    if (!value) {
        raise_here(s, E_Trace, "NKI-1041 elements of an array cannot be deleted");
        return -1;
    }
    if (((Traced *)self)->scalar) {
        raise_here(s, E_DType, "NKI-1042 a NumPy scalar does not support assignment to elements; it is no array");
        return -1;
    }
    if (!is_writable(s, self))
        return -1;
    target = view_of_key(self, key);
    v = target ? assigned_array(s, value, (DType)traced_type(target)->dtype) : NULL;
    if (v)
        r = assign(s, target, v);
    Py_XDECREF(v);
    Py_XDECREF(target);
    return r;
}

/* ---- functions that write ---- */

/* Whether `o` is an array whose elements may be written; else an exception is set. */
static bool
is_target(Session *s, const char *name, PyObject *o)
{
    if (!((Traced *)o)->scalar)
        return is_writable(s, o);
    raise_here(s, E_DType, "NKI-1043 %s: a NumPy scalar is immutable, expected an array", name);
    return false;
}

static PyObject *
write_all(Session *s, const char *name, PyObject *target, PyObject *value)
{
    PyObject *v = is_target(s, name, target) ? assigned_array(s, value, (DType)traced_type(target)->dtype) : NULL;
    int r = v ? assign(s, target, v) : -1;

    Py_XDECREF(v);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
fn_fill(Session *s, const char *name, PyObject *const *a)
{
    return write_all(s, name, a[0], a[1]);
}

/* Python scalars take any dtype of their kind or a higher one. */
static int
check_copy(Session *s, const char *name, PyObject *src, PyObject *casting, DType to)
{
    Val v;
    char weak;
    DType from;

    if (casting && PyUnicode_Check(casting) && PyUnicode_CompareWithASCIIString(casting, "unsafe") == 0)
        return 0;
    if (given(casting) && !(PyUnicode_Check(casting) && PyUnicode_CompareWithASCIIString(casting, "same_kind") == 0)) {
        raise_here(s, E_Unsupported, "NKI-1044 %s: casting is 'same_kind' or 'unsafe'", name);
        return -1;
    }
    if (operand_of(s, name, src, &v, &weak) < 0)
        return -1;
    from = val_dtype(s->graph, v);
    if (same_kind(s->st, from, to) || (weak == 'i' && is_integer(to)))
        return 0;
    raise_here(s, E_DType, "NKI-1045 %s: cannot copy %s to an array of %s (casting rule 'same_kind')", name,
               dtypes[from].name, dtypes[to].name);
    return -1;
}

/* Parameters: dst src casting where. */
PyObject *
fn_copyto(Session *s, const char *name, PyObject *const *a)
{
    PyObject *target = target_array(s, a[0]), *r = NULL;

    if (target && check_copy(s, name, a[1], a[2], (DType)traced_type(target)->dtype) == 0)
        r = write_all(s, name, target, a[1]);
    else if (!target && !PyErr_Occurred())
        raise_here(
            s, E_Trace,
            "NKI-1046 %s: traced elements cannot be written to a NumPy array that was made outside of the kernel; make "
            "the array inside of it, or pass it in as a parameter",
            name);
    Py_XDECREF(target);
    return r;
}
