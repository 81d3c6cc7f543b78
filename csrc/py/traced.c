/* traced.c - TracedArray as an object: what a kernel's arrays are while it is traced; made, told from others, freed.
 *
 * The type is final (traced_type.c), so "is it traced" is one comparison.
 */
#include "py/py.h"

PyObject *
traced_repr(PyObject *self)
{
    Traced *t = (Traced *)self;
    const Type *ty = val_type(t->graph, t->val);
    char dims[MAX_RANK * 22 + 1] = "";
    size_t n = 0;

    for (int i = 0; i < ty->rank; i++)
        n += (size_t)snprintf(dims + n, sizeof(dims) - n, "%s%lld", i ? ", " : "", (long long)ty->dim[i]);
    return PyUnicode_FromFormat("TracedArray(%s[%s], %%%u)", dtypes[ty->dtype].name, dims, t->val.i);
}

bool
is_traced(PyObject *o)
{
    return Py_TYPE(o)->tp_repr == traced_repr; /* final: no subclass inherits the slot */
}

PyObject *
traced_new(Session *s, Val v)
{
    PyTypeObject *type = s->st->traced;
    Traced *t = PyObject_GC_New(Traced, type);

    if (!t)
        return NULL;
    t->session = (Session *)Py_NewRef((PyObject *)s);
    t->graph = s->graph;
    t->base = NULL;
    t->view = NULL;
    t->stride = NULL;
    t->val = v;
    t->version = 0;
    t->input = -1;
    t->scalar = type_of(s, v)->rank == 0;
    t->readonly = false;
    PyObject_GC_Track(t);
    return (PyObject *)t;
}

int
traced_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Traced *)self)->session);
    Py_VISIT(((Traced *)self)->base);
    return 0;
}

void
traced_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_XDECREF(((Traced *)self)->base);
    Py_DECREF(((Traced *)self)->session);
    type->tp_free(self);
    Py_DECREF(type);
}

bool
usable(Session *s, PyObject *traced)
{
    Session *own = ((Traced *)traced)->session;

    if (own == s && s->open)
        return true;
    raise_here(own, E_Trace,
               own->open
                   ? "NKI-1071 this array belongs to another kernel that is being traced"
                   : "NKI-1072 this array belongs to a trace that is finished ('%s'); pass arrays in as parameters and "
                     "out as results",
               own->label ? PyUnicode_AsUTF8(own->label) : "");
    return false;
}
