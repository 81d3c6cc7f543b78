/* reference.c - the reference interpreter: tensor IR through NumPy itself, one call per op.
 *
 * in:   a tensor graph and one array per input
 * out:  fresh arrays; each op's result has exactly the dtype and shape of its IR value
 * rule: a value is freed after its last use. Sums and products of the narrow floats are computed in f32 and rounded
 *       once. Floating-point warnings are off: NaN and infinities flow. Who watches gets every result.
 */
#include "py/py.h"

#include <string.h>

typedef struct Interp {
    Session *s;
    const Graph *g;
    PyObject **value; /* by Val; NULL: not computed or dead */
    uint32_t *last;   /* by Val: the last op that reads it; outputs live on */
    PyObject *const *args;
    uint32_t now;     /* the op that runs */
    PyObject *watch; /* called with every result; NULL: nobody watches */
} Interp;

/* ---- building arguments ---- */

static bool
is_narrow_float(DType dt)
{
    return is_float(dt) && dtypes[dt].bytes < 4;
}

static PyObject *
cast_array(State *st, PyObject *a, DType dt)
{
    PyArrayObject *arr = (PyArrayObject *)a;
    PyObject *r, *wide;

    if (PyArray_DESCR(arr)->type_num == ((PyArray_Descr *)st->np_dtype[dt])->type_num)
        return Py_NewRef(a);
    r = PyArray_CastToType(arr, (PyArray_Descr *)np_type_object(st, dt), 0);
    if (r || dtype_of_descr(st, PyArray_DESCR(arr)) == DT_f32 || dt == DT_f32)
        return r;
    PyErr_Clear(); /* two extension dtypes without a cast between them */
    wide = PyArray_CastToType(arr, (PyArray_Descr *)np_type_object(st, DT_f32), 0);
    r = wide ? PyArray_CastToType((PyArrayObject *)wide, (PyArray_Descr *)np_type_object(st, dt), 0) : NULL;
    Py_XDECREF(wide);
    return r;
}

static PyObject *
function_of(State *st, TOp op)
{
    const char *np = tensor_dialect.ops[op].np;

    if (st->reference[op])
        return st->reference[op];
    if (np && np[0] == '.') {
        if (!st->ops && !(st->ops = PyImport_ImportModule("nkigen.ops")))
            return NULL;
        st->reference[op] = PyObject_GetAttrString(st->ops, np + 1);
    } else {
        st->reference[op] = PyObject_GetAttrString(st->np, np ? np : tensor_dialect.ops[op].name);
    }
    return st->reference[op];
}

/* ---- ops ---- */

static PyObject *
operand(Interp *in, const Op *op, int i)
{
    return in->value[op_val(in->g, op, i).i];
}

static PyObject *
run_full(Interp *in, const Op *op)
{
    State *st = in->s->st;
    const Type *ty = val_type(in->g, op->out);
    const AttrItem *iv = attr_find(&in->s->cx, op->attr, A_ivalue);
    npy_intp dim[MAX_RANK], strides[MAX_RANK] = {0};
    PyObject *one, *v, *all;
    int r;

    one = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)np_type_object(st, (DType)ty->dtype), 0, NULL, NULL,
                               NULL, 0, NULL);
    if (!one)
        return NULL;
    if (!iv) {
        dtype_store((DType)ty->dtype, attr_float(&in->s->cx, op->attr, A_value, 0), PyArray_DATA((PyArrayObject *)one));
    } else {
        v = ty->dtype == DT_u64 ? PyLong_FromUnsignedLongLong((uint64_t)iv->i) : PyLong_FromLongLong(iv->i);
        r = v ? PyArray_SETITEM((PyArrayObject *)one, PyArray_DATA((PyArrayObject *)one), v) : -1;
        Py_XDECREF(v);
        if (r < 0) {
            Py_DECREF(one);
            return NULL;
        }
    }
    for (int i = 0; i < ty->rank; i++)
        dim[i] = (npy_intp)ty->dim[i];
    all = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)np_type_object(st, (DType)ty->dtype), ty->rank, dim,
                               strides, PyArray_DATA((PyArrayObject *)one), 0, NULL);
    if (!all || PyArray_SetBaseObject((PyArrayObject *)all, one) < 0) { /* steals one */
        if (!all)
            Py_DECREF(one);
        Py_CLEAR(all);
    }
    return all;
}

/* fn(*operands), in f32 when the dtype is an extension that has no loop for it */
static PyObject *
run_elementwise(Interp *in, const Op *op)
{
    State *st = in->s->st;
    PyObject *fn = function_of(st, (TOp)op->code), *args[3] = {NULL, NULL, NULL}, *r = NULL;

    if (!fn || op->nin > COUNT_OF(args))
        return NULL;
    for (int i = 0; i < op->nin; i++)
        args[i] = operand(in, op, i);
    r = PyObject_Vectorcall(fn, args, op->nin, NULL);
    if (r || !PyErr_ExceptionMatches(PyExc_TypeError))
        return r;
    PyErr_Clear();
    for (int i = 0; i < op->nin; i++) {
        DType dt = val_dtype(in->g, op_val(in->g, op, i));

        args[i] = is_narrow_float(dt) ? cast_array(st, args[i], DT_f32) : Py_NewRef(args[i]);
    }
    if (args[0] && (op->nin < 2 || args[1]) && (op->nin < 3 || args[2]))
        r = PyObject_Vectorcall(fn, args, op->nin, NULL);
    for (int i = 0; i < op->nin; i++)
        Py_XDECREF(args[i]);
    return r;
}

static PyObject *
run_round_cast(Interp *in, const Op *op)
{
    PyObject *fn = function_of(in->s->st, (TOp)op->code);
    PyObject *args[] = {operand(in, op, 0), in->s->st->np_dtype[val_dtype(in->g, op->out)]};

    return fn ? PyObject_Vectorcall(fn, args, 2, NULL) : NULL;
}

static PyObject *
run_reduce(Interp *in, const Op *op)
{
    State *st = in->s->st;
    DType dt = val_dtype(in->g, op_val(in->g, op, 0));
    bool sum = op->code == T_reduce_sum, wide = sum && is_narrow_float(dt);
    PyObject *x = wide ? cast_array(st, operand(in, op, 0), DT_f32) : Py_NewRef(operand(in, op, 0));
    PyObject *fn = function_of(st, (TOp)op->code), *args = NULL, *kw = NULL, *axes, *r = NULL;
    const int64_t *axis;
    int n = attr_ints(&in->s->cx, op->attr, A_axes, &axis);

    axes = int_tuple(axis, n);
    if (x && fn && axes) {
        args = PyTuple_Pack(1, x);
        kw = Py_BuildValue("{sOsO}", "axis", axes, "keepdims",
                           attr_int(&in->s->cx, op->attr, A_keepdims, 0) ? Py_True : Py_False);
        if (args && kw && (!sum || PyDict_SetItemString(kw, "dtype", st->np_dtype[wide ? DT_f32 : dt]) == 0))
            r = PyObject_Call(fn, args, kw);
    }
    Py_XDECREF(args);
    Py_XDECREF(kw);
    Py_XDECREF(axes);
    Py_XDECREF(x);
    return r;
}

static PyObject *
run_matmul(Interp *in, const Op *op)
{
    State *st = in->s->st;
    bool narrow = is_narrow_float(val_dtype(in->g, op_val(in->g, op, 0)));
    PyObject *fn = function_of(st, T_matmul), *args[2], *r = NULL;

    for (int i = 0; i < 2; i++)
        args[i] = narrow ? cast_array(st, operand(in, op, i), DT_f32) : Py_NewRef(operand(in, op, i));
    if (fn && args[0] && args[1])
        r = PyObject_Vectorcall(fn, args, 2, NULL);
    Py_XDECREF(args[0]);
    Py_XDECREF(args[1]);
    return r;
}

/* The box of a slice or an update as a key of NumPy's. */
static PyObject *
box_key(const Box *b)
{
    PyObject *key = PyTuple_New(b->rank);

    for (int i = 0; key && i < b->rank; i++) {
        int64_t end = b->start[i] + b->step[i] * b->size[i];
        PyObject *start = PyLong_FromLongLong(b->start[i]), *step = PyLong_FromLongLong(b->step[i]);
        PyObject *stop = end < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(end);
        PyObject *item = start && stop && step ? PySlice_New(start, stop, step) : NULL;

        Py_XDECREF(start);
        Py_XDECREF(stop);
        Py_XDECREF(step);
        if (!item)
            Py_CLEAR(key);
        else
            PyTuple_SET_ITEM(key, i, item);
    }
    return key;
}

static PyObject *
run_slice(Interp *in, const Op *op)
{
    Box b = box_of(in->g, op);
    PyObject *key = box_key(&b), *r = key ? PyObject_GetItem(operand(in, op, 0), key) : NULL;

    Py_XDECREF(key);
    return r;
}

/* In place when this is the last reader and no other array sees the elements: views of it hold a reference. */
static PyObject *
run_update(Interp *in, const Op *op)
{
    PyArrayObject *a = (PyArrayObject *)operand(in, op, 0);
    bool own = in->last[op_val(in->g, op, 0).i] == in->now && Py_REFCNT(a) == 1 && !PyArray_BASE(a) &&
               PyArray_CHKFLAGS(a, NPY_ARRAY_OWNDATA | NPY_ARRAY_WRITEABLE) && operand(in, op, 1) != (PyObject *)a;
    PyObject *r = own ? Py_NewRef((PyObject *)a) : (PyObject *)PyArray_NewCopy(a, NPY_CORDER), *key;
    Box b = box_of(in->g, op);

    key = r ? box_key(&b) : NULL;
    if (!key || PyObject_SetItem(r, key, operand(in, op, 1)) < 0)
        Py_CLEAR(r);
    Py_XDECREF(key);
    return r;
}

static PyObject *
run_with_ints(Interp *in, const Op *op, Key key)
{
    const int64_t *v;
    int n = attr_ints(&in->s->cx, op->attr, key, &v);
    PyObject *fn = function_of(in->s->st, (TOp)op->code), *t = int_tuple(v, n), *r = NULL;

    if (fn && t)
        r = PyObject_CallFunctionObjArgs(fn, operand(in, op, 0), t, NULL);
    Py_XDECREF(t);
    return r;
}

static PyObject *
run_concat(Interp *in, const Op *op)
{
    PyObject *fn = function_of(in->s->st, T_concat), *list = PyList_New(op->nin), *r = NULL;

    for (int i = 0; list && i < op->nin; i++)
        PyList_SET_ITEM(list, i, Py_NewRef(operand(in, op, i)));
    if (fn && list)
        r = PyObject_CallFunction(fn, "OL", list, (long long)attr_int(&in->s->cx, op->attr, A_axis, 0));
    Py_XDECREF(list);
    return r;
}

static PyObject *
run_op(Interp *in, const Op *op)
{
    Session *s = in->s;

    switch ((TOp)op->code) {
    case T_input:
        return Py_NewRef(in->args[attr_int(&s->cx, op->attr, A_index, 0)]);
    case T_const:
        return array_of_data(s, attr_find(&s->cx, op->attr, A_data)->data, val_type(in->g, op->out));
    case T_full:
        return run_full(in, op);
    case T_cast:
        return cast_array(s->st, operand(in, op, 0), val_dtype(in->g, op->out));
    case T_rcast:
        return run_round_cast(in, op);
    case T_reduce_sum:
    case T_reduce_max:
    case T_reduce_min:
        return run_reduce(in, op);
    case T_matmul:
        return run_matmul(in, op);
    case T_transpose:
        return run_with_ints(in, op, A_perm);
    case T_reshape:
    case T_broadcast_to:
        return run_with_ints(in, op, A_shape);
    case T_slice:
        return run_slice(in, op);
    case T_concat:
        return run_concat(in, op);
    case T_update:
        return run_update(in, op);
    default:
        return run_elementwise(in, op);
    }
}

/* What NumPy gave, as an array of the IR value's dtype; a result of another shape is our fault. Steals `r`. */
static PyObject *
conform(Interp *in, const Op *op, PyObject *r)
{
    const Type *ty = val_type(in->g, op->out);
    PyObject *a = r ? PyArray_FROM_O(r) : NULL, *c;
    bool same;

    Py_XDECREF(r);
    if (!a)
        return NULL;
    same = PyArray_NDIM((PyArrayObject *)a) == ty->rank;
    for (int i = 0; same && i < ty->rank; i++)
        same = PyArray_DIM((PyArrayObject *)a, i) == ty->dim[i];
    if (!same) {
        Py_DECREF(a);
        return raise_plain(in->s->st, E_Internal,
                           "NKI-1054 %s: the reference result has another shape than the IR says",
                           op_def(in->g, op)->name);
    }
    c = cast_array(in->s->st, a, (DType)ty->dtype);
    Py_DECREF(a);
    return c;
}

/* ---- the walk ---- */

static void
find_last_uses(Interp *in)
{
    const Graph *g = in->g;

    FOR_OPS(g, o)
        for (int i = 0; i < graph_op(g, o)->nin; i++)
            in->last[op_val(g, graph_op(g, o), i).i] = o.i;
    for (uint32_t i = 0; i < g->outputs.n; i++)
        in->last[g->outputs.p[i].i] = UINT32_MAX;
}

/* The op's attributes that are numbers, by name. */
static PyObject *
attributes(Interp *in, const Op *op)
{
    PyObject *d = PyDict_New();
    int n;
    const AttrItem *item = attr_items(&in->s->cx, op->attr, &n);

    for (int i = 0; d && i < n; i++) {
        AttrKind kind = attr_kind((Key)item[i].key);
        PyObject *v = kind == AK_ints                     ? int_tuple(item[i].ints, item[i].n)
                      : kind == AK_int || kind == AK_bool ? PyLong_FromLongLong(item[i].i)
                                                          : Py_NewRef(Py_None);
        int r = v ? PyDict_SetItemString(d, attr_name((Key)item[i].key), v) : -1;

        Py_XDECREF(v);
        if (r < 0)
            Py_CLEAR(d);
    }
    return d;
}

/* watch(op, attributes, operands, result, value, operands that nobody reads after this) */
static int
show(Interp *in, OpId o)
{
    const Op *op = graph_op(in->g, o);
    PyObject *operands = PyTuple_New(op->nin), *dead = PyList_New(0), *attrs = attributes(in, op), *r = NULL;
    bool ok = operands && dead && attrs;

    for (int i = 0; ok && i < op->nin; i++) {
        uint32_t v = op_val(in->g, op, i).i;
        PyObject *id = PyLong_FromUnsignedLong(v);

        ok = id && (in->last[v] != o.i || PyList_Append(dead, id) == 0);
        if (id)
            PyTuple_SET_ITEM(operands, i, id);
    }
    if (ok)
        r = PyObject_CallFunction(in->watch, "sOOkOO", op_def(in->g, op)->name, attrs, operands,
                                  (unsigned long)op->out.i, in->value[op->out.i], dead);
    Py_XDECREF(operands);
    Py_XDECREF(dead);
    Py_XDECREF(attrs);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

static int
walk(Interp *in)
{
    const Graph *g = in->g;

    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        PyObject *r;

        if (!in->last[op->out.i] && op->code != T_input)
            continue; /* nobody asks */
        in->now = o.i;
        r = conform(in, op, run_op(in, op));
        if (!r)
            return -1;
        in->value[op->out.i] = r;
        if (in->watch && show(in, o) < 0)
            return -1;
        for (int i = 0; i < op->nin; i++) {
            uint32_t v = op_val(g, op, i).i;

            if (in->last[v] == o.i)
                Py_CLEAR(in->value[v]);
        }
        if ((o.i & 255) == 0 && PyErr_CheckSignals() < 0)
            return -1;
    }
    return 0;
}

static PyObject *
fresh(PyObject *a)
{
    return (PyObject *)PyArray_NewCopy((PyArrayObject *)a, NPY_CORDER);
}

/* A result nobody else sees is handed out as it is. */
static PyObject *
outputs(Interp *in)
{
    const Graph *g = in->g;
    PyObject *t = PyTuple_New(g->outputs.n), *one;

    for (uint32_t i = 0; t && i < g->outputs.n; i++) {
        PyArrayObject *a = (PyArrayObject *)in->value[g->outputs.p[i].i];
        bool own = val_def(g, g->outputs.p[i])->code != T_input && Py_REFCNT(a) == 1 && PyArray_IS_C_CONTIGUOUS(a) &&
                   PyArray_CHKFLAGS(a, NPY_ARRAY_OWNDATA | NPY_ARRAY_WRITEABLE);
        PyObject *r = own ? Py_NewRef((PyObject *)a) : fresh((PyObject *)a);

        if (!r)
            Py_CLEAR(t);
        else
            PyTuple_SET_ITEM(t, i, r);
    }
    if (!t || g->outputs.n != 1)
        return t;
    one = Py_NewRef(PyTuple_GET_ITEM(t, 0));
    Py_DECREF(t);
    return one;
}

static PyObject *
output_ids(const Graph *g)
{
    PyObject *t = PyTuple_New(g->outputs.n);

    for (uint32_t i = 0; t && i < g->outputs.n; i++) {
        PyObject *id = PyLong_FromUnsignedLong(g->outputs.p[i].i);

        if (!id)
            Py_CLEAR(t);
        else
            PyTuple_SET_ITEM(t, i, id);
    }
    return t;
}

static PyObject *
errstate(State *st)
{
    PyObject *fn = PyObject_GetAttrString(st->np, "errstate"), *none = PyTuple_New(0), *r = NULL;
    PyObject *kw = Py_BuildValue("{ss}", "all", "ignore");

    if (fn && none && kw)
        r = PyObject_Call(fn, none, kw);
    Py_XDECREF(fn);
    Py_XDECREF(none);
    Py_XDECREF(kw);
    return r;
}

/* Leaves the context without losing the exception that may be set. */
static int
leave_context(PyObject *ctx)
{
    PyObject *type, *value, *tb, *r;

    PyErr_Fetch(&type, &value, &tb);
    r = PyObject_CallMethod(ctx, "__exit__", "OOO", Py_None, Py_None, Py_None);
    if (type) {
        if (!r)
            PyErr_Clear();
        PyErr_Restore(type, value, tb);
    }
    Py_XDECREF(r);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *
interpret(Interp *in)
{
    PyObject *ctx = errstate(in->s->st), *entered, *r = NULL;

    if (!ctx)
        return NULL;
    entered = PyObject_CallMethod(ctx, "__enter__", NULL);
    if (entered) {
        find_last_uses(in);
        if (walk(in) == 0)
            r = in->watch ? output_ids(in->g) : outputs(in);
        if (leave_context(ctx) < 0)
            Py_CLEAR(r);
    }
    Py_XDECREF(entered);
    Py_DECREF(ctx);
    return r;
}

/* What NumPy will compute: the elements of each result, and of what a product or a reduction reads for them. */
static double
op_work(const Graph *g, const Op *op)
{
    double n = (double)type_numel(val_type(g, op->out));
    const Type *a = op->nin ? val_type(g, op_val(g, op, 0)) : NULL;

    if (op->code == T_full || op->code == T_input)
        return 1;
    if (op->code == T_matmul) /* a BLAS does 64 steps of a sum in the time of an element, NumPy's loop for integers one */
        return n * (1 + (double)a->dim[a->rank - 1] / (is_float((DType)a->dtype) ? 64 : 1));
    if (op_def(g, op)->flags & F_REDUCE)
        return (double)type_numel(a);
    return n;
}

static bool
is_within(Session *s, const Graph *g, WorkLimit limit)
{
    double once = 0, all = 0;

    if (!limit.most)
        return true;
    FOR_OPS(g, o) {
        double work = INSTR_WORK + op_work(g, graph_op(g, o));

        all += work;
        once += MIN(work, OP_WORK);
    }
    return work_allowed(s, limit, once, all);
}

PyObject *
reference_run(Session *s, const Graph *g, PyObject *const *args, Py_ssize_t n, WorkLimit limit, PyObject *watch)
{
    uint32_t nin = g->inputs.n;
    PyObject **array, *r = NULL;
    Interp in = {.s = s, .g = g, .watch = watch};

    if (n != (Py_ssize_t)nin)
        return raise_plain(s->st, E_DType, "NKI-1055 expected %u arrays, got %zd", nin, n);
    if (!is_within(s, g, limit))
        return NULL;
    array = PyMem_Calloc((size_t)nin + 1, sizeof(*array));
    in.value = PyMem_Calloc((size_t)g->vals.n + 1, sizeof(*in.value));
    in.last = PyMem_Calloc((size_t)g->vals.n + 1, sizeof(*in.last));
    in.args = array;
    if (array && in.value && in.last) {
        uint32_t i = 0;

        for (; i < nin; i++) {
            const char *name = str_get(&s->cx, g->vals.p[g->inputs.p[i].i].name);

            array[i] = (PyObject *)array_argument(s, args[i], val_type(g, g->inputs.p[i]), i, name);
            if (!array[i])
                break;
        }
        if (i == nin)
            r = interpret(&in);
    } else {
        PyErr_NoMemory();
    }
    for (uint32_t i = 0; array && i < nin; i++)
        Py_XDECREF(array[i]);
    for (uint32_t i = 0; in.value && i < g->vals.n; i++)
        Py_XDECREF(in.value[i]);
    PyMem_Free(array);
    PyMem_Free(in.value);
    PyMem_Free(in.last);
    return r;
}
