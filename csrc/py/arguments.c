/* arguments.c - what NumPy functions are called with: binding to a signature, then conversion.
 *
 * in:   positional and keyword arguments as Python passes them, and a signature of functions.def
 * out:  one object per parameter; integers, axes, flags, dtypes and values from those
 * rule: binds like Python would. An argument that would be ignored is an error. Failures raise at the user's line and
 *       return -1 or NULL.
 */
#include "py/py.h"

#include <string.h>

/* ---- binding ---- */

typedef enum ParamKind { P_required, P_optional, P_default, P_rest } ParamKind;
typedef struct Param {
    const char *name, *allowed; /* P_default: values that change nothing, with '|' between */
    size_t len, allowed_len;
    ParamKind kind;
    bool keyword_only;
} Param;

static int
parse_signature(const char *sig, Param *p)
{
    bool keyword_only = false;
    int n = 0;

    while (*sig) {
        size_t len = strcspn(sig, " "), name = strcspn(sig, " ?!");
        Param *q = &p[n];

        if (len == 1 && sig[0] == '*') {
            keyword_only = true;
        } else {
            *q = (Param){.name = sig, .len = name, .keyword_only = keyword_only};
            q->kind = name == len ? P_required : sig[name] == '?' ? P_optional : P_default;
            if (sig[0] == '*') {
                q->kind = P_rest;
                q->name++;
                q->len--;
                keyword_only = true;
            }
            if (q->kind == P_default && name + 1 < len && sig[name + 1] == '=') {
                q->allowed = sig + name + 2;
                q->allowed_len = len - name - 2;
            }
            n++;
        }
        sig += len + (sig[len] == ' ');
    }
    return n;
}

static bool
is_allowed(const Param *p, PyObject *v)
{
    const char *text, *at = p->allowed, *end = at + p->allowed_len;
    PyObject *str;
    bool hit = false;

    if (v == Py_None)
        return true;
    if (!at || !(PyUnicode_Check(v) || PyBool_Check(v)))
        return false;
    str = PyObject_Str(v);
    text = str ? PyUnicode_AsUTF8(str) : NULL;
    while (text && at < end && !hit) {
        size_t n = strcspn(at, "| ");

        hit = strlen(text) == n && memcmp(at, text, n) == 0;
        at += n + 1;
    }
    PyErr_Clear();
    Py_XDECREF(str);
    return hit;
}

static int
bind_keywords(Session *s, const char *name, PyObject *kwargs, const Param *p, int np, PyObject **out)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;

    while (PyDict_Next(kwargs, &at, &key, &value)) {
        Py_ssize_t len;
        const char *k = PyUnicode_AsUTF8AndSize(key, &len);
        int i;

        if (!k)
            return -1;
        for (i = 0; i < np; i++)
            if (p[i].kind != P_rest && (size_t)len == p[i].len && memcmp(k, p[i].name, p[i].len) == 0)
                break;
        if (i == np) {
            raise_here(s, E_Unsupported, "NKI-1100 %s: the argument '%s' is not supported", name, k);
            return -1;
        }
        if (out[i]) {
            raise_here(s, E_DType, "NKI-1101 %s: got multiple values for argument '%s'", name, k);
            return -1;
        }
        out[i] = value;
    }
    return 0;
}

/* The positional arguments; the tuple of a '*name' parameter is new (*rest). */
static int
bind_positional(Session *s, const char *name, PyObject *const *args, Py_ssize_t n, const Param *p, int np,
                PyObject **out, PyObject **rest)
{
    int positional = 0;

    for (int i = 0; i < np; i++) {
        out[i] = NULL;
        if (p[i].kind == P_rest) {
            Py_ssize_t extra = MAX(n - positional, 0);

            *rest = out[i] = PyTuple_New(extra);
            for (Py_ssize_t k = 0; *rest && k < extra; k++)
                PyTuple_SET_ITEM(*rest, k, Py_NewRef(args[positional + k]));
            if (!*rest)
                return -1;
            n -= extra;
        } else if (!p[i].keyword_only) {
            out[i] = positional < n ? args[positional] : NULL;
            positional++;
        }
    }
    if (n <= positional)
        return 0;
    raise_here(s, E_DType, "NKI-1102 %s: takes at most %d positional arguments, got %zd", name, positional, n);
    return -1;
}

int
bind_arguments(Session *s, const char *name, const char *sig, PyObject *const *args, Py_ssize_t n, PyObject *kwargs,
               PyObject **out, PyObject **rest)
{
    Param p[MAX_PARAMS];
    int np = parse_signature(sig, p);

    if (bind_positional(s, name, args, n, p, np, out, rest) < 0 ||
        (kwargs && bind_keywords(s, name, kwargs, p, np, out) < 0))
        return -1;
    for (int i = 0; i < np; i++) {
        if (out[i] == s->st->no_value)
            out[i] = NULL;
        if (!out[i] && p[i].kind == P_required) {
            raise_here(s, E_DType, "NKI-1103 %s: missing argument '%.*s'", name, (int)p[i].len, p[i].name);
            return -1;
        }
        if (out[i] && p[i].kind == P_default && !is_allowed(&p[i], out[i])) {
            raise_here(s, E_Unsupported, "NKI-1104 %s: the argument '%.*s' is not supported", name, (int)p[i].len,
                       p[i].name);
            return -1;
        }
    }
    return 0;
}

/* ---- conversion ---- */

int
int_of(Session *s, const char *name, PyObject *o, int64_t *out)
{
    int64_t list[MAX_RANK];
    int n;

    if (PyTuple_Check(o) || PyList_Check(o) || (PyArray_Check(o) && PyArray_NDIM((PyArrayObject *)o) > 0)) {
        raise_here(s, E_DType, "NKI-1105 %s: expected an integer, got %.100s", name, Py_TYPE(o)->tp_name);
        return -1;
    }
    if (indices_of(s, name, o, true, list, &n) < 0)
        return -1;
    if (n != 1) {
        raise_here(s, E_Shape, "NKI-1106 %s: expected one integer, got %d", name, n);
        return -1;
    }
    *out = list[0];
    return 0;
}

int
plain_int_of(Session *s, const char *name, PyObject *o, int64_t *out)
{
    if (!PyBool_Check(o) && !PyArray_IsScalar(o, Bool))
        return int_of(s, name, o, out);
    raise_here(s, E_DType, "NKI-1107 %s: expected an integer, got %.100s", name, Py_TYPE(o)->tp_name);
    return -1;
}

int
axes_of(Session *s, const char *name, PyObject *o, int64_t *axes, int *n)
{
    *n = -1; /* all */
    if (!given(o))
        return 0;
    if (PyTuple_Check(o))
        return dims_of(s, name, o, axes, n);
    *n = 1;
    return plain_int_of(s, name, o, axes);
}

/* Makes a negative axis count from the front. */
static int
normal_axis(Session *s, const char *name, int rank, int64_t *axis)
{
    if (*axis < -rank || *axis >= rank) {
        raise_here(s, E_Shape, "NKI-1108 %s: axis %lld is out of bounds for array of dimension %d", name,
                   (long long)*axis, rank);
        return -1;
    }
    *axis += *axis < 0 ? rank : 0;
    return 0;
}

int
axis_of(Session *s, const char *name, PyObject *o, int64_t absent, int rank, int64_t *axis)
{
    *axis = absent;
    if (o && int_of(s, name, o, axis) < 0)
        return -1;
    return normal_axis(s, name, rank, axis);
}

int
flag_of(Session *s, const char *name, PyObject *o, bool *out)
{
    int v = o ? PyObject_IsTrue(o) : 0;

    *out = v > 0;
    if (v < 0 || !o || PyBool_Check(o) || PyArray_IsScalar(o, Bool) ||
        (PyIndex_Check(o) && !is_traced(o) && !PySequence_Check(o)))
        return v < 0 ? -1 : 0;
    raise_here(s, E_DType, "NKI-1109 %s: expected True or False, got %.100s", name, Py_TYPE(o)->tp_name);
    return -1;
}

/* What an object's own __float__ or __index__ raises stays. */
int
real_of(Session *s, const char *name, PyObject *o, double *out)
{
    const PyNumberMethods *as = Py_TYPE(o)->tp_as_number;

    if (is_traced(o) || !as || !(as->nb_float || as->nb_index)) {
        raise_here(s, E_DType, "NKI-1110 %s: expected a number, got %.100s", name, Py_TYPE(o)->tp_name);
        return -1;
    }
    *out = PyFloat_AsDouble(o);
    if (*out != -1 || !PyErr_Occurred())
        return 0;
    if (PyLong_Check(o)) {
        PyErr_Clear();
        raise_here(s, E_DType, "NKI-1111 %s: the integer is too large for a float", name);
    }
    return -1;
}

int
dtype_arg(Session *s, PyObject *o, DType *dt)
{
    return given(o) ? dtype_of_object(s->st, s, o, dt) : 0;
}

int
two_operands(Session *s, const char *name, PyObject *const *a, Val *x, Val *y)
{
    return traced_operand(s, name, a[0], x) < 0 ? -1 : traced_operand(s, name, a[1], y);
}

Py_ssize_t
values_of(Session *s, const char *name, PyObject *seq, Val **out)
{
    PyObject *list = is_traced(seq) || PySequence_Check(seq) ? PySequence_List(seq) : NULL;
    Py_ssize_t n;

    if (!list) {
        if (!PyErr_Occurred())
            raise_here(s, E_DType, "NKI-1112 %s: expected a sequence of arrays, got %.100s", name,
                       Py_TYPE(seq)->tp_name);
        return -1;
    }
    n = PyList_GET_SIZE(list);
    *out = arena_alloc(&s->cx.scratch, sizeof(Val) * (size_t)(n + 1));
    if (!*out) {
        PyErr_NoMemory();
        n = -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (traced_operand(s, name, PyList_GET_ITEM(list, i), &(*out)[i]) < 0)
            n = -1;
    Py_DECREF(list);
    return n;
}

PyObject *
as_traced(Session *s, const char *name, PyObject *o)
{
    PyObject *x;
    Val v;

    if (is_traced(o))
        return usable(s, o) ? Py_NewRef(o) : NULL;
    x = live_array(s, o);
    if (x || PyErr_Occurred())
        return x;
    return traced_operand(s, name, o, &v) < 0 ? NULL : traced_array(s, ST_OK, v, !PyArray_Check(o));
}

PyObject *
unpacked(PyObject *rest)
{
    PyObject *o = PyTuple_GET_SIZE(rest) == 1 ? PyTuple_GET_ITEM(rest, 0) : NULL;
    bool array = o && PyArray_Check(o) && PyArray_NDIM((PyArrayObject *)o) > 0;

    return o && (o == Py_None || array || !PyIndex_Check(o)) ? o : rest;
}

int
normal_axes(Session *s, const char *name, PyObject *o, int rank, int64_t *axes, int *n)
{
    if (indices_of(s, name, o, true, axes, n) < 0)
        return -1;
    for (int i = 0; i < *n; i++)
        if (normal_axis(s, name, rank, &axes[i]) < 0)
            return -1;
    return 0;
}

int
distinct_axes(Session *s, const char *name, PyObject *o, int rank, int64_t *axes, int *n)
{
    unsigned seen = 0;

    if (normal_axes(s, name, o, rank, axes, n) < 0)
        return -1;
    for (int i = 0; i < *n; i++) {
        if (seen >> axes[i] & 1) {
            raise_here(s, E_Shape, "NKI-1113 %s: axis %lld is repeated", name, (long long)axes[i]);
            return -1;
        }
        seen |= 1u << axes[i];
    }
    return 0;
}
