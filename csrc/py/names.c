/* names.c - what of NumPy traced arrays take part in, as data: for the pages and tests that walk it.
 *
 * out:  (kind, name, text) of each row: "function" and "method" with the signature of functions.def, "composed method"
 *       with its documentation, "absent function", "absent method" and "absent member" with the way that leads there
 * rule: nothing but the rows of functions.def and absent.def
 */
#include "py/py.h"

static const struct {
    const char *kind, *name, *text;
} rows[] = {
#define FN(id, handler, sig) {"function", #id, sig},
#define METHOD(id, handler, sig, doc) {"method", #id, sig},
#define COMPOSED(id, doc) {"composed method", #id, doc},
#include "py/functions.def"
#define ABSENT_FUNCTION(name, way) {"absent function", #name, way},
#define ABSENT_METHOD(name, error, what, way) {"absent method", #name, way},
#define ABSENT_MEMBER(name, error, what, way) {"absent member", #name, way},
#include "py/absent.def"
};

PyObject *
core_name_table(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(COUNT_OF(rows));

    for (size_t i = 0; list && i < COUNT_OF(rows); i++) {
        PyObject *row = Py_BuildValue("sss", rows[i].kind, rows[i].name, rows[i].text);

        if (!row)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, row);
    }
    return list;
}
