/* session.c - a Session: one trace, at most one compile, and everything that the two allocate.
 *
 * in:   names, dtypes and shapes of the parameters; then TracedArrays as results
 * out:  Programs of the stages, the cost, the warnings
 * rule: ops may be added while the session is open; finish() and close() end that for good.
 */
#include "py/py.h"

#include <ctype.h>
#include <string.h>

/* A name that the text form can hold: letters, digits and '_', not starting with a digit. */
static void
plain_name(const char *in, char *out, size_t cap)
{
    size_t n = 0;

    if (isdigit((unsigned char)in[0]) || !in[0])
        out[n++] = '_';
    for (; *in && n + 1 < cap; in++)
        out[n++] = isalnum((unsigned char)*in) && (unsigned char)*in < 128 ? *in : '_';
    out[n] = 0;
}

static Status
session_init_graph(Session *s, const char *label)
{
    char name[64];

    TRY(intern_init(&s->cx));
    if (!label)
        return ST_OK;
    plain_name(label, name, sizeof(name));
    return graph_new(&s->cx, &tensor_dialect, name, &s->graph);
}

/* label NULL: no graph yet (a parsed program brings its own). */
Session *
session_new(State *st, PyObject *label)
{
    PyObject *text = label ? utf8_of(label) : NULL;
    Session *s = text || !label ? (Session *)st->session->tp_alloc(st->session, 0) : NULL;
    Status r;

    if (!s) {
        Py_XDECREF(text);
        return NULL;
    }
    s->st = st;
    s->user_codes = PyDict_New();
    s->other_codes = PyDict_New();
    s->lock = PyThread_allocate_lock();
    s->label = text ? PyUnicode_FromString(PyBytes_AS_STRING(text)) : NULL;
    if (!s->user_codes || !s->other_codes || !s->lock || (label && !s->label)) {
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        Py_XDECREF(text);
        Py_DECREF(s);
        return NULL;
    }
    ctx_init(&s->cx);
    s->cx.mem.fail_after = st->fail_after;
    s->has_cx = true;
    r = session_init_graph(s, text ? PyBytes_AS_STRING(text) : NULL);
    Py_XDECREF(text);
    if (r != ST_OK) {
        raise_status(s, r, E_Internal);
        Py_DECREF(s);
        return NULL;
    }
    s->open = label != NULL;
    return s;
}

static PyObject *
session_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", NULL};
    PyObject *label;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U:Session", names, &label))
        return NULL;
    return (PyObject *)session_new(state_of_type(type), label);
}

static void
drop_params(Session *s)
{
    for (size_t j = 0; j < s->nparams; j++)
        Py_CLEAR(s->param[j].handle);
}

static int
session_traverse(PyObject *self, visitproc visit, void *arg)
{
    Session *s = (Session *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(s->user_codes);
    Py_VISIT(s->other_codes);
    for (size_t j = 0; j < s->nparams; j++)
        Py_VISIT(s->param[j].handle);
    return 0;
}

/* An abandoned trace: its parameters refer to it. */
static int
session_clear(PyObject *self)
{
    ((Session *)self)->open = false;
    drop_params((Session *)self);
    return 0;
}

/* tp_clear keeps the code objects: locations may still point to them, and they are part of no cycle of ours. */
static void
session_dealloc(PyObject *self)
{
    Session *s = (Session *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (s->has_compiled)
        compiled_free(&s->compiled);
    if (s->graph)
        graph_free(s->graph);
    if (s->has_cx)
        ctx_free(&s->cx);
    if (s->lock)
        PyThread_free_lock(s->lock);
    drop_params(s);
    PyMem_Free(s->param);
    Py_CLEAR(s->user_codes);
    Py_CLEAR(s->other_codes);
    Py_CLEAR(s->label);
    type->tp_free(self);
    Py_DECREF(type);
}

static bool
must_be_open(Session *s)
{
    if (s->open)
        return true;
    raise_plain(s->st, E_Trace, "NKI-1056 the trace is finished");
    return false;
}

/* Takes note of the next parameter; gives the handle on. */
static PyObject *
add_param(Session *s, PyObject *handle)
{
    Parameter *p = handle ? PyMem_Realloc(s->param, sizeof(Parameter) * (s->nparams + 1)) : NULL;

    if (!p) {
        Py_XDECREF(handle);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    s->param = p;
    p[s->nparams] = (Parameter){.handle = Py_NewRef(handle)};
    ((Traced *)handle)->input = (int64_t)s->nparams++;
    return handle;
}

static PyObject *
session_input(PyObject *self, PyObject *args)
{
    Session *s = (Session *)self;
    char plain[64];
    PyObject *name, *dtype, *shape;
    int64_t dim[MAX_RANK];
    DType dt;
    int rank, scalar = 0;
    Val v;

    if (!PyArg_ParseTuple(args, "UOO|p:input", &name, &dtype, &shape, &scalar) || !must_be_open(s))
        return NULL;
    if (dtype_of_object(s->st, NULL, dtype, &dt) < 0 || dims_of(s, "shape", shape, dim, &rank) < 0)
        return NULL;
    for (int i = 0; i < rank; i++)
        if (dim[i] < 0)
            return raise_plain(s->st, E_Shape, "NKI-1057 a parameter has a negative dim: %lld", (long long)dim[i]);
    name = utf8_of(name);
    if (!name)
        return NULL;
    plain_name(PyBytes_AS_STRING(name), plain, sizeof(plain));
    Py_DECREF(name);
    return add_param(s, traced_array(s, t_input(s->graph, plain, dt, rank, dim, (LocId){0}, &v), v, scalar));
}

/* The parameter whose owner a handle is; NULL: none. */
static Parameter *
parameter_of(Session *s, PyObject *o)
{
    int64_t j = is_traced(o) ? ((Traced *)o)->input : -1;

    return j >= 0 ? &s->param[j] : NULL;
}

/* The value of a parameter is not the one that came in. */
static bool
is_changed(const Session *s, int64_t j)
{
    return ((Traced *)s->param[j].handle)->val.i != s->graph->inputs.p[j].i;
}

/* A result is a traced array, or a NumPy array that depends on no parameter: a constant. */
static int
result_value(Session *s, PyObject *o, Val *v)
{
    char weak;

    if (is_traced(o))
        return usable(s, o) ? traced_val(o, v) : -1;
    if (PyArray_Check(o))
        return check_plain(s->st, NULL, "a result", o) < 0 ? -1 : operand_of(s, "a result", o, v, &weak);
    raise_plain(s->st, E_Trace, "NKI-1058 finish() expects arrays, got %.100s", Py_TYPE(o)->tp_name);
    return -1;
}

/* Adds an output; input >= 0: which parameter it updates. */
static Status
add_output(Session *s, Val v, int64_t input)
{
    TRY(t_output(s->graph, v));
    s->graph->aliases.p[s->graph->aliases.n - 1] = (int32_t)input;
    if (input >= 0)
        s->param[input].written = true;
    return ST_OK;
}

/* What is returned, then the changed parameters that are not. */
static int
add_outputs(Session *s, PyObject *outputs)
{
    Status st = ST_OK;
    Val v;

    for (Py_ssize_t i = 0; st == ST_OK && i < PyTuple_GET_SIZE(outputs); i++) {
        PyObject *o = PyTuple_GET_ITEM(outputs, i);
        const Parameter *p;

        if (result_value(s, o, &v) < 0)
            return -1;
        p = parameter_of(s, o);
        st = add_output(s, v, p && is_changed(s, p - s->param) && !p->written ? p - s->param : -1);
    }
    for (int64_t j = 0; st == ST_OK && j < s->graph->inputs.n; j++)
        if (is_changed(s, j) && !s->param[j].written)
            st = add_output(s, ((Traced *)s->param[j].handle)->val, j);
    if (st == ST_OK)
        st = tensor_verify(s->graph);
    if (st != ST_OK)
        raise_status(s, st, E_Internal);
    return st == ST_OK ? 0 : -1;
}

static PyObject *
session_finish(PyObject *self, PyObject *outputs)
{
    Session *s = (Session *)self;
    int r;

    if (!PyTuple_Check(outputs))
        return raise_plain(s->st, E_Trace, "NKI-1059 finish() expects a tuple of arrays");
    if (!must_be_open(s))
        return NULL;
    r = add_outputs(s, outputs);
    s->open = false;
    drop_params(s);
    if (r < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
session_changed(PyObject *self, void *Py_UNUSED(closure))
{
    Session *s = (Session *)self;
    PyObject *list = PyList_New(0);

    for (size_t j = 0; list && s->open && j < s->nparams; j++) {
        PyObject *item = is_changed(s, (int64_t)j) ? PyLong_FromSize_t(j) : NULL;

        if (item && PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
        if (PyErr_Occurred())
            Py_CLEAR(list);
    }
    return list;
}

/* An owner with the elements of an array, laid out as they are. */
static PyObject *
session_constant(PyObject *self, PyObject *array)
{
    Session *s = (Session *)self;
    PyObject *r;
    Val v;

    if (!PyArray_Check(array) || !must_be_open(s))
        return PyErr_Occurred() ? NULL : raise_plain(s->st, E_DType, "NKI-1060 constant() expects an array");
    if (const_of_array(s, (PyArrayObject *)array, &v) < 0)
        return NULL;
    r = traced_like(s, ST_OK, v, &array, 1);
    if (r)
        ((Traced *)r)->scalar = false;
    return r;
}

static PyObject *
session_view(PyObject *self, PyObject *args)
{
    Session *s = (Session *)self;
    PyObject *owner, *shape, *strides, *view;
    int64_t dim[MAX_RANK], stride[MAX_RANK];
    long long offset;
    int n, m, writable = 1;

    if (!PyArg_ParseTuple(args, "O!LOO|p:view", s->st->traced, &owner, &offset, &shape, &strides, &writable) ||
        !usable(s, owner))
        return NULL;
    if (dims_of(s, "shape", shape, dim, &n) < 0 || dims_of(s, "strides", strides, stride, &m) < 0)
        return NULL;
    if (n != m)
        return raise_plain(s->st, E_Shape, "NKI-1061 view() expects as many strides as dims");
    view = view_of_memory(s, owner, offset, n, dim, stride);
    if (view && !writable)
        ((Traced *)view)->readonly = true;
    return view;
}

static PyObject *
session_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ((Session *)self)->open = false;
    drop_params((Session *)self);
    Py_RETURN_NONE;
}

static PyObject *
session_compile(PyObject *self, PyObject *args)
{
    Session *s = (Session *)self;
    CompileOptions opt = {0};
    const char *target, *narrow, *optimize = "default";
    int verify = 0;
    Status st;

    if (!PyArg_ParseTuple(args, "ssz|sp:compile", &target, &narrow, &opt.plan, &optimize, &verify))
        return NULL;
    opt.target = target_from_name(target, strlen(target));
    if (opt.target < 0)
        return raise_plain(s->st, E_Nkigen, "NKI-1062 there is no target '%.100s'", target);
    opt.optimize = strcmp(optimize, "fast") == 0     ? OPT_fast
                   : strcmp(optimize, "search") == 0 ? OPT_search
                                                     : OPT_default;
    opt.verify = verify != 0;
    opt.narrow = strcmp(narrow, "error") == 0 ? NARROW_error : NARROW_warn;
    if (s->open || !s->graph || s->has_compiled)
        return raise_plain(s->st, E_Trace, "NKI-1063 a session compiles once, after finish()");
    if (!session_enter(s))
        return NULL;
    st = compile_graph(s->graph, &opt, &s->compiled);
    session_leave(s);
    if (st != ST_OK)
        return raise_status(s, st, E_Nkigen);
    s->has_compiled = true;
    Py_RETURN_NONE;
}

static PyObject *
session_stages(PyObject *self, void *Py_UNUSED(closure))
{
    Session *s = (Session *)self;
    PyObject *list = PyList_New(0);

    for (int i = 0; list && s->has_compiled && i < s->compiled.nstages; i++) {
        const Stage *stage = &s->compiled.stage[i];
        PyObject *p = program_new(s, driver_program(stage), stage->plan, stage->name);

        if (!p || PyList_Append(list, p) < 0)
            Py_CLEAR(list);
        Py_XDECREF(p);
    }
    return list;
}

static PyObject *
session_program(PyObject *self, void *Py_UNUSED(closure))
{
    Session *s = (Session *)self;

    if (s->open || !s->graph)
        return raise_plain(s->st, E_Trace, "NKI-1064 the trace is not finished");
    return program_new(s, s->graph, NULL, "traced");
}

static PyObject *
session_cost(PyObject *self, void *Py_UNUSED(closure))
{
    Session *s = (Session *)self;

    if (!s->has_compiled)
        return raise_plain(s->st, E_Trace, "NKI-1065 not compiled");
    return cost_dict(&s->compiled.cost);
}

static PyObject *
session_warnings(PyObject *self, void *Py_UNUSED(closure))
{
    Session *s = (Session *)self;
    PyObject *list = PyList_New(0);

    for (uint32_t i = 0; list && i < s->cx.nwarnings; i++) {
        PyObject *where = loc_object(s, s->cx.warnings[i].loc);
        PyObject *text = coded_message(s->cx.warnings[i].code, s->cx.warnings[i].msg);
        PyObject *item = where && text ? PyTuple_Pack(2, text, where) : NULL;

        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
        Py_XDECREF(text);
        Py_XDECREF(where);
    }
    return list;
}

static PyObject *
session_nbytes(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((Session *)self)->cx.mem.live);
}

static PyMethodDef session_methods[] = {
    {"input", session_input, METH_VARARGS,
     "input($self, name, dtype, shape, scalar=False, /)\n--\n\nDeclare the next parameter; returns its TracedArray. "
     "scalar: a NumPy scalar, which is immutable."},
    {"finish", session_finish, METH_O,
     "finish($self, outputs, /)\n--\n\nDeclare the results, a tuple of arrays, and end the trace."},
    {"constant", session_constant, METH_O,
     "constant($self, array, /)\n--\n\nA TracedArray with the elements of an array."},
    {"view", session_view, METH_VARARGS,
     "view($self, owner, offset, shape, strides, writable=True, /)\n--\n\nThe view that NumPy says so, in elements of "
     "its "
     "owner."},
    {"close", session_close, METH_NOARGS, "close($self, /)\n--\n\nEnd the trace without results."},
    {"compile", session_compile, METH_VARARGS,
     "compile($self, target, narrow, plan, optimize=\"default\", verify=False, /)\n--\n\nRun the pipeline; once per "
     "session."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef session_getset[] = {
    {"changed", session_changed, NULL, "Numbers of the parameters that were written so far.", NULL},
    {"stages", session_stages, NULL, "Programs of all stages, in order.", NULL},
    {"program", session_program, NULL, "The traced tensor program.", NULL},
    {"cost", session_cost, NULL, "Modelled cost of the last stage, as a dict.", NULL},
    {"nbytes", session_nbytes, NULL, "Bytes of memory that the graphs of this session hold.", NULL},
    {"warnings", session_warnings, NULL, "List of (message, place).", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot session_slots[] = {
    {Py_tp_doc, "Session(name)\n--\n\nOne trace and its compilation."},
    {Py_tp_new, session_tp_new},
    {Py_tp_dealloc, session_dealloc},
    {Py_tp_traverse, session_traverse},
    {Py_tp_clear, session_clear},
    {Py_tp_methods, session_methods},
    {Py_tp_getset, session_getset},
    {0, NULL},
};

PyType_Spec session_spec = {
    .name = "nkigen._core.Session",
    .basicsize = sizeof(Session),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = session_slots,
};
