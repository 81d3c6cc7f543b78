/* functions_cast.c - NumPy functions that give the elements of one array again: in another dtype, as a copy, as they
 * are.
 *
 * in:   bound arguments, one object or NULL per parameter in the order of functions.def
 * out:  traced arrays
 * rule: a copy is laid out as NumPy's is
 */
#include "py/py.h"

/* A copy with the elements v of x in an order; `keep` when none is given. */
static PyObject *
copy_in_order(Session *s, PyObject *x, Val v, PyObject *order, bool keep)
{
    PyObject *r = traced_copy(s, x, v, keeps_order(order, x, keep));
    int64_t stride[MAX_RANK], step = 1;
    const Type *ty;

    if (!r || !wants_fortran(order, x))
        return r;
    ty = traced_type(r);
    for (int i = 0; i < ty->rank; i++) {
        stride[i] = step;
        step *= ty->dim[i];
    }
    return view_restrided(s, r, stride);
}

/* Whether the elements of x lie in an order already. */
static bool
is_in_order(PyObject *x, PyObject *order)
{
    return keeps_order(order, x, true) || (wants_fortran(order, x) ? is_fortran_order(x) : is_c_order(x));
}

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
        bool same = traced_type(x)->dtype == dt && is_in_order(x, order);

        st = t_cast(s->graph, v, dt, here(s), &v);
        if (st != ST_OK)
            raise_status(s, st, E_Shape);
        else
            r = !copy && same ? Py_NewRef(x) : copy_in_order(s, x, v, order, true);
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
        r = copy_in_order(s, x, v, order, keep);
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
