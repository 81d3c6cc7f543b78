/* absent.c - names that numpy or numpy.ndarray have and traced arrays do not do: each raises and names the way.
 *
 * in:   an attribute, a method call or a function that no row of functions.def is for
 * out:  an exception at the user's line; AttributeError only for names that numpy.ndarray does not have either
 * rule: what is said stands in absent.def
 */
#include "py/py.h"

#include <string.h>

#define ABSENT_METHOD(name, error, what, way)                                                                          \
    PyObject *absent_##name(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))                    \
    {                                                                                                                  \
        return raise_here(((Traced *)self)->session, error, "NKI-1114 %s; %s", what, way);                             \
    }
#define ABSENT_MEMBER(name, error, what, way)                                                                          \
    PyObject *absent_##name(PyObject *self, void *Py_UNUSED(closure))                                                  \
    {                                                                                                                  \
        return raise_here(((Traced *)self)->session, error, "NKI-1115 %s; %s", what, way);                             \
    }
#include "py/absent.def"

static const char *
way_to(const char *name)
{
    static const struct {
        const char *name, *way;
    } rows[] = {
#define ABSENT_FUNCTION(name, way) {#name, way},
#include "py/absent.def"
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].way;
    return NULL;
}

PyObject *
raise_absent(Session *s, const char *module, const char *name)
{
    const char *way = way_to(name);

    way = way ? way : way_to(module);
    if (!way)
        way = "compose it from supported functions, or call it before the kernel";
    return raise_here(s, E_Unsupported, "NKI-1116 %s.%s is not supported; %s", module, name, way);
}

/* ---- attributes that no array has ---- */

/* The closest public name of the type, new; NULL without an exception: none is close. */
static PyObject *
similar(PyTypeObject *type, PyObject *name)
{
    PyObject *names = PyObject_Dir((PyObject *)type), *difflib = PyImport_ImportModule("difflib"), *r = NULL;
    PyObject *close = names && difflib ? PyObject_CallMethod(difflib, "get_close_matches", "OOi", name, names, 1) : NULL;

    if (close && PySequence_Size(close) > 0)
        r = PySequence_GetItem(close, 0);
    PyErr_Clear();
    Py_XDECREF(names);
    Py_XDECREF(difflib);
    Py_XDECREF(close);
    return r;
}

PyObject *
traced_getattro(PyObject *self, PyObject *name)
{
    PyObject *r = PyObject_GenericGetAttr(self, name), *close;

    if (r || !PyErr_ExceptionMatches(PyExc_AttributeError) || PyUnicode_READ_CHAR(name, 0) == '_')
        return r; /* NumPy asks for names with an underscore all the time */
    PyErr_Clear();
    close = similar(Py_TYPE(self), name);
    if (close)
        PyErr_Format(PyExc_AttributeError, "a traced array has no attribute '%U'; did you mean '%U'?", name, close);
    else
        PyErr_Format(PyExc_AttributeError, "a traced array has no attribute '%U', and neither has numpy.ndarray", name);
    Py_XDECREF(close);
    return NULL;
}
