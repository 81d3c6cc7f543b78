/* cell.c - arrays are objects: who owns elements, who sees those of another, and what a write does.
 *
 * A TracedArray owns its elements, or is a view: a chain of layout ops from the elements of its base. An owner holds
 * the value of now and counts its writes; a view remembers its value until the base counts on. Strides are NumPy's;
 * they decide what is a view. A 0-d result is a NumPy scalar: immutable, and what is made of it is a copy.
 *
 * in:   handles and layout ops; values to write
 * out:  handles that see the same elements, or copies where NumPy copies
 * rule: a write is an update of the value, carried back along the chain; a value itself never changes
 */
#include "py/py.h"

#include <string.h>

static PyObject *
failed(Session *s, Status st)
{
    return raise_status(s, st, E_Shape);
}

static inline Traced *
owner(Traced *t)
{
    return t->base ? t->base : t;
}

const Type *
traced_type(PyObject *o)
{
    return val_type(((Traced *)o)->graph, ((Traced *)o)->val); /* a write changes the value, never the type */
}

void
traced_strides(PyObject *o, int64_t *stride)
{
    const Type *ty = traced_type(o);

    if (((Traced *)o)->stride)
        memcpy(stride, ((Traced *)o)->stride, sizeof(int64_t) * ty->rank);
    else
        strides_c(ty, stride);
}

static Status
keep_strides(Session *s, Traced *t, const int64_t *stride)
{
    const Type *ty = traced_type((PyObject *)t);
    int64_t *own;

    if (!stride || strides_are_c(ty, stride))
        return ST_OK;
    NEW(&s->cx, &s->cx.arena, own, ty->rank);
    memcpy(own, stride, sizeof(int64_t) * ty->rank);
    t->stride = own;
    return ST_OK;
}

/* ---- values ---- */

static Status
step_value(Graph *g, const View *w, Val x, Val *v)
{
    return t_emit(g, (TOp)w->op, &x, 1, w->attr, w->loc, v);
}

/* The chain of a view, from the base on. */
static Status
steps_of(Session *s, const View *last, const View ***out)
{
    const View **step;

    NEW(&s->cx, &s->cx.scratch, step, last->depth);
    for (const View *w = last; w; w = w->before)
        step[w->depth - 1] = w;
    *out = step;
    return ST_OK;
}

static Status
replay(Traced *t)
{
    const View **step;
    Val v = t->base->val;

    TRY(steps_of(t->session, t->view, &step));
    for (uint32_t i = 0; i < t->view->depth; i++)
        TRY(step_value(t->graph, step[i], v, &v));
    t->val = v;
    t->version = t->base->version;
    return ST_OK;
}

int
traced_val(PyObject *o, Val *out)
{
    Traced *t = (Traced *)o;
    Status st = t->view && t->version != t->base->version ? replay(t) : ST_OK;

    if (st != ST_OK)
        failed(t->session, st);
    else if (t->base && !t->view)
        *out = t->base->val;
    else
        *out = t->val;
    return st == ST_OK ? 0 : -1;
}

/* ---- handles ---- */

/* Dims and strides of an array, an axis of size 1 put in at `axis` (< 0: none); false for what has none. */
static bool
layout_of(PyObject *o, int axis, Type *type, int64_t *stride)
{
    Type ty;
    int64_t had[MAX_RANK];

    if (is_traced(o)) {
        ty = *traced_type(o);
        traced_strides(o, had);
    } else if (PyArray_Check(o) && PyArray_NDIM((PyArrayObject *)o) <= MAX_RANK) {
        PyArrayObject *a = (PyArrayObject *)o;

        ty = (Type){.rank = (uint8_t)PyArray_NDIM(a)};
        for (int k = 0; k < PyArray_NDIM(a); k++) {
            ty.dim[k] = PyArray_DIM(a, k);
            had[k] = PyArray_STRIDE(a, k); /* bytes: only their order counts */
        }
    } else {
        return false;
    }
    *type = (Type){.rank = (uint8_t)MIN(ty.rank + (axis >= 0), MAX_RANK)};
    for (int k = 0, from = 0; k < type->rank; k++) {
        type->dim[k] = k == axis ? 1 : ty.dim[from];
        stride[k] = k == axis ? 0 : had[from++];
    }
    return true;
}

bool
is_c_order(PyObject *o)
{
    if (is_traced(o))
        return !((Traced *)o)->stride;
    return !PyArray_Check(o) || PyArray_IS_C_CONTIGUOUS((PyArrayObject *)o);
}

/* The result of an op in the memory order that NumPy gives it: that of its operands. */
static Status
order_like(Session *s, Traced *t, PyObject *const *in, Py_ssize_t n, int axis)
{
    const Type *ty = traced_type((PyObject *)t);
    int64_t (*stride)[MAX_RANK], out[MAX_RANK];
    bool plain = ty->rank < 2;
    Laid *laid;
    Type *type;
    int m = 0;

    if (!plain) {
        plain = true;
        for (Py_ssize_t i = 0; i < n && plain; i++)
            plain = is_c_order(in[i]);
    }
    if (plain)
        return ST_OK;
    NEW(&s->cx, &s->cx.scratch, laid, n);
    NEW(&s->cx, &s->cx.scratch, type, n);
    NEW(&s->cx, &s->cx.scratch, stride, n);
    for (Py_ssize_t i = 0; i < n; i++)
        if (layout_of(in[i], axis, &type[m], stride[m])) {
            laid[m] = (Laid){&type[m], stride[m]};
            m++;
        }
    strides_keep(laid, m, ty->rank, ty->dim, out);
    return keep_strides(s, t, out);
}

PyObject *
traced_joined(Session *s, PyObject *r, PyObject *seq, int axis)
{
    PyObject *items = r && !is_traced(seq) ? PySequence_Tuple(seq) : NULL;
    Status st = ST_OK;

    if (items)
        st = order_like(s, (Traced *)r, ((PyTupleObject *)items)->ob_item, PyTuple_GET_SIZE(items), axis);
    Py_XDECREF(items);
    if (!PyErr_Occurred() && st == ST_OK)
        return r;
    Py_XDECREF(r);
    return PyErr_Occurred() ? NULL : failed(s, st);
}

PyObject *
traced_like(Session *s, Status st, Val v, PyObject *const *in, int n)
{
    PyObject *r = st == ST_OK ? traced_new(s, v) : failed(s, st);

    if (r && (st = order_like(s, (Traced *)r, in, n, -1)) != ST_OK) {
        Py_DECREF(r);
        return failed(s, st);
    }
    return r;
}

/* A reduction keeps the order of the axes that stay. */
static Status
order_reduced(Session *s, Traced *t, const Traced *in, const int64_t *axes, int n)
{
    Type ty = *traced_type((PyObject *)in);
    Laid laid = {&ty, in->stride};
    const Type *to = traced_type((PyObject *)t);
    int64_t dim[MAX_RANK], out[MAX_RANK];
    unsigned gone = n < 0 ? ~0u : 0;
    int rank = 0;

    for (int i = 0; i < n; i++)
        gone |= 1u << (axes[i] < 0 ? axes[i] + ty.rank : axes[i]);
    for (int i = 0; i < ty.rank; i++)
        dim[i] = gone >> i & 1 ? 1 : ty.dim[i];
    strides_keep(&laid, 1, ty.rank, dim, out);
    for (int i = 0; i < ty.rank; i++)
        if (to->rank == ty.rank || !(gone >> i & 1))
            out[rank++] = out[i];
    return keep_strides(s, t, out);
}

PyObject *
traced_reduced(Session *s, Status st, Val v, PyObject *in, const int64_t *axes, int n)
{
    PyObject *r = st == ST_OK ? traced_new(s, v) : failed(s, st);

    if (r && is_traced(in) && ((Traced *)in)->stride)
        st = order_reduced(s, (Traced *)r, (Traced *)in, axes, n);
    if (st == ST_OK || !r)
        return r;
    Py_DECREF(r);
    return failed(s, st);
}

PyObject *
traced_array(Session *s, Status st, Val v, bool scalar)
{
    PyObject *r = st == ST_OK ? traced_new(s, v) : failed(s, st);

    if (r)
        ((Traced *)r)->scalar = scalar;
    return r;
}

PyObject *
traced_copy(Session *s, PyObject *of, Val v, bool keep_order)
{
    const Traced *t = (Traced *)of;
    PyObject *r = traced_array(s, ST_OK, v, t->scalar);
    int64_t stride[MAX_RANK];
    Laid laid = {traced_type(of), t->stride};
    Status st = ST_OK;

    if (r && keep_order && t->stride) {
        strides_copy(&laid, stride);
        st = keep_strides(s, (Traced *)r, stride);
    }
    if (st == ST_OK)
        return r;
    Py_DECREF(r);
    return failed(s, st);
}

static Status
add_step(Session *s, Traced *t, Traced *of, TOp op, const AttrItem *item, int n)
{
    View *w;

    t->base = (Traced *)Py_NewRef((PyObject *)owner(of));
    t->version = t->base->version;
    t->readonly = of->readonly;
    t->view = of->view;
    if (op == T_none)
        return ST_OK;
    NEW(&s->cx, &s->cx.arena, w, 1);
    *w = (View){.before = of->view, .op = op, .from = *traced_type((PyObject *)of), .loc = here(s)};
    w->depth = (of->view ? of->view->depth : 0) + 1;
    TRY(attr_make(&s->cx, item, n, &w->attr));
    t->view = w;
    return ST_OK;
}

/* A handle on value v, which is one layout op away from `of`; T_none: the same elements. */
static PyObject *
derive(Session *s, PyObject *of, Val v, const int64_t *stride, TOp op, const AttrItem *item, int n)
{
    PyObject *r = traced_array(s, ST_OK, v, false);
    Status st = r ? keep_strides(s, (Traced *)r, stride) : ST_OK;

    if (r && st == ST_OK && !((Traced *)of)->scalar)
        st = add_step(s, (Traced *)r, (Traced *)of, op, item, n);
    if (st == ST_OK)
        return r;
    Py_XDECREF(r);
    return failed(s, st);
}

/* Transposed or reshaped to no axes, a NumPy scalar stays one; with [...] it becomes an array. */
static PyObject *
scalar_if(PyObject *r, PyObject *of)
{
    if (r)
        ((Traced *)r)->scalar = ((Traced *)of)->scalar && traced_type(r)->rank == 0;
    return r;
}

/* A view that is all of its array, in order. Equal values do not say so: a reversed constant has the value it had. */
static bool
is_all(const Type *ty, const Box *b)
{
    for (int i = 0; i < b->rank; i++)
        if (b->size[i] != ty->dim[i] || (b->size[i] > 1 && b->step[i] != 1))
            return false;
    return true;
}

static bool
is_in_order(const int64_t *perm, int rank)
{
    for (int i = 0; i < rank; i++)
        if (perm[i] != i)
            return false;
    return true;
}

PyObject *
view_slice(Session *s, PyObject *of, const Box *b)
{
    int64_t stride[MAX_RANK], start[MAX_RANK], step[MAX_RANK];
    Val x, v = {0};
    Status st;

    if (traced_val(of, &x) < 0)
        return NULL;
    st = t_slice(s->graph, x, b->start, b->step, b->size, here(s), &v);
    if (st != ST_OK)
        return failed(s, st);
    traced_strides(of, stride);
    for (int i = 0; i < b->rank; i++) {
        stride[i] *= b->step[i];
        start[i] = b->size[i] ? b->start[i] : 0;
        step[i] = b->size[i] > 1 ? b->step[i] : 1;
    }
    AttrItem item[3] = {AT_INTS(A_start, start, b->rank), AT_INTS(A_step, step, b->rank),
                        AT_INTS(A_size, b->size, b->rank)};
    return derive(s, of, v, stride, is_all(traced_type(of), b) ? T_none : T_slice, item, 3);
}

PyObject *
view_transpose(Session *s, PyObject *of, const int64_t *perm, int n)
{
    int64_t had[MAX_RANK], stride[MAX_RANK], list[MAX_RANK];
    int rank = traced_type(of)->rank;
    Val x, v = {0};
    Status st;

    if (traced_val(of, &x) < 0)
        return NULL;
    st = t_transpose(s->graph, x, perm, n, here(s), &v);
    if (st != ST_OK)
        return failed(s, st);
    traced_strides(of, had);
    for (int i = 0; i < rank; i++) {
        list[i] = n == 0 ? rank - 1 - i : perm[i] < 0 ? perm[i] + rank : perm[i];
        stride[i] = had[list[i]];
    }
    return scalar_if(derive(s, of, v, stride, is_in_order(list, rank) ? T_none : T_transpose,
                            &AT_INTS(A_perm, list, rank), 1), of);
}

PyObject *
view_reshape(Session *s, PyObject *of, const int64_t *dim, int n)
{
    int64_t had[MAX_RANK], stride[MAX_RANK];
    const Type *to;
    PyObject *r;
    Val x, v = {0};
    Status st;

    if (traced_val(of, &x) < 0)
        return NULL;
    st = t_reshape(s->graph, x, dim, n, here(s), &v);
    if (st != ST_OK)
        return failed(s, st);
    to = type_of(s, v);
    traced_strides(of, had);
    if (!strides_reshape(traced_type(of), had, to, stride))
        return traced_array(s, ST_OK, v, false); /* a copy, in C order */
    r = derive(s, of, v, stride, v.i == x.i ? T_none : T_reshape, &AT_INTS(A_shape, to->dim, to->rank), 1);
    return scalar_if(r, of);
}

PyObject *
view_broadcast(Session *s, PyObject *of, const int64_t *dim, int n)
{
    int64_t had[MAX_RANK], stride[MAX_RANK] = {0};
    const Type *ty = traced_type(of);
    PyObject *r;
    Val x, v = {0};
    Status st;

    if (traced_val(of, &x) < 0)
        return NULL;
    st = t_broadcast_to(s->graph, x, dim, n, here(s), &v);
    if (st != ST_OK)
        return failed(s, st);
    traced_strides(of, had);
    for (int i = 0; i < ty->rank; i++)
        stride[n - ty->rank + i] = ty->dim[i] == 1 ? 0 : had[i];
    r = derive(s, of, v, stride, v.i == x.i ? T_none : T_broadcast_to, &AT_INTS(A_shape, dim, n), 1);
    if (r)
        ((Traced *)r)->readonly = true;
    return r;
}

PyObject *
view_restrided(Session *s, PyObject *view, const int64_t *stride)
{
    Status st;

    ((Traced *)view)->stride = NULL;
    st = keep_strides(s, (Traced *)view, stride);
    if (st == ST_OK)
        return view;
    Py_DECREF(view);
    return failed(s, st);
}

/* ---- writing ---- */

/* The value before a step, given that after it. */
static Status
undo_step(Graph *g, const View *w, Val before, Val after, LocId loc, Val *v)
{
    Op op = {.attr = w->attr};
    int64_t back[MAX_RANK];
    const int64_t *perm;
    Box b;
    int n;

    switch ((TOp)w->op) {
    case T_slice:
        b = box_of(g, &op);
        return t_update(g, before, after, &b, loc, v);
    case T_transpose:
        n = attr_ints(g->cx, w->attr, A_perm, &perm);
        for (int i = 0; i < n; i++)
            back[perm[i]] = i;
        return t_transpose(g, after, back, n, loc, v);
    default:
        return t_reshape(g, after, w->from.dim, w->from.rank, loc, v);
    }
}

static Status
write_back(Session *s, Traced *t, Val v, LocId loc, Val *out)
{
    const View **step;
    Val *at;
    uint32_t n = t->view->depth;

    TRY(steps_of(s, t->view, &step));
    NEW(&s->cx, &s->cx.scratch, at, n); /* at[i]: the value that step i is made of */
    at[0] = t->base->val;
    for (uint32_t i = 0; i + 1 < n; i++)
        TRY(step_value(s->graph, step[i], at[i], &at[i + 1]));
    for (uint32_t i = n; i-- > 0;)
        TRY(undo_step(s->graph, step[i], at[i], v, loc, &v));
    *out = v;
    return ST_OK;
}

int
traced_write(Session *s, PyObject *o, Val v)
{
    Traced *t = (Traced *)o, *own = owner(t);
    Val whole = v;
    Status st = t->view ? write_back(s, t, v, here(s), &whole) : ST_OK;

    if (st != ST_OK) {
        failed(s, st);
        return -1;
    }
    own->val = whole;
    own->version++;
    t->val = v;
    t->version = own->version;
    return 0;
}

bool
is_writable(Session *s, PyObject *o)
{
    if (!((Traced *)o)->readonly)
        return true;
    raise_here(s, E_Shape,
               "NKI-1096 assignment destination is read-only, as a broadcast of another array is; write to a copy");
    return false;
}
