/* errors.c - Status and source locations become Python exceptions; the only place that makes them.
 *
 * A location is a code object and an instruction offset, recorded while tracing and resolved only to print. The Session
 * keeps the code objects alive. Frames of NumPy and of nkigen's own helpers are not the user's and are skipped.
 */
#include "py/py.h"

#include <string.h>
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

static Error
error_of(Status st, Error user)
{
    switch (st) {
    case ST_USER:
        return user;
    case ST_TYPE:
        return E_DType;
    case ST_UNSUPPORTED:
        return E_Unsupported;
    case ST_LIMIT:
        return E_HardwareLimit;
    default:
        return E_Internal;
    }
}

/* (code, offset) or (None, line, column), as the tail of the arguments of NkigenError.at; None: unknown. */
PyObject *
loc_object(Session *s, LocId loc)
{
    const Loc *l = loc.i ? loc_get(&s->cx, loc) : NULL;

    if (!l || (!l->code && !l->line))
        Py_RETURN_NONE;
    if (l->code)
        return Py_BuildValue("(Oi)", (PyObject *)l->code, (int)l->offset);
    return Py_BuildValue("(Oii)", Py_None, (int)l->line, (int)l->offset);
}

/* A message as NkigenError takes it: the code in front. */
PyObject *
coded_message(int code, const char *msg)
{
    PyObject *text = PyUnicode_DecodeUTF8(msg, (Py_ssize_t)strlen(msg), "replace"), *coded;

    if (!text || !code)
        return text;
    coded = PyUnicode_FromFormat("NKI-%04d %U", code, text);
    Py_DECREF(text);
    return coded;
}

static PyObject *
raise_at(State *st, Error e, int code, const char *msg, PyObject *where)
{
    PyObject *text, *exc = NULL;

    text = coded_message(code, msg);
    if (!text)
        return NULL;
    if (where == Py_None)
        exc = PyObject_CallOneArg(st->error[e], text);
    else if (PyTuple_GET_SIZE(where) == 2)
        exc = PyObject_CallMethod(st->error[e], "at", "OOO", text, PyTuple_GET_ITEM(where, 0),
                                  PyTuple_GET_ITEM(where, 1));
    else
        exc = PyObject_CallMethod(st->error[e], "at", "OOOO", text, PyTuple_GET_ITEM(where, 0),
                                  PyTuple_GET_ITEM(where, 1), PyTuple_GET_ITEM(where, 2));
    Py_DECREF(text);
    if (exc)
        PyErr_SetObject(st->error[e], exc);
    Py_XDECREF(exc);
    return NULL;
}

PyObject *
raise_status(Session *s, Status st, Error user)
{
    const ErrorInfo *err = &s->cx.err;
    PyObject *where;

    if (PyErr_Occurred()) /* a signal handler raised while C code ran */
        return NULL;
    if (st == ST_NOMEM)
        return PyErr_NoMemory();
    if (err->line)
        where = Py_BuildValue("(Oii)", Py_None, err->line, err->col);
    else
        where = loc_object(s, err->loc);
    if (!where)
        return NULL;
    raise_at(s->st, error_of(st, err->line ? E_Parse : user), err->code,
             err->msg[0] ? err->msg : "failed without a message", where);
    Py_DECREF(where);
    return NULL;
}

PyObject *
raise_plain(State *st, Error e, const char *fmt, ...)
{
    char msg[1000];
    int code = take_code(&fmt);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    return raise_at(st, e, code, msg, Py_None);
}

PyObject *
raise_here(Session *s, Error e, const char *fmt, ...)
{
    char msg[1000];
    int code = take_code(&fmt);
    PyObject *where;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    where = loc_object(s, here(s));
    if (where) {
        raise_at(s->st, e, code, msg, where);
        Py_DECREF(where);
    }
    return NULL;
}

PyObject *
raise_instead(Session *s, Error e, const char *what, const char *unsaid)
{
    PyObject *type, *value, *tb, *text;

    PyErr_Fetch(&type, &value, &tb);
    text = value ? utf8_of(value) : NULL;
    PyErr_Clear(); /* of its __str__ */
    raise_here(s, e, "NKI-1001 %s: %.400s", what, text ? PyBytes_AS_STRING(text) : unsaid);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(tb);
    return NULL;
}

PyObject *
utf8_of(PyObject *o)
{
    PyObject *text = PyObject_Str(o), *r = text ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;

    Py_XDECREF(text);
    return r;
}

const char *
text_of(State *st, PyObject *str, Py_ssize_t *n)
{
    const char *p = PyUnicode_AsUTF8AndSize(str, n);

    if (!p && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear();
        raise_plain(st, E_Parse, "NKI-1002 the text holds a surrogate without its other half: it is no Unicode text");
    }
    return p;
}

/* ---- the user's current place ---- */

static int32_t
frame_offset(PyFrameObject *f)
{
#if PY_VERSION_HEX >= 0x030b0000
    return PyFrame_GetLasti(f);
#else
    return f->f_lasti * 2;
#endif
}

static bool
is_skipped(State *st, PyCodeObject *code)
{
    PyObject *name = code->co_filename;

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(st->skip); i++) {
        int hit = PyUnicode_Tailmatch(name, PyTuple_GET_ITEM(st->skip, i), 0, PY_SSIZE_T_MAX, -1);
        if (hit < 0)
            PyErr_Clear();
        if (hit > 0)
            return true;
    }
    return false;
}

/* Whether a code object is the user's; remembers the answer and keeps the object alive. -1: exception. */
static int
is_user_code(Session *s, PyCodeObject *code)
{
    PyObject *key, *dict;
    int user = -1;

    if ((const void *)code == s->last_code)
        return 1;
    key = PyLong_FromVoidPtr(code);
    if (!key)
        return -1;
    if (PyDict_Contains(s->user_codes, key) > 0) {
        user = 1;
    } else if (PyDict_Contains(s->other_codes, key) > 0) {
        user = 0;
    } else {
        user = !is_skipped(s->st, code);
        dict = user ? s->user_codes : s->other_codes;
        if (PyDict_SetItem(dict, key, (PyObject *)code) < 0)
            user = -1;
    }
    Py_DECREF(key);
    if (user == 1)
        s->last_code = code;
    return user;
}

/* Never raises: without memory or a user frame the location is unknown. */
LocId
here(Session *s)
{
    PyFrameObject *f = PyEval_GetFrame(), *back;
    LocId loc = {0};

    Py_XINCREF(f);
    while (f) {
        PyCodeObject *code = PyFrame_GetCode(f);
        int user = is_user_code(s, code);

        Py_DECREF(code); /* the frame or a dict holds it */
        if (user < 0)
            PyErr_Clear();
        if (user != 0) {
            if (user > 0 && loc_make(&s->cx, code, frame_offset(f), 0, &loc) != ST_OK)
                loc.i = 0;
            break;
        }
        back = PyFrame_GetBack(f);
        Py_DECREF(f);
        f = back;
    }
    Py_XDECREF(f);
    return loc;
}

/* ---- one thread at a time inside a Ctx ---- */

static long
process_id(void)
{
#if defined(__unix__) || defined(__APPLE__)
    return (long)getpid();
#else
    return 0;
#endif
}

/* After a fork the lock may be held by a thread that only the parent has. The simulator alone runs without the GIL,
 * and all it changes in a Ctx is the error and the count of bytes, so the Ctx is whole and only the lock is lost.
 * Whoever holds a lock has set `process`: a holder of another process is none of ours. */
static bool
renew_lock(Session *s)
{
    PyThread_type_lock lock = PyThread_allocate_lock();

    if (!lock) {
        PyErr_NoMemory();
        return false;
    }
    s->lock = lock; /* the old one stays: to free a lock that is held is undefined */
    s->locked = false;
    return PyThread_acquire_lock(lock, NOWAIT_LOCK);
}

bool
session_enter(Session *s)
{
    if (!PyThread_acquire_lock(s->lock, NOWAIT_LOCK)) {
        bool mine = s->locked && s->owner == PyThread_get_thread_ident(), forked = s->process != process_id();

        if (mine && !forked) {
            raise_plain(s->st, E_Nkigen, "NKI-1003 %s", "this kernel is already running in this thread");
            return false;
        }
        if (forked && !renew_lock(s))
            return false;
        if (!forked) {
            Py_BEGIN_ALLOW_THREADS PyThread_acquire_lock(s->lock, WAIT_LOCK);
            Py_END_ALLOW_THREADS
        }
    }
    s->owner = PyThread_get_thread_ident();
    s->process = process_id();
    s->locked = true;
    memset(&s->cx.err, 0, offsetof(ErrorInfo, msg) + 1);
    return true;
}

void
session_leave(Session *s)
{
    s->locked = false;
    PyThread_release_lock(s->lock);
}
