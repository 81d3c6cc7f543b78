/* functions_cast.c - NumPy functions that give the elements of one array again: in another dtype, as a copy, as they
 * are.
 *
 * in:   bound arguments, one object or NULL per parameter in the order of functions.def
 * out:  traced arrays
 * rule: a copy is laid out as NumPy's is
 */
#include "py/py.h"

static PyObject *
astype(Session *s, const char *name, PyObject *o, PyObject *dtype, PyObject *order, bool copy)
{
    PyObject *x = as_traced(s, name, o), *r = NULL;
    DType dt;
    Val v;
    Status st;

    if (!x)
        return NULL;
    if (dtype_of_object(s->st, s, dtype, &dt) == 0 && traced_val(x, &v) == 0) {
        bool keep = keeps_order(order, x, true), same = traced_type(x)->dtype == dt && (keep || is_c_order(x));

        st = t_cast(s->graph, v, dt, here(s), &v);
        if (st != ST_OK)
            raise_status(s, st, E_Shape);
        else
            r = !copy && same ? Py_NewRef(x) : traced_copy(s, x, v, keep);
    }
    Py_DECREF(x);
    return r;
}

/* Parameters: x dtype copy device. */
PyObject *
fn_astype(Session *s, const char *name, PyObject *const *a)
{
    return astype(s, name, a[0], a[1], NULL, a[2] != Py_False);
}

/* Parameters: a dtype order casting subok copy. */
PyObject *
fn_m_astype(Session *s, const char *name, PyObject *const *a)
{
    DType dt;

    if (dtype_of_object(s->st, s, a[1], &dt) < 0)
        return NULL;
    if (given(a[3]) && check_cast(s, name, (DType)traced_type(a[0])->dtype, dt, a[3]) < 0)
        return NULL;
    return astype(s, name, a[0], a[1], a[2], a[5] != Py_False);
}

static PyObject *
copy(Session *s, const char *name, PyObject *o, PyObject *order, bool keep)
{
    PyObject *x = as_traced(s, name, o), *r = NULL;
    Val v;

    if (x && traced_val(x, &v) == 0)
        r = traced_copy(s, x, v, keeps_order(order, x, keep));
    Py_XDECREF(x);
    return r;
}

PyObject *
fn_copy(Session *s, const char *name, PyObject *const *a)
{
    return copy(s, name, a[0], a[1], true);
}

PyObject *
fn_m_copy(Session *s, const char *name, PyObject *const *a)
{
    return copy(s, name, a[0], a[1], false);
}

PyObject *
fn_itself(Session *s, const char *name, PyObject *const *a)
{
    return as_traced(s, name, a[0]);
}
