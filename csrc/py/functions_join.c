/* functions_join.c - NumPy functions that join, split and move elements along axes.
 *
 * in:   bound arguments, one object or NULL per parameter in the order of functions.def
 * out:  traced arrays, or lists of them
 * rule: everything becomes slices, concatenations, reshapes and broadcasts; only a triangle needs a mask
 */
#include "py/py.h"

#include <string.h>

#define MAX_SECTIONS (1 << 20) /* of a split */

/* ---- joining and splitting ---- */

static PyObject *
join(Session *s, const char *name, Val *v, Py_ssize_t n, int64_t axis, PyObject *dtype, PyObject *casting)
{
    DType dt;
    Val out = {0};
    LocId loc = here(s);
    Status st = ST_OK;

    if (given(dtype) && dtype_of_object(s->st, s, dtype, &dt) < 0)
        return NULL;
    for (Py_ssize_t i = 0; given(dtype) && st == ST_OK && i < n; i++) {
        if (check_cast(s, name, val_dtype(s->graph, v[i]), dt, given(casting) ? casting : s->st->same_kind) < 0)
            return NULL;
        st = t_cast(s->graph, v[i], dt, loc, &v[i]);
    }
    if (st == ST_OK)
        st = t_concat(s->graph, v, (int)n, axis, loc, &out);
    for (Py_ssize_t i = 0; given(casting) && !given(dtype) && st == ST_OK && i < n; i++)
        if (check_cast(s, name, val_dtype(s->graph, v[i]), val_dtype(s->graph, out), casting) < 0)
            return NULL;
    return traced_result(s, st, out);
}

PyObject *
fn_concatenate(Session *s, const char *name, PyObject *const *a)
{
    int64_t axis = 0;
    Val *v;
    LocId loc = here(s);
    Py_ssize_t n = values_of(s, name, a[0], &v);
    Status st = ST_OK;

    if (n < 0)
        return NULL;
    if (a[1] == Py_None)
        for (Py_ssize_t i = 0; st == ST_OK && i < n; i++)
            st = t_reshape(s->graph, v[i], (int64_t[]){type_numel(type_of(s, v[i]))}, 1, loc, &v[i]);
    else if (a[1] && plain_int_of(s, name, a[1], &axis) < 0)
        return NULL;
    if (st != ST_OK)
        return raise_status(s, st, E_Shape);
    return traced_joined(s, join(s, name, v, n, axis, a[3], a[4]), a[0], -1);
}

/* x with a new axis of size 1; fails unless the result has the shape of `like` (NULL: any). */
static Status
with_axis(Session *s, Val x, int64_t axis, const Type *like, LocId loc, Val *v)
{
    const Type *ty = type_of(s, x);
    int64_t dim[MAX_RANK];
    int rank = ty->rank + 1;

    if (like && like->rank != rank)
        return fail(&s->cx, ST_USER, loc, "NKI-1021 stack: all input arrays must have the same shape");
    for (int k = 0; k < rank; k++)
        dim[k] = k < axis ? ty->dim[k] : k == axis ? 1 : ty->dim[k - 1];
    if (like && memcmp(dim, like->dim, sizeof(int64_t) * (size_t)rank) != 0)
        return fail(&s->cx, ST_USER, loc, "NKI-1022 stack: all input arrays must have the same shape");
    return t_reshape(s->graph, x, dim, rank, loc, v);
}

PyObject *
fn_stack(Session *s, const char *name, PyObject *const *a)
{
    int64_t axis;
    LocId loc = here(s);
    Val *v;
    Py_ssize_t n = values_of(s, name, a[0], &v);
    Status st = ST_OK;

    if (n < 0)
        return NULL;
    if (n == 0)
        return raise_here(s, E_Shape, "NKI-1023 stack: need at least one array to stack");
    if (type_of(s, v[0])->rank == MAX_RANK)
        return raise_here(s, E_Unsupported, "NKI-1024 stack: the result would have more than %d dims", MAX_RANK);
    if (axis_of(s, name, a[1], 0, type_of(s, v[0])->rank + 1, &axis) < 0)
        return NULL;
    for (Py_ssize_t i = 0; st == ST_OK && i < n; i++)
        st = with_axis(s, v[i], axis, i ? type_of(s, v[0]) : NULL, loc, &v[i]);
    if (st != ST_OK)
        return raise_status(s, st, E_Shape);
    return traced_joined(s, join(s, name, v, n, axis, a[3], a[4]), a[0], (int)axis);
}

static PyObject *
stack_rows(Session *s, const char *name, PyObject *const *a, int min_rank, int64_t axis)
{
    Val *v;
    Py_ssize_t n = values_of(s, name, a[0], &v);
    Status st = ST_OK;

    for (Py_ssize_t i = 0; st == ST_OK && i < n; i++)
        st = at_least(s, v[i], min_rank, &v[i]);
    if (n < 0)
        return NULL;
    if (n && axis == 1 && type_of(s, v[0])->rank == 1)
        axis = 0;
    if (st != ST_OK)
        return raise_status(s, st, E_Shape);
    return traced_joined(s, join(s, name, v, n, axis, a[1], a[2]), a[0], -1);
}

PyObject *
fn_vstack(Session *s, const char *name, PyObject *const *a)
{
    return stack_rows(s, name, a, 2, 0);
}

PyObject *
fn_hstack(Session *s, const char *name, PyObject *const *a)
{
    return stack_rows(s, name, a, 1, 1);
}

/* Elements start, start + step, ... of one axis. */
static Status
part(Session *s, Val x, int64_t axis, int64_t start, int64_t step, int64_t size, LocId loc, Val *v)
{
    const Type *ty = type_of(s, x);
    int64_t st[MAX_RANK], by[MAX_RANK], n[MAX_RANK];

    for (int i = 0; i < ty->rank; i++) {
        st[i] = i == axis ? start : 0;
        by[i] = i == axis ? step : 1;
        n[i] = i == axis ? size : ty->dim[i];
    }
    return t_slice(s->graph, x, st, by, n, loc, v);
}

/* The view of elements start, start + step, ... of one axis. */
static PyObject *
view_part(Session *s, PyObject *x, int64_t axis, int64_t start, int64_t step, int64_t size)
{
    Box b = box_whole(traced_type(x));

    b.start[axis] = start;
    b.step[axis] = step;
    b.size[axis] = size;
    return view_slice(s, x, &b);
}

/* Appends elements [from, to) of an axis, with Python's rules for bounds, to a list. */
static int
append_part(Session *s, PyObject *list, PyObject *x, int64_t axis, int64_t from, int64_t to)
{
    Py_ssize_t begin = (Py_ssize_t)from, end = (Py_ssize_t)to;
    Py_ssize_t n = PySlice_AdjustIndices((Py_ssize_t)traced_type(x)->dim[axis], &begin, &end, 1);
    PyObject *item = view_part(s, x, axis, n ? begin : 0, 1, n);
    int r = item ? PyList_Append(list, item) : -1;

    Py_XDECREF(item);
    return r;
}

static PyObject *
split_at(Session *s, const char *name, PyObject *x, int64_t axis, PyObject *where)
{
    PyObject *list, *seq;
    int64_t from = 0;
    Py_ssize_t n;

    if (!Py_TYPE(where)->tp_iter && !PySequence_Check(where))
        return raise_here(s, E_DType, "NKI-1025 %s: expected a number of sections or indices, got %.100s", name,
                          Py_TYPE(where)->tp_name);
    seq = PySequence_Tuple(where);
    if (!seq)
        return NULL;
    n = PyTuple_GET_SIZE(seq);
    list = PyList_New(0);
    for (Py_ssize_t i = 0; list && i <= n; i++) {
        PyObject *item = i < n ? PyTuple_GET_ITEM(seq, i) : NULL;
        Py_ssize_t to = item && is_index(item) ? PyNumber_AsSsize_t(item, NULL) : PY_SSIZE_T_MAX;

        if (item && !is_index(item))
            raise_here(s, E_DType, "NKI-1026 %s: indices are integers, got %.100s", name, Py_TYPE(item)->tp_name);
        if (PyErr_Occurred() || append_part(s, list, x, axis, from, to) < 0)
            Py_CLEAR(list);
        from = to;
    }
    Py_DECREF(seq);
    return list;
}

static PyObject *
split_even(Session *s, const char *name, PyObject *x, int64_t axis, int64_t n, bool exact)
{
    int64_t size = traced_type(x)->dim[axis], from = 0;
    PyObject *list;

    if (n <= 0)
        return raise_here(s, E_Shape, "NKI-1027 %s: number of sections must be larger than 0, got %lld", name,
                          (long long)n);
    if (exact && size % n)
        return raise_here(s, E_Shape, "NKI-1028 %s: %lld elements along axis %lld do not split into %lld equal parts",
                          name, (long long)size, (long long)axis, (long long)n);
    if (n > MAX_SECTIONS)
        return raise_here(s, E_Unsupported, "NKI-1029 %s: %lld sections are not supported, at most %d", name,
                          (long long)n, MAX_SECTIONS);
    list = PyList_New(0);
    for (int64_t i = 0; list && i < n; i++) {
        int64_t to = from + size / n + (i < size % n);

        if (append_part(s, list, x, axis, from, to) < 0)
            Py_CLEAR(list);
        from = to;
    }
    return list;
}

static PyObject *
split_view(Session *s, const char *name, PyObject *x, PyObject *where, PyObject *axis_arg, int64_t axis, bool exact)
{
    int64_t n;

    if (axis_of(s, name, axis_arg, axis, traced_type(x)->rank, &axis) < 0)
        return NULL;
    if (!is_index(where))
        return split_at(s, name, x, axis, where);
    if (int_of(s, name, where, &n) < 0)
        return NULL;
    return split_even(s, name, x, axis, n, exact);
}

static PyObject *
split(Session *s, const char *name, PyObject *a, PyObject *where, PyObject *axis_arg, int64_t axis, bool exact)
{
    PyObject *x = as_traced(s, name, a), *r = x ? split_view(s, name, x, where, axis_arg, axis, exact) : NULL;

    Py_XDECREF(x);
    return r;
}

PyObject *
fn_split(Session *s, const char *name, PyObject *const *a)
{
    return split(s, name, a[0], a[1], a[2], 0, true);
}

PyObject *
fn_array_split(Session *s, const char *name, PyObject *const *a)
{
    return split(s, name, a[0], a[1], a[2], 0, false);
}

/* Along an axis of arrays with at least `least` dims. */
static PyObject *
split_axis(Session *s, const char *name, PyObject *const *a, int least, int64_t axis)
{
    Val x;
    int rank;

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    rank = type_of(s, x)->rank;
    if (rank < least)
        return raise_here(s, E_Shape, "NKI-1030 %s: works on arrays of %d or more dimensions, got %d", name, least,
                          rank);
    return split(s, name, a[0], a[1], NULL, MIN(axis, rank - 1), true);
}

PyObject *
fn_vsplit(Session *s, const char *name, PyObject *const *a)
{
    return split_axis(s, name, a, 2, 0);
}

PyObject *
fn_hsplit(Session *s, const char *name, PyObject *const *a)
{
    return split_axis(s, name, a, 1, 1);
}

/* ---- moving elements ---- */

static PyObject *
flip(Session *s, const char *name, PyObject *x, PyObject *axis)
{
    int64_t axes[MAX_RANK];
    Box b = box_whole(traced_type(x));
    int n = b.rank;

    for (int i = 0; i < n; i++)
        axes[i] = i;
    if (given(axis) && distinct_axes(s, name, axis, b.rank, axes, &n) < 0)
        return NULL;
    for (int i = 0; i < n; i++) {
        b.start[axes[i]] = MAX(b.size[axes[i]] - 1, 0);
        b.step[axes[i]] = -1;
    }
    return view_slice(s, x, &b);
}

PyObject *
fn_flip(Session *s, const char *name, PyObject *const *a)
{
    PyObject *x = as_traced(s, name, a[0]), *r = x ? flip(s, name, x, a[1]) : NULL;

    Py_XDECREF(x);
    return r;
}

static Status
roll_axis(Session *s, Val x, int64_t axis, int64_t shift, LocId loc, Val *v)
{
    int64_t d = type_of(s, x)->dim[axis], k = d ? ((shift % d) + d) % d : 0;
    Val half[2];

    *v = x;
    if (k == 0)
        return ST_OK;
    TRY(part(s, x, axis, d - k, 1, k, loc, &half[0]));
    TRY(part(s, x, axis, 0, 1, d - k, loc, &half[1]));
    return t_concat(s->graph, half, 2, axis, loc, v);
}

/* The array in C order as one axis, rolled. */
static Status
roll_flat(Session *s, Val x, int64_t shift, LocId loc, Val *v)
{
    Type ty = *type_of(s, x);

    TRY(t_reshape(s->graph, x, (int64_t[]){type_numel(&ty)}, 1, loc, v));
    TRY(roll_axis(s, *v, 0, shift, loc, v));
    return t_reshape(s->graph, *v, ty.dim, ty.rank, loc, v);
}

/* Shifts and axes go together as shapes broadcast; an axis may come more than once. */
static Status
roll_axes(Session *s, Val x, const int64_t *shift, int n, const int64_t *axes, int m, LocId loc, Val *v)
{
    int64_t by[MAX_RANK] = {0};
    int count = n == 1 ? m : n;

    *v = x;
    if (n != m && n != 1 && m != 1)
        return fail(&s->cx, ST_USER, loc, "NKI-1031 roll: %d shifts for %d axes", n, m);
    for (int i = 0; i < count; i++) {
        int64_t axis = axes[m == 1 ? 0 : i], d = MAX(type_of(s, x)->dim[axis], 1);

        by[axis] = (by[axis] + shift[n == 1 ? 0 : i] % d) % d;
    }
    for (int i = 0; i < type_of(s, x)->rank; i++)
        TRY(roll_axis(s, *v, i, by[i], loc, v));
    return ST_OK;
}

PyObject *
fn_roll(Session *s, const char *name, PyObject *const *a)
{
    int64_t shift[MAX_RANK], axes[MAX_RANK], numel;
    LocId loc = here(s);
    Status st;
    int n, m;
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0 || indices_of(s, name, a[1], true, shift, &n) < 0)
        return NULL;
    if (given(a[2])) {
        if (normal_axes(s, name, a[2], type_of(s, x)->rank, axes, &m) < 0)
            return NULL;
        st = roll_axes(s, x, shift, n, axes, m, loc, &v);
        return traced_result(s, st, v);
    }
    numel = MAX(type_numel(type_of(s, x)), 1);
    for (int i = n ? 1 : 0; i < n; i++)
        shift[0] = shift[0] % numel + shift[i] % numel;
    st = roll_flat(s, x, n ? shift[0] : 0, loc, &v);
    return traced_result(s, st, v);
}

/* x as `blocks` equal blocks, each of them `count` times: for shapes whose rank leaves no room for another axis. */
static Status
repeat_blocks(Session *s, Val x, int64_t blocks, int64_t count, LocId loc, Val *v)
{
    int64_t dim[3] = {blocks, 1, type_numel(type_of(s, x)) / MAX(blocks, 1)};

    TRY(t_reshape(s->graph, x, dim, 3, loc, v));
    dim[1] = count;
    return t_broadcast_to(s->graph, *v, dim, 3, loc, v);
}

/* Every element of an axis `count` times: a size-1 axis behind it is broadcast and merged. */
static Status
repeat_axis(Session *s, Val x, int64_t axis, int64_t count, LocId loc, Val *v)
{
    Type ty = *type_of(s, x);
    int64_t dim[MAX_RANK + 1], blocks = 1;

    if (ty.rank == MAX_RANK) {
        for (int i = 0; i <= axis; i++)
            blocks *= ty.dim[i];
        TRY(repeat_blocks(s, x, blocks, count, loc, v));
        ty.dim[axis] *= count;
        return t_reshape(s->graph, *v, ty.dim, ty.rank, loc, v);
    }
    for (int i = 0; i <= ty.rank; i++)
        dim[i] = i <= axis ? ty.dim[i] : i == axis + 1 ? 1 : ty.dim[i - 1];
    TRY(t_reshape(s->graph, x, dim, ty.rank + 1, loc, v));
    dim[axis + 1] = count;
    TRY(t_broadcast_to(s->graph, *v, dim, ty.rank + 1, loc, v));
    ty.dim[axis] *= count;
    return t_reshape(s->graph, *v, ty.dim, ty.rank, loc, v);
}

PyObject *
fn_repeat(Session *s, const char *name, PyObject *const *a)
{
    int64_t count, axis = 0;
    LocId loc = here(s);
    Status st = ST_OK;
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0)
        return NULL;
    if (!is_index(a[1]))
        return raise_here(s, E_Unsupported, "NKI-1032 repeat: only an integer number of repeats is supported");
    if (int_of(s, name, a[1], &count) < 0)
        return NULL;
    if (count < 0)
        return raise_here(s, E_Shape, "NKI-1033 repeat: repeats may not be negative, got %lld", (long long)count);
    /* of what has no axes it is as if there were one */
    if (given(a[2]) && (plain_int_of(s, name, a[2], &axis) < 0 ||
                        axis_of(s, name, a[2], 0, MAX(type_of(s, x)->rank, 1), &axis) < 0))
        return NULL;
    if (!given(a[2]) || type_of(s, x)->rank == 0)
        st = t_reshape(s->graph, x, (int64_t[]){type_numel(type_of(s, x))}, 1, loc, &x);
    if (st == ST_OK)
        st = repeat_axis(s, x, axis, count, loc, &v);
    return traced_result(s, st, v);
}

/* A repeated axis gets another in front of it, which is broadcast and merged. */
typedef struct Tiling {
    int64_t own[MAX_RANK], reps[MAX_RANK];           /* by dim of the result */
    int64_t split[2 * MAX_RANK], wide[2 * MAX_RANK]; /* shapes before and after the broadcast, of n dims */
    int64_t out[MAX_RANK];                           /* the result's, of rank dims */
    int n, rank;
} Tiling;

static Status
plan_tiling(Session *s, const Type *ty, const int64_t *reps, int nreps, LocId loc, Tiling *t)
{
    int rank = MAX(nreps, ty->rank), m = 0;

    for (int i = 0; i < rank; i++) {
        int64_t r = i >= rank - nreps ? reps[i - (rank - nreps)] : 1;
        int64_t d = i >= rank - ty->rank ? ty->dim[i - (rank - ty->rank)] : 1;

        if (r < 0)
            return fail(&s->cx, ST_USER, loc, "NKI-1034 tile: repetitions may not be negative, got %lld", (long long)r);
        if (r != 1) {
            t->split[m] = 1;
            t->wide[m++] = r;
        }
        t->own[i] = d;
        t->reps[i] = r;
        t->split[m] = t->wide[m] = d;
        m++;
        if (__builtin_mul_overflow(r, d, &t->out[i]))
            return fail(&s->cx, ST_USER, loc, "NKI-1035 tile: the result is too large");
    }
    t->n = m;
    t->rank = rank;
    return ST_OK;
}

/* The last axis first: what lies behind an axis is repeated already. */
static Status
tile_in_turn(Session *s, const Tiling *t, LocId loc, Val *v)
{
    for (int i = t->rank - 1; i >= 0; i--) {
        int64_t blocks = 1;
        for (int k = 0; k < i; k++)
            blocks *= t->own[k];
        if (t->reps[i] != 1)
            TRY(repeat_blocks(s, *v, blocks, t->reps[i], loc, v));
    }
    return t_reshape(s->graph, *v, t->out, t->rank, loc, v);
}

static Status
tile(Session *s, Val x, const int64_t *reps, int nreps, LocId loc, Val *v)
{
    Tiling t;

    TRY(plan_tiling(s, type_of(s, x), reps, nreps, loc, &t));
    *v = x;
    if (t.n > MAX_RANK)
        return tile_in_turn(s, &t, loc, v);
    TRY(t_reshape(s->graph, x, t.split, t.n, loc, v));
    TRY(t_broadcast_to(s->graph, *v, t.wide, t.n, loc, v));
    return t_reshape(s->graph, *v, t.out, t.rank, loc, v);
}

PyObject *
fn_tile(Session *s, const char *name, PyObject *const *a)
{
    int64_t reps[MAX_RANK];
    int n;
    Val x, v = {0};

    if (traced_operand(s, name, a[0], &x) < 0 || indices_of(s, name, a[1], true, reps, &n) < 0)
        return NULL;
    return traced_result(s, tile(s, x, reps, n, here(s), &v), v);
}

/* where(column - row <= k (lower) or >= k (upper), m, 0); the mask is a constant. */
static PyObject *
triangle(Session *s, const char *name, PyObject *m, PyObject *k_arg, bool lower)
{
    PyObject *mask, *rows, *r = NULL;
    Type ty;
    Val x, c, zero;
    LocId loc = here(s);
    int64_t k = 0;

    if (traced_operand(s, name, m, &x) < 0 || (k_arg && int_of(s, name, k_arg, &k) < 0))
        return NULL;
    ty = *type_of(s, x);
    if (ty.rank == 0)
        return raise_here(s, E_Shape, "NKI-1036 %s: a 0-d array has no triangle", name);
    rows = PyLong_FromLongLong(ty.dim[MAX(ty.rank - 2, 0)]);
    mask = rows ? PyObject_CallMethod(s->st->np, "tri", "OLLs", rows, (long long)ty.dim[ty.rank - 1],
                                      (long long)(lower ? k : k - 1), "?")
                : NULL;
    if (mask && const_of_array(s, (PyArrayObject *)mask, &c) == 0) {
        Status st = t_full_int(s->graph, (DType)ty.dtype, 0, NULL, 0, loc, &zero);

        if (st == ST_OK)
            st = t_where(s->graph, c, lower ? x : zero, lower ? zero : x, loc, &x);
        r = traced_result(s, st, x);
    }
    Py_XDECREF(rows);
    Py_XDECREF(mask);
    return r;
}

PyObject *
fn_tril(Session *s, const char *name, PyObject *const *a)
{
    return triangle(s, name, a[0], a[1], true);
}

PyObject *
fn_triu(Session *s, const char *name, PyObject *const *a)
{
    return triangle(s, name, a[0], a[1], false);
}
