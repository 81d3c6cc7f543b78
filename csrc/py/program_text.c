/* program_text.c - a Program as text: all of it, briefly, as NKI source, as HTML, and as a digest that stands for it.
 *
 * rule: only str() and nki() make text as long as the constants; comparing and looking do not.
 */
#include "py/py.h"

typedef Status Writer(const Program *p, uint32_t max_ops, Text *t);

static Status
write_all(const Program *p, uint32_t Py_UNUSED(max_ops), Text *t)
{
    return driver_print(p->graph, p->plan, UINT32_MAX, false, t);
}

static Status
write_brief(const Program *p, uint32_t max_ops, Text *t)
{
    return driver_print(p->graph, p->plan, max_ops, true, t);
}

/* What `writer` writes, as a str. */
static PyObject *
written(Program *p, Writer *writer, uint32_t max_ops)
{
    Session *s = p->session;
    PyObject *r = NULL;
    Arena arena;
    Text t;
    Status st;

    if (!session_enter(s))
        return NULL;
    arena_init(&arena, &s->cx.mem);
    text_init(&t, &s->cx, &arena);
    st = writer(p, max_ops, &t);
    if (st == ST_OK)
        st = t.st;
    if (st == ST_OK)
        r = PyUnicode_DecodeUTF8(t.n ? t.p : "", (Py_ssize_t)t.n, "replace");
    else
        raise_status(s, st, E_Internal);
    arena_free(&arena);
    session_leave(s);
    return r;
}

PyObject *
program_str(PyObject *self)
{
    Program *p = (Program *)self;

    if (!p->text)
        p->text = written(p, write_all, 0);
    return Py_XNewRef(p->text);
}

/* ---- emitted source: what the user's code says about a place ---- */

typedef struct Places {
    Session *s;
    PyObject *known; /* {loc: (variable, line)}; holds the texts */
} Places;

/* Item i of what errors.py says about a place; "" when it says nothing. */
static const char *
place_text(Places *p, LocId loc, Py_ssize_t i)
{
    PyObject *key = PyLong_FromUnsignedLong(loc.i), *pair = key ? PyDict_GetItemWithError(p->known, key) : NULL;
    PyObject *where = NULL, *errors = NULL;
    const char *text = NULL;

    if (key && !pair && !PyErr_Occurred()) {
        where = loc_object(p->s, loc);
        errors = where ? PyImport_ImportModule("nkigen.errors") : NULL;
        pair = errors ? PyObject_CallMethod(errors, "describe_place", "(O)", where) : NULL;
        if (pair && PyDict_SetItem(p->known, key, pair) < 0)
            Py_CLEAR(pair);
        Py_XDECREF(pair); /* the dict has it */
    }
    if (pair)
        text = PyUnicode_AsUTF8(PyTuple_GET_ITEM(pair, i));
    if (!text)
        PyErr_Clear(); /* a comment is not worth an error */
    Py_XDECREF(where);
    Py_XDECREF(errors);
    Py_XDECREF(key);
    return text ? text : "";
}

static const char *
variable_at(void *env, LocId loc)
{
    return place_text(env, loc, 0);
}

static const char *
line_at(void *env, LocId loc)
{
    return place_text(env, loc, 1);
}

static Status
write_nki(const Program *program, uint32_t Py_UNUSED(max_ops), Text *t)
{
    Session *s = program->session;
    Places p = {s, PyDict_New()};
    Source user = {&p, variable_at, line_at};
    Status st;

    if (!p.known)
        return fail_nomem(&s->cx, sizeof(PyObject));
    st = driver_nki(program->graph, &user, t);
    Py_DECREF(p.known);
    return st;
}

PyObject *
program_nki(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Program *p = (Program *)self;

    if (p->graph->dialect != &tile_dialect)
        return raise_plain(p->session->st, E_Unsupported, "NKI-1081 only a tile program has a NKI form");
    if (!program_is_legal(p))
        return NULL;
    return written(p, write_nki, 0);
}

/* ---- to look at ---- */

PyObject *
program_brief(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_ops", NULL};
    Program *p = (Program *)self;
    PyObject *given = Py_None;
    uint32_t max = UINT32_MAX;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:brief", names, &given))
        return NULL;
    if (given != Py_None) {
        Py_ssize_t n = PyNumber_AsSsize_t(given, NULL);

        if (n == -1 && PyErr_Occurred())
            return NULL;
        max = n < 0 ? 0 : n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
    }
    return written(p, write_brief, max);
}

PyObject *
program_html(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *display = PyImport_ImportModule("nkigen.display"), *r;

    if (!display)
        return NULL;
    r = PyObject_CallMethod(display, "program_html", "O", self);
    Py_DECREF(display);
    return r;
}

/* ---- to compare ---- */

static int
update(PyObject *hash, PyObject *bytes)
{
    PyObject *r = bytes ? PyObject_CallMethod(hash, "update", "O", bytes) : NULL;

    Py_XDECREF(bytes);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

/* The bytes that the brief text leaves out, in program order. */
static int
update_data(PyObject *hash, const Graph *g)
{
    FOR_OPS(g, o) {
        int n;
        const AttrItem *item = attr_items(g->cx, graph_op(g, o)->attr, &n);

        for (int i = 0; i < n; i++) {
            const Data *d = attr_kind((Key)item[i].key) == AK_data ? item[i].data : NULL;

            if (d && is_long_data(d) &&
                update(hash, PyMemoryView_FromMemory((char *)(uintptr_t)d->p, (Py_ssize_t)d->bytes, PyBUF_READ)) < 0)
                return -1;
        }
    }
    return 0;
}

PyObject *
program_digest(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Program *p = (Program *)self;
    PyObject *hashlib = PyImport_ImportModule("hashlib"), *none = PyTuple_New(0), *size = NULL, *make = NULL;
    PyObject *hash = NULL, *text = NULL, *r = NULL;

    if (hashlib && none && (make = PyObject_GetAttrString(hashlib, "blake2b")))
        size = Py_BuildValue("{si}", "digest_size", 32);
    if (size)
        hash = PyObject_Call(make, none, size);
    if (hash)
        text = written(p, write_brief, UINT32_MAX);
    if (text && update(hash, PyUnicode_AsUTF8String(text)) == 0 && update_data(hash, p->graph) == 0)
        r = PyObject_CallMethod(hash, "digest", NULL);
    Py_XDECREF(text);
    Py_XDECREF(hash);
    Py_XDECREF(size);
    Py_XDECREF(make);
    Py_XDECREF(none);
    Py_XDECREF(hashlib);
    return r;
}

PyObject *
program_richcompare(PyObject *a, PyObject *b, int op)
{
    PyObject *x, *y, *r = NULL;

    if (Py_TYPE(a) != Py_TYPE(b) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    x = program_digest(a, NULL);
    y = x ? program_digest(b, NULL) : NULL;
    if (y)
        r = PyObject_RichCompare(x, y, op);
    Py_XDECREF(x);
    Py_XDECREF(y);
    return r;
}

Py_hash_t
program_hash(PyObject *self)
{
    PyObject *digest = program_digest(self, NULL);
    Py_hash_t h = digest ? PyObject_Hash(digest) : -1;

    Py_XDECREF(digest);
    return h;
}
