/* module.c - the module nkigen._core: multi-phase init, all state in the module state.
 *
 * in:   numpy, ml_dtypes and nkigen.errors importable
 * out:  types Session, TracedArray, Program; functions parse, targets, dtype_name, np_dtype
 */
#include "py/py.h"

#include <string.h>

static State *
state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

static PyObject *
core_parse(PyObject *module, PyObject *text)
{
    State *st = state_of(module);
    Py_ssize_t n;
    const char *p;
    Session *s;
    Stage parsed;
    PyObject *r = NULL;
    Status status;

    if (!PyUnicode_Check(text))
        return raise_plain(st, E_DType, "NKI-1098 parse: expected str, got %.100s", Py_TYPE(text)->tp_name);
    p = text_of(st, text, &n);
    if (!p)
        return NULL;
    s = session_new(st, NULL);
    if (!s)
        return NULL;
    status = driver_parse(&s->cx, p, (size_t)n, &parsed);
    s->graph = parsed.graph;
    if (status == ST_OK)
        r = program_new(s, parsed.graph, parsed.plan, parsed.name);
    else
        raise_status(s, status, E_Parse);
    if (r)
        ((Program *)r)->foreign = true;
    Py_DECREF(s);
    return r;
}

/* The text after one pass over a parsed program, for tests and tools. */
static PyObject *
core_run_pass(PyObject *module, PyObject *args)
{
    State *st = state_of(module);
    CompileOptions opt = {0};
    const char *name, *target, *text;
    Py_ssize_t n;
    Session *s;
    Stage in, out = {0};
    PyObject *program = NULL, *r = NULL;
    Status status;

    if (!PyArg_ParseTuple(args, "ss#s:run_pass", &name, &text, &n, &target))
        return NULL;
    opt.target = target_from_name(target, strlen(target));
    if (opt.target < 0)
        return raise_plain(st, E_Nkigen, "NKI-1099 there is no target '%.100s'", target);
    s = session_new(st, NULL);
    if (!s)
        return NULL;
    status = driver_parse(&s->cx, text, (size_t)n, &in);
    s->graph = in.graph;
    if (status != ST_OK)
        raise_status(s, status, E_Parse);
    else if ((status = driver_pass(name, &in, &opt, &out)) != ST_OK)
        raise_status(s, status, E_Nkigen);
    if (status == ST_OK)
        program = program_new(s, driver_program(&out), out.plan, name);
    if (program)
        r = PyObject_Str(program);
    Py_XDECREF(program);
    if (out.graph)
        graph_free(out.graph);
    Py_DECREF(s);
    return r;
}

static PyObject *
core_targets(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *t = PyTuple_New(TG_COUNT);

    for (int i = 0; t && i < TG_COUNT; i++) {
        PyObject *name = PyUnicode_FromString(target_names[i]);

        if (!name)
            Py_CLEAR(t);
        else
            PyTuple_SET_ITEM(t, i, name);
    }
    return t;
}

static PyObject *
core_dtype_name(PyObject *module, PyObject *o)
{
    DType dt;

    if (dtype_of_object(state_of(module), NULL, o, &dt) < 0)
        return NULL;
    return PyUnicode_FromString(dtypes[dt].name);
}

static PyObject *
core_np_dtype(PyObject *module, PyObject *o)
{
    DType dt;

    if (dtype_of_object(state_of(module), NULL, o, &dt) < 0)
        return NULL;
    return np_type_object(state_of(module), dt);
}

static PyObject *
op_row(const OpDef *d)
{
    return Py_BuildValue("{ssssszszss}", "name", d->name, "class", d->cls, "np", d->np, "isa", d->isa, "doc",
                         d->doc ? d->doc : "");
}

static PyObject *
core_op_table(PyObject *Py_UNUSED(module), PyObject *name)
{
    const Dialect *d =
        PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "tile") == 0 ? &tile_dialect : &tensor_dialect;
    PyObject *list = PyList_New(0);

    for (int i = 1; list && i < d->nops; i++) {
        PyObject *row = op_row(&d->ops[i]);

        if (!row || PyList_Append(list, row) < 0)
            Py_CLEAR(list);
        Py_XDECREF(row);
    }
    return list;
}

static PyObject *
core_set_fail_after(PyObject *module, PyObject *n)
{
    long long v = PyLong_AsLongLong(n);

    if (v == -1 && PyErr_Occurred())
        return NULL;
    state_of(module)->fail_after = v;
    Py_RETURN_NONE;
}

static PyMethodDef core_methods[] = {
    {"parse", core_parse, METH_O,
     "parse($module, text, /)\n--\n\nThe Program that a text says: tensor or tile IR, or a plan; ParseError with line "
     "and "
     "column."},
    {"run_pass", core_run_pass, METH_VARARGS,
     "run_pass($module, name, text, target, /)\n--\n\nThe text of a program after one pass."},
    {"targets", core_targets, METH_NOARGS, "targets($module, /)\n--\n\nNames of the targets."},
    {"dtype_name", core_dtype_name, METH_O,
     "dtype_name($module, dtype, /)\n--\n\nShort name of a dtype, such as 'bf16'; DTypeError for one that is not "
     "ours."},
    {"np_dtype", core_np_dtype, METH_O,
     "np_dtype($module, dtype, /)\n--\n\nThe NumPy dtype of a short name or of anything numpy.dtype takes."},
    {"op_table", core_op_table, METH_O,
     "op_table($module, dialect, /)\n--\n\nRows of the 'tensor' or 'tile' op table, a list of dicts."},
    {"name_table", core_name_table, METH_NOARGS,
     "name_table($module, /)\n--\n\nNumPy's names that are known, a list of (kind, name, signature or way)."},
    {"set_fail_after", core_set_fail_after, METH_O,
     "set_fail_after($module, n, /)\n--\n\nFor tests: in each new session the allocation after n more fails; negative: "
     "none."},
    {NULL, NULL, 0, NULL},
};

/* ---- init ---- */

static int
errors_init(State *st)
{
    static const char *const names[E_COUNT] = {"NkigenError",        "TraceError",       "ShapeError",  "IndexingError",
                                               "DTypeError",         "UnsupportedError", "VerifyError", "ParseError",
                                               "HardwareLimitError", "InternalError"};
    PyObject *m = PyImport_ImportModule("nkigen.errors");

    for (int i = 0; m && i < E_COUNT; i++)
        if (!(st->error[i] = PyObject_GetAttrString(m, names[i])))
            Py_CLEAR(m);
    Py_XDECREF(m);
    return m ? 0 : -1;
}

static PyObject *
folder_of(const char *module)
{
    PyObject *m = PyImport_ImportModule(module), *file = m ? PyObject_GetAttrString(m, "__file__") : NULL, *r = NULL;
    Py_ssize_t slash;

    if (file && PyUnicode_Check(file)) {
        slash = PyUnicode_FindChar(file, '/', 0, PyUnicode_GET_LENGTH(file), -1);
        r = PyUnicode_Substring(file, 0, slash + 1);
    }
    Py_XDECREF(file);
    Py_XDECREF(m);
    return r;
}

/* Frames of NumPy and of these modules of ours are never the user's. */
static int
skip_init(State *st)
{
    static const char *const own[] = {"ops.py",     "trace.py",  "calls.py",   "structure.py", "compile.py",
                                      "display.py", "errors.py", "buffers.py", "compose"};
    PyObject *ours = folder_of("nkigen.errors"), *np = folder_of("numpy");

    st->skip = ours && np ? PyTuple_New(COUNT_OF(own) + 1) : NULL;
    for (int i = 0; st->skip && i < COUNT_OF(own); i++) {
        PyObject *path = PyUnicode_FromFormat("%U%s", ours, own[i]);

        if (!path)
            Py_CLEAR(st->skip);
        else
            PyTuple_SET_ITEM(st->skip, i, path);
    }
    if (st->skip)
        PyTuple_SET_ITEM(st->skip, COUNT_OF(own), Py_NewRef(np));
    Py_XDECREF(ours);
    Py_XDECREF(np);
    return st->skip ? 0 : -1;
}

static PyTypeObject *
type_new(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *t = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);

    if (t && PyModule_AddType(module, t) < 0)
        Py_CLEAR(t);
    return t;
}

static int
core_exec(PyObject *module)
{
    State *st = state_of(module);

    st->fail_after = -1;
    if (numpy_init() < 0)
        return -1;
    st->np = PyImport_ImportModule("numpy");
    st->no_value = st->np ? PyObject_GetAttrString(st->np, "_NoValue") : NULL;
    st->same_kind = PyUnicode_InternFromString("same_kind");
    if (!st->no_value || !st->same_kind || errors_init(st) < 0 || np_dtypes_init(st) < 0 || skip_init(st) < 0 ||
        functions_init(st) < 0)
        return -1;
    st->session = type_new(module, &session_spec);
    st->traced = type_new(module, &traced_spec);
    st->program = type_new(module, &program_spec);
    if (!st->session || !st->traced || !st->program)
        return -1;
    return 0;
}

/* Every object of the state, for the two walks of the garbage collector. */
#define EACH_OBJECT(st, DO)                                                                                            \
    do {                                                                                                               \
        for (int i = 0; i < E_COUNT; i++)                                                                              \
            DO((st)->error[i]);                                                                                        \
        for (int i = 0; i < DT_COUNT; i++)                                                                             \
            DO((st)->np_dtype[i]);                                                                                     \
        for (int i = 0; i < T_COUNT; i++)                                                                              \
            DO((st)->reference[i]);                                                                                    \
        DO((st)->same_kind);                                                                                           \
        DO((st)->np);                                                                                                  \
        DO((st)->ops);                                                                                                 \
        DO((st)->no_value);                                                                                            \
        DO((st)->live);                                                                                                \
        DO((st)->target);                                                                                              \
        DO((st)->ufuncs);                                                                                              \
        DO((st)->functions);                                                                                           \
        DO((st)->skip);                                                                                                \
        DO((st)->session);                                                                                             \
        DO((st)->traced);                                                                                              \
        DO((st)->program);                                                                                             \
    } while (0)

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
    EACH_OBJECT(state_of(module), Py_VISIT);
    return 0;
}

static int
core_clear(PyObject *module)
{
    EACH_OBJECT(state_of(module), Py_CLEAR);
    return 0;
}

static void
core_free(void *module)
{
    core_clear((PyObject *)module);
}

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "nkigen._core",
    .m_doc = "The C core of nkigen. Use nkigen.trace and nkigen.compile.",
    .m_size = sizeof(State),
    .m_methods = core_methods,
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
