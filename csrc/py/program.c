/* program.c - Program: one stage of a compilation, or a program read from text.
 *
 * A Program is immutable and equal to every other with the same text. Tensor programs run in the reference interpreter,
 * tile programs in the simulator; tile programs also have a cost, hardware rules to keep, and a NKI form. A plan runs
 * as the tensor program that it is about.
 */
#include "pass/interval.h"
#include "py/py.h"
#include "tile/access.h"

#include <string.h>

#define MAX_VIOLATIONS 100
/* Units of work that a parsed program may take unless asked for more: a loop of 2^31 iterations is no kernel. */
#define WORK_BASE ((int64_t)1 << 26)
#define WORK_PER_ELEMENT 1024 /* of the arrays it is given */

static bool
is_tile(const Program *p)
{
    return p->graph->dialect == &tile_dialect;
}

PyObject *
program_new(Session *s, const Graph *g, Plan *plan, const char *name)
{
    Program *p = PyObject_GC_New(Program, s->st->program);

    if (!p)
        return NULL;
    p->session = (Session *)Py_NewRef((PyObject *)s);
    p->graph = g;
    p->plan = plan;
    p->foreign = false;
    p->name = PyUnicode_FromString(name);
    p->text = NULL;
    PyObject_GC_Track(p);
    if (!p->name)
        Py_CLEAR(p);
    return (PyObject *)p;
}

static int
program_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Program *)self)->session);
    return 0;
}

static void
program_dealloc(PyObject *self)
{
    Program *p = (Program *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_CLEAR(p->name);
    Py_CLEAR(p->text);
    Py_CLEAR(p->session);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
program_repr(PyObject *self)
{
    Program *p = (Program *)self;
    const char *kind = p->graph->dialect->name;

    if (p->plan)
        return PyUnicode_FromFormat("<Program %R, plan>", p->name);
    return PyUnicode_FromFormat("<Program %R, %s IR, %u ops>", p->name, kind, p->graph->ops.n - 1);
}

/* ---- inputs and outputs ---- */

/* [(name, dtype name, shape)] */
static PyObject *
describe(Program *p, bool outputs)
{
    Session *s = p->session;
    Val *v = NULL;
    int n = program_io(s, p->graph, outputs, &v);
    PyObject *list = n < 0 ? NULL : PyTuple_New(n);

    for (int i = 0; list && i < n; i++) {
        const Type *ty = val_type(p->graph, v[i]);
        const char *name = str_get(&s->cx, p->graph->vals.p[v[i].i].name);
        PyObject *item = Py_BuildValue("(ssN)", name, dtypes[ty->dtype].name, int_tuple(ty->dim, ty->rank));

        if (!item)
            Py_CLEAR(list);
        else
            PyTuple_SET_ITEM(list, i, item);
    }
    PyMem_Free(v);
    return list;
}

static PyObject *
get_inputs(PyObject *self, void *Py_UNUSED(closure))
{
    return describe((Program *)self, false);
}

static PyObject *
get_outputs(PyObject *self, void *Py_UNUSED(closure))
{
    return describe((Program *)self, true);
}

static PyObject *
get_name(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(((Program *)self)->name);
}

static PyObject *
get_kind(PyObject *self, void *Py_UNUSED(closure))
{
    Program *p = (Program *)self;

    return PyUnicode_FromString(p->plan ? "plan" : p->graph->dialect->name);
}

static PyObject *
get_ops(PyObject *self, void *Py_UNUSED(closure))
{
    const Graph *g = ((Program *)self)->graph;
    PyObject *t = PyTuple_New((Py_ssize_t)g->ops.n - 1);

    for (uint32_t i = 1; t && i < g->ops.n; i++) {
        PyObject *name = PyUnicode_InternFromString(g->dialect->ops[g->ops.p[i].code].name);

        if (!name)
            Py_CLEAR(t);
        else
            PyTuple_SET_ITEM(t, i - 1, name);
    }
    return t;
}

static PyObject *
get_constants(PyObject *self, void *Py_UNUSED(closure))
{
    Program *p = (Program *)self;
    const Graph *g = p->graph;
    PyObject *list = PyList_New(0);

    for (uint32_t i = 1; list && is_tile(p) && i < g->ops.n; i++) {
        const Op *op = &g->ops.p[i];
        const AttrItem *data = op->code == K_buffer ? attr_find(g->cx, op->attr, A_data) : NULL;
        PyObject *a = data ? array_of_data(p->session, data->data, val_type(g, op->out)) : NULL;

        if (data && (!a || PyList_Append(list, a) < 0))
            Py_CLEAR(list);
        Py_XDECREF(a);
    }
    return list;
}

static PyObject *
get_aliases(PyObject *self, void *Py_UNUSED(closure))
{
    const Graph *g = ((Program *)self)->graph;
    PyObject *d = PyDict_New();

    for (uint32_t i = 0; d && i < g->aliases.n; i++) {
        PyObject *k, *v;

        if (g->aliases.p[i] < 0)
            continue;
        k = PyLong_FromUnsignedLong(i);
        v = PyLong_FromLong(g->aliases.p[i]);
        if (!k || !v || PyDict_SetItem(d, k, v) < 0)
            Py_CLEAR(d);
        Py_XDECREF(k);
        Py_XDECREF(v);
    }
    return d;
}

/* By index; of tensor programs. */
static PyObject *
get_exponents(PyObject *self, void *Py_UNUSED(closure))
{
    const Graph *g = ((Program *)self)->graph;
    Session *s = ((Program *)self)->session;
    PyObject *list = PyList_New(0);
    bool *is_exponent;
    Status st;

    if (!list || g->dialect != &tensor_dialect)
        return list;
    if (!session_enter(s)) {
        Py_DECREF(list);
        return NULL;
    }
    st = t_exponents(g, &s->cx.scratch, &is_exponent);
    for (uint32_t i = 0; list && st == ST_OK && i < g->inputs.n; i++) {
        PyObject *index = is_exponent[i] ? PyLong_FromUnsignedLong(i) : NULL;

        if (is_exponent[i] && (!index || PyList_Append(list, index) < 0))
            Py_CLEAR(list);
        Py_XDECREF(index);
    }
    if (st != ST_OK) {
        Py_CLEAR(list);
        raise_status(s, st, E_Internal);
    }
    session_leave(s);
    return list;
}

/* ---- checks ---- */

static PyObject *
violation(Session *s, const Graph *g, const Violation *v)
{
    PyObject *display = PyImport_ImportModule("nkigen.display"), *where = NULL, *text, *r = NULL;
    Arena arena;
    Text t;

    if (!display)
        return NULL;
    arena_init(&arena, &s->cx.mem);
    text_init(&t, &s->cx, &arena);
    if (v->op.i && v->op.i < g->ops.n && print_op(g, v->op, &t) != ST_OK)
        t.n = 0;
    where = loc_object(s, v->loc);
    text = coded_message(v->code, v->text);
    if (where && text)
        r = PyObject_CallMethod(display, "Violation", "sOs#O", v->rule, text, t.n ? t.p : "", (Py_ssize_t)t.n, where);
    Py_XDECREF(where);
    Py_XDECREF(text);
    Py_DECREF(display);
    arena_free(&arena);
    return r;
}

static int
append_violation(PyObject *list, PyObject *v)
{
    int r = v ? PyList_Append(list, v) : -1;

    Py_XDECREF(v);
    return r;
}

static PyObject *
violations_list(Session *s, const Graph *g, Plan *plan)
{
    PyObject *list = PyList_New(0);
    Violations found = {0};
    Arena arena;
    Status st;
    int r = 0;

    if (!list || !session_enter(s)) {
        Py_XDECREF(list);
        return NULL;
    }
    arena_init(&arena, &s->cx.mem);
    if (g->dialect == &tile_dialect) {
        st = tile_verify_all(g, &arena, MAX_VIOLATIONS, &found);
        for (uint32_t i = 0; st == ST_OK && r == 0 && i < found.n; i++)
            r = append_violation(list, violation(s, g, &found.p[i]));
    } else {
        const char *rule = "tensor";

        st = tensor_verify(g);
        if (st == ST_OK && plan) {
            rule = "plan";
            st = driver_check(plan);
        }
        if (st != ST_OK && st != ST_NOMEM) {
            const ErrorInfo *err = &s->cx.err;
            const Violation v = {.loc = err->loc, .code = err->code, .rule = rule, .text = err->msg};

            r = append_violation(list, violation(s, g, &v));
            st = ST_OK;
        }
    }
    arena_free(&arena);
    session_leave(s);
    if (st != ST_OK)
        raise_status(s, st, E_Verify);
    if (st != ST_OK || r < 0)
        Py_CLEAR(list);
    return list;
}

static PyObject *
program_verify(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Program *p = (Program *)self;

    return violations_list(p->session, p->graph, p->plan);
}

/* ---- running, pricing, emitting ---- */

static int64_t
elements_of(PyObject *args)
{
    double n = 0;

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++) {
        PyObject *a = PyTuple_GET_ITEM(args, i);

        n += PyArray_Check(a) ? (double)PyArray_SIZE((PyArrayObject *)a) : 1;
    }
    return (int64_t)(n < 1e12 ? n : 1e12);
}

static int
work_limit(Program *p, PyObject *args, PyObject *kwargs, WorkLimit *limit)
{
    PyObject *given = kwargs ? PyDict_GetItemString(kwargs, "max_work") : NULL;
    double v;

    *limit = (WorkLimit){p->foreign ? WORK_BASE + WORK_PER_ELEMENT * elements_of(args) : 0, p->foreign};
    if (kwargs && PyDict_GET_SIZE(kwargs) != (given != NULL)) {
        PyErr_SetString(PyExc_TypeError, "run() takes arrays and the keyword max_work");
        return -1;
    }
    if (!given || given == Py_None)
        return 0;
    v = PyFloat_AsDouble(given);
    if (v == -1 && PyErr_Occurred())
        return -1;
    *limit = (WorkLimit){v < 1 ? 1 : v < 9e18 ? (int64_t)v : 0, false};
    return 0;
}

static PyObject *
program_run(PyObject *self, PyObject *args, PyObject *kwargs)
{
    Program *p = (Program *)self;
    PyObject *const *item = ((PyTupleObject *)args)->ob_item;
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    WorkLimit limit;

    if (work_limit(p, args, kwargs, &limit) < 0)
        return NULL;
    if (is_tile(p))
        return simulate_run(p->session, p->graph, item, n, limit);
    return program_is_legal(p) ? reference_run(p->session, p->graph, item, n, limit, NULL) : NULL;
}

static PyObject *
program_watch(PyObject *self, PyObject *args)
{
    Program *p = (Program *)self;
    PyObject *const *item = ((PyTupleObject *)args)->ob_item;
    Py_ssize_t n = PyTuple_GET_SIZE(args);

    if (is_tile(p))
        return raise_plain(p->session->st, E_Unsupported, "NKI-1017 only tensor programs can be watched");
    if (n < 1 || !PyCallable_Check(item[0]))
        return raise_plain(p->session->st, E_DType, "NKI-1018 watch: the first argument is a function");
    if (!program_is_legal(p))
        return NULL;
    return reference_run(p->session, p->graph, item + 1, n - 1, (WorkLimit){0, false}, item[0]);
}

static int
put(PyObject *dict, const char *key, PyObject *value)
{
    int r = value ? PyDict_SetItemString(dict, key, value) : -1;

    Py_XDECREF(value);
    return r;
}

static PyObject *
instruction_counts(const Cost *c)
{
    PyObject *d = PyDict_New();

    for (int i = 1; d && i < K_COUNT; i++) {
        const OpDef *row = &tile_dialect.ops[i];
        const char *name = row->isa ? row->isa : row->name;
        PyObject *old;

        if (!c->instr[i])
            continue;
        old = PyDict_GetItemString(d, name);
        if (put(d, name, PyLong_FromLongLong(c->instr[i] + (old ? PyLong_AsLongLong(old) : 0))) < 0)
            Py_CLEAR(d);
    }
    return d;
}

PyObject *
cost_dict(const Cost *c)
{
    PyObject *d = PyDict_New(), *engines = PyDict_New();
    bool bad = !d || !engines;

    for (int i = 0; !bad && i < EN_COUNT; i++)
        if (c->engine_us[i] > 0)
            bad = put(engines, enum_name(AK_engine, i), PyFloat_FromDouble(c->engine_us[i])) < 0;
    bad = bad || put(d, "instructions", instruction_counts(c)) < 0 ||
          put(d, "instruction_count", PyLong_FromLongLong(c->instr_total)) < 0 ||
          put(d, "hbm_read_bytes", PyLong_FromLongLong(c->hbm_read)) < 0 ||
          put(d, "hbm_write_bytes", PyLong_FromLongLong(c->hbm_write)) < 0 ||
          put(d, "hbm_min_bytes", PyLong_FromLongLong(c->hbm_min)) < 0 ||
          put(d, "flops", PyLong_FromLongLong(c->flops)) < 0 || put(d, "time_us", PyFloat_FromDouble(c->time_us)) < 0 ||
          put(d, "engine_us", Py_XNewRef(engines)) < 0 ||
          put(d, "roofline_us", PyFloat_FromDouble(c->roofline_us)) < 0 ||
          put(d, "sbuf_peak_bytes", PyLong_FromLongLong(c->sbuf_peak)) < 0 ||
          put(d, "psum_peak_banks", PyLong_FromLong(c->psum_peak_banks)) < 0;
    Py_XDECREF(engines);
    if (bad)
        Py_CLEAR(d);
    return d;
}

static PyObject *
program_cost(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Program *p = (Program *)self;
    PyObject *display, *cls, *none, *kw, *r = NULL;
    Cost c = {0};
    Status st;

    if (!is_tile(p))
        return raise_plain(p->session->st, E_Unsupported, "NKI-1019 only a tile program has a cost");
    if (!program_is_legal(p))
        return NULL;
    if (!session_enter(p->session))
        return NULL;
    st = cost_program(p->graph, &c);
    session_leave(p->session);
    if (st != ST_OK)
        return raise_status(p->session, st, E_Verify);
    display = PyImport_ImportModule("nkigen.display");
    cls = display ? PyObject_GetAttrString(display, "Cost") : NULL;
    kw = cls ? cost_dict(&c) : NULL;
    none = kw ? PyTuple_New(0) : NULL;
    if (none)
        r = PyObject_Call(cls, none, kw);
    Py_XDECREF(none);
    Py_XDECREF(kw);
    Py_XDECREF(cls);
    Py_XDECREF(display);
    return r;
}

static PyObject *
interval_list(const Graph *g, const Interval *of)
{
    PyObject *list = PyList_New((Py_ssize_t)g->ops.n - 1);

    for (uint32_t i = 1; list && i < g->ops.n; i++) {
        const Interval *r = &of[g->ops.p[i].out.i];
        PyObject *item = Py_BuildValue("(ddN)", r->lo, r->hi, PyBool_FromLong(r->nan));

        if (!item)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i - 1, item);
    }
    return list;
}

static PyObject *
program_intervals(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Program *p = (Program *)self;
    Session *s = p->session;
    PyObject *list = NULL;
    Interval *of;
    Arena arena;
    Status st;

    if (is_tile(p))
        return raise_plain(s->st, E_Unsupported, "NKI-1020 only a tensor program has intervals");
    if (!session_enter(s))
        return NULL;
    arena_init(&arena, &s->cx.mem);
    st = tensor_verify(p->graph);
    if (st == ST_OK)
        st = intervals(p->graph, &arena, &of);
    if (st == ST_OK)
        list = interval_list(p->graph, of);
    else
        raise_status(s, st, E_Verify);
    arena_free(&arena);
    session_leave(s);
    return list;
}

static PyObject *
dependence_list(const Graph *g, const Dependences *d)
{
    PyObject *list = PyList_New(d->n);

    for (uint32_t i = 0; list && i < d->n; i++) {
        const Dependence *x = &d->p[i];
        PyObject *item = Py_BuildValue("(IIILI)", x->before.i - 1, x->after.i - 1,
                                       x->loop.i ? g->vals.p[x->loop.i].def.i : 0, (long long)x->distance, x->why);

        if (!item)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static PyObject *
program_dependences(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Program *p = (Program *)self;
    Session *s = p->session;
    PyObject *list = NULL;
    Dependences found = {0};
    Arena arena;
    Status st;

    if (!is_tile(p))
        return raise_plain(s->st, E_Unsupported, "NKI-1126 only a tile program has dependences");
    if (!session_enter(s))
        return NULL;
    arena_init(&arena, &s->cx.mem);
    st = graph_check(p->graph);
    if (st == ST_OK)
        st = tile_dependences(p->graph, &arena, &found);
    if (st == ST_OK)
        list = dependence_list(p->graph, &found);
    else
        raise_status(s, st, E_Verify);
    arena_free(&arena);
    session_leave(s);
    return list;
}

static PyMethodDef program_methods[] = {
    {"run", (PyCFunction)(void (*)(void))program_run, METH_VARARGS | METH_KEYWORDS,
     "run($self, /, *arrays, max_work=None)\n--\n\nRun on one array per input; an array, or a tuple of them when there "
     "are several outputs.\n\n"
     "Tensor programs run in NumPy, a plan as the one that it is about, tile programs in the simulator. A program that "
     "was parsed may take 2^26 units of\n"
     "work, 1024 for each element of its arrays and twice what its ops take when each is executed once, unless "
     "max_work\n"
     "says otherwise: an element touched is one unit, an instruction 256. Compiled programs have no limit."},
    {"watch", program_watch, METH_VARARGS,
     "watch($self, function, /, *arrays)\n--\n\nRun a tensor program and show every result; the ids of the outputs.\n\n"
     "function(op, attributes, operand ids, result id, value, ids that nobody reads any more)"},
    {"verify", program_verify, METH_NOARGS,
     "verify($self, /)\n--\n\nThe rules this program breaks, a list of Violation; empty when it is legal."},
    {"cost", program_cost, METH_NOARGS, "cost($self, /)\n--\n\nModelled Cost of a tile program."},
    {"intervals", program_intervals, METH_NOARGS,
     "intervals($self, /)\n--\n\n(least, greatest, whether NaN is possible) of the values of a tensor program, per op: "
     "what holds for all inputs."},
    {"dependences", program_dependences, METH_NOARGS,
     "dependences($self, /)\n--\n\nWhat waits for what in a tile program: (earlier op, later op, loop, distance, "
     "why).\n\n"
     "Ops are numbered as in `ops`, from 0. loop is the line of the loop that carries it, counted from 1, or 0; "
     "distance\n"
     "is in its iterations. why adds up 1 (reads what was written), 2 (writes what was read), 4 (writes what was\n"
     "written). For looking: the number of pairs of instructions is what it takes."},
    {"nki", program_nki, METH_NOARGS, "nki($self, /)\n--\n\nNKI Python source of a tile program."},
    {"brief", (PyCFunction)(void (*)(void))program_brief, METH_VARARGS | METH_KEYWORDS,
     "brief($self, /, max_ops=None)\n--\n\nThe text without the bytes of long constants, and with at most max_ops "
     "ops."},
    {"digest", program_digest, METH_NOARGS,
     "digest($self, /)\n--\n\n32 bytes that stand for the text, without making it."},
    {"_repr_html_", program_html, METH_NOARGS, "_repr_html_($self, /)\n--\n\nThe Jupyter view."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef program_getset[] = {
    {"name", get_name, NULL, "Name of the stage.", NULL},
    {"kind", get_kind, NULL, "'tensor', 'tile' or 'plan'.", NULL},
    {"inputs", get_inputs, NULL, "(name, dtype, shape) per input.", NULL},
    {"outputs", get_outputs, NULL, "(name, dtype, shape) per output.", NULL},
    {"aliases", get_aliases, NULL, "{k: j}: output k updates input j.", NULL},
    {"exponents", get_exponents, NULL, "Inputs that powers of integers take as exponents.", NULL},
    {"ops", get_ops, NULL, "Names of the ops in program order.", NULL},
    {"constants", get_constants, NULL, "Arrays of the constants of a tile program, in program order.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot program_slots[] = {
    {Py_tp_doc,
     "One stage of a compilation. str() prints it, nkigen.parse() reads the text back; equal texts are equal\n"
     "programs."},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_traverse, program_traverse},
    {Py_tp_str, program_str},
    {Py_tp_repr, program_repr},
    {Py_tp_richcompare, program_richcompare},
    {Py_tp_hash, program_hash},
    {Py_tp_methods, program_methods},
    {Py_tp_getset, program_getset},
    {0, NULL},
};

PyType_Spec program_spec = {
    .name = "nkigen._core.Program",
    .basicsize = sizeof(Program),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = program_slots,
};
