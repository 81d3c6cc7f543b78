/* build.c - the builder of tensor ops: inference, promotion casts, folding and sharing.
 *
 * in:   operands of one graph and what the op needs
 * out:  a value of that graph: a new op, an equal one that was there, or what the op folds to
 * rule: the only way to make ops; constant time per op. Scalar constants are 0-d `full` ops of the
 *       promoted dtype; a shared op keeps the location of its first user.
 */
#include "tensor/tensor.h"

#include <math.h>
#include <string.h>

#define FEW 8 /* operands without a detour through the scratch arena */

/* ---- sharing ---- */

typedef struct Wanted {
    const Graph *g;
    const Val *in;
    AttrId attr;
    int nin;
    TOp op;
} Wanted;

static bool
is_wanted(const void *env, uint32_t id)
{
    const Wanted *w = env;
    const Op *op = &w->g->ops.p[id];
    if (op->code != w->op || op->nin != w->nin || op->attr.i != w->attr.i)
        return false;
    for (int i = 0; i < w->nin; i++) {
        if (op_val(w->g, op, i).i != w->in[i].i)
            return false;
    }
    return true;
}

static Status
append(Graph *g, TOp op, const Operand *in, int nin, AttrId attr, TyId type, LocId loc, Val *out)
{
    OpId o;
    TRY(graph_append(g, op, in, nin, attr, loc, &type, 1, &o));
    *out = graph_op(g, o)->out;
    return ST_OK;
}

static Status
share(Graph *g, const Wanted *w, TyId type, LocId loc, const Operand *in, Val *out)
{
    uint64_t h = hash_int(w->attr.i, (uint64_t)w->op);
    for (int i = 0; i < w->nin; i++)
        h = hash_int(w->in[i].i, h);
    uint32_t id = map_find(&g->cse, h, is_wanted, w);
    if (id != 0) {
        *out = g->ops.p[id].out;
        return ST_OK;
    }
    id = g->ops.n;
    TRY(append(g, w->op, in, w->nin, w->attr, type, loc, out));
    return map_insert(g->cx, &g->arena, &g->cse, h, id);
}

/* Infers before the op exists: its operands stand in the unused end of g->operands. */
static Status
infer(Graph *g, TOp op, const Operand *in, int nin, AttrId attr, LocId loc, TyId *type)
{
    uint32_t n = g->operands.n;
    if (g->operands.cap - n < (uint32_t)nin)
        TRY(vec_reserve(g->cx, &g->arena, &g->operands, (uint32_t)nin, sizeof(Operand)));
    for (int i = 0; i < nin; i++)
        g->operands.p[n + (uint32_t)i] = in[i];
    Op probe = {.code = (uint16_t)op, .nin = (uint16_t)nin, .nout = 1, .in = n, .attr = attr, .loc = loc};
    return tensor_dialect.ops[op].infer(g->cx, g, &probe, type);
}

Status
t_emit(Graph *g, TOp op, const Val *in, int nin, AttrId attr, LocId loc, Val *out)
{
    Val few[FEW];
    Operand few_operands[FEW], *operands = few_operands;
    TyId type;
    if (nin > UINT16_MAX)
        return fail(g->cx, ST_UNSUPPORTED, loc, "NKI-2042 %s: %d operands are not supported, at most %d", t_np_name(op),
                    nin, UINT16_MAX);
    if (nin > FEW)
        NEW(g->cx, &g->cx->scratch, operands, nin);
    if (nin == 2 && in[0].i > in[1].i && (tensor_dialect.ops[op].flags & F_COMM)) {
        few[0] = in[1];
        few[1] = in[0];
        in = few;
    }
    for (int i = 0; i < nin; i++)
        operands[i] = (Operand){.v = in[i]};
    TRY(infer(g, op, operands, nin, attr, loc, &type));
    if (!(tensor_dialect.ops[op].flags & F_PURE))
        return append(g, op, operands, nin, attr, type, loc, out);
    out->i = 0;
    TRY(t_fold(g, op, in, nin, attr, type, loc, out));
    if (out->i)
        return ST_OK;
    Wanted w = {.g = g, .in = in, .attr = attr, .nin = nin, .op = op};
    return share(g, &w, type, loc, operands, out);
}

/* ---- sources ---- */

static Status
check_dims(Graph *g, const char *what, int rank, const int64_t *dim, LocId loc)
{
    char text[MAX_SHAPE_TEXT];
    if (rank > MAX_RANK)
        return fail(g->cx, ST_UNSUPPORTED, loc, "NKI-2043 %s: arrays of %d dimensions are not supported, at most %d",
                    what, rank, MAX_RANK);
    for (int i = 0; i < rank; i++)
        if (dim[i] < 0)
            return fail(g->cx, ST_USER, loc, "NKI-2044 %s: negative dimensions are not allowed: %s", what,
                        shape_text(text, rank, dim));
    if (is_too_large(rank, dim))
        return fail(g->cx, ST_USER, loc, "NKI-2045 %s: an array of shape %s is too large", what,
                    shape_text(text, rank, dim));
    return ST_OK;
}

static Status
input_typed(Graph *g, TyId type, LocId loc, Val *out)
{
    AttrId attr;
    OpId o;
    TRY(attr_make(g->cx, &AT_INT(A_index, g->inputs.n), 1, &attr));
    TRY(graph_append(g, T_input, NULL, 0, attr, loc, &type, 1, &o));
    *out = graph_op(g, o)->out;
    VEC_PUSH(g->cx, &g->arena, &g->inputs, *out);
    return ST_OK;
}

Status
t_input(Graph *g, const char *name, DType dt, int rank, const int64_t *dim, LocId loc, Val *out)
{
    TyId type;
    TRY(check_dims(g, "input", rank, dim, loc));
    TRY(tensor_type(g->cx, dt, rank, dim, &type));
    TRY(input_typed(g, type, loc, out));
    return name != NULL && name[0] ? graph_name_val(g, *out, name) : ST_OK;
}

static Status
full(Graph *g, DType dt, int rank, const int64_t *dim, AttrItem value, LocId loc, Val *out)
{
    AttrItem item[3] = {value, AT_INTS(A_shape, dim, rank), AT_INT(A_dtype, dt)};
    Wanted w = {.g = g, .op = T_full};
    TyId type;
    TRY(check_dims(g, "full", rank, dim, loc));
    TRY(attr_make(g->cx, item, 3, &w.attr));
    TRY(tensor_type(g->cx, dt, rank, dim, &type));
    return share(g, &w, type, loc, NULL, out);
}

Status
t_full_int(Graph *g, DType dt, int rank, const int64_t *dim, int64_t v, LocId loc, Val *out)
{
    if (is_float(dt))
        return t_full(g, dt, rank, dim, (double)v, loc, out);
    return full(g, dt, rank, dim, AT_INT(A_ivalue, wrap_int(dt, v)), loc, out);
}

Status
t_full(Graph *g, DType dt, int rank, const int64_t *dim, double v, LocId loc, Val *out)
{
    if (dt == DT_bool)
        return t_full_int(g, dt, rank, dim, v != 0, loc, out);
    if (!is_float(dt))
        return t_full_int(g, dt, rank, dim, wrap_float(dt, v), loc, out);
    unsigned char bits[8];
    dtype_store(dt, v, bits);
    return full(g, dt, rank, dim, AT_FLT(A_value, dtype_load(dt, bits)), loc, out);
}

/* One element p as a full op. */
static Status
full_of(Graph *g, DType dt, int rank, const int64_t *dim, const void *p, LocId loc, Val *out)
{
    if (is_float(dt))
        return t_full(g, dt, rank, dim, dtype_load(dt, p), loc, out);
    return t_full_int(g, dt, rank, dim, dtype_load_int(dt, p), loc, out);
}

Status
t_const(Graph *g, DType dt, int rank, const int64_t *dim, const void *p, LocId loc, Val *out)
{
    static const unsigned char zero[8];
    size_t elem = dtypes[dt].bytes, bytes = elem;
    TRY(check_dims(g, "array constant", rank, dim, loc));
    for (int i = 0; i < rank; i++)
        bytes *= (size_t)dim[i];
    if (bytes == 0)
        return full_of(g, dt, rank, dim, zero, loc, out);
    if (memcmp(p, (const char *)p + elem, bytes - elem) == 0)
        return full_of(g, dt, rank, dim, p, loc, out);
    const Data *data;
    Wanted w = {.g = g, .op = T_const};
    TyId type;
    TRY(data_make(g->cx, dt, p, bytes, &data));
    AttrItem item[3] = {AT_DATA(A_data, data), AT_INTS(A_shape, dim, rank), AT_INT(A_dtype, dt)};
    TRY(attr_make(g->cx, item, 3, &w.attr));
    TRY(tensor_type(g->cx, dt, rank, dim, &type));
    return share(g, &w, type, loc, NULL, out);
}

/* ---- element-wise ---- */

Status
t_cast(Graph *g, Val a, DType dt, LocId loc, Val *out)
{
    if (val_dtype(g, a) == dt) {
        *out = a;
        return ST_OK;
    }
    AttrId attr;
    TRY(attr_make(g->cx, &AT_INT(A_dtype, dt), 1, &attr));
    return t_emit(g, T_cast, &a, 1, attr, loc, out);
}

Status
t_unary(Graph *g, TOp op, Val a, LocId loc, Val *out)
{
    DType dt = val_dtype(g, a), loop = promote_unary(op, dt);
    if (loop == DT_none)
        return fail(g->cx, ST_TYPE, loc, "NKI-2046 %s: operand of dtype %s is not supported", t_np_name(op),
                    dtypes[dt].name);
    if (op == T_invert && loop == DT_bool)
        op = T_logical_not;
    TRY(t_cast(g, a, loop, loc, &a));
    return t_emit(g, op, &a, 1, (AttrId){0}, loc, out);
}

Status
t_binary(Graph *g, TOp op, Val a, Val b, LocId loc, Val *out)
{
    return t_emit(g, op, (Val[]){a, b}, 2, (AttrId){0}, loc, out);
}

static bool
is_compare(TOp op)
{
    return op >= T_equal && op <= T_greater_equal;
}

/* The value of a weak Python int, and whether dt can hold it. */
static bool
fits(const Graph *g, Val v, DType dt, int64_t *value)
{
    const Op *op = val_def(g, v);
    if (op->code != T_full || val_dtype(g, v) == DT_bool)
        return true;
    if (is_float(val_dtype(g, v))) { /* an integer beyond 64 bits */
        *value = attr_float(g->cx, op->attr, A_value, 0) > 0 ? INT64_MAX : INT64_MIN;
        return false;
    }
    *value = attr_int(g->cx, op->attr, A_ivalue, 0);
    if (val_dtype(g, v) == DT_u64 && *value < 0)
        return dt == DT_u64;
    return dt == DT_u64 ? *value >= 0 : wrap_int(dt, *value) == *value;
}

Status
t_convert(Graph *g, const char *what, Val *v, char weak, DType dt, LocId loc)
{
    int64_t value = 0;
    if (weak == 'i' && is_integer(dt) && !fits(g, *v, dt, &value))
        return fail(g->cx, ST_USER, loc, "NKI-2047 %s: Python integer %lld%s out of bounds for %s", what,
                    (long long)value, is_float(val_dtype(g, *v)) ? " or beyond it" : "", dtypes[dt].np);
    return t_cast(g, *v, dt, loc, v);
}

/* x < 300 of an int8 array is the same for every x. above: the scalar is above the dtype's
 * range. */
static Status
compare_outside(Graph *g, TOp op, Val x, Val scalar, bool scalar_is_left, bool above, LocId loc, Val *out)
{
    bool less = scalar_is_left ? !above : above, v; /* left operand < right operand */
    v = op == T_not_equal || (less ? op == T_less || op == T_less_equal : op == T_greater || op == T_greater_equal);
    int rank;
    int64_t dim[MAX_RANK];
    TRY(broadcast_dims(g->cx, loc, t_np_name(op), val_type(g, x), val_type(g, scalar), &rank, dim));
    return t_full_int(g, DT_bool, rank, dim, v, loc, out);
}

static Status
compare_np(Graph *g, TOp op, Val a, char wa, Val b, char wb, DType dt, LocId loc, Val *out)
{
    int64_t v = 0;
    if (is_integer(dt) && wb == 'i' && wa != 'i' && !fits(g, b, dt, &v))
        return compare_outside(g, op, a, b, false, v > 0 || val_dtype(g, b) == DT_u64, loc, out);
    if (is_integer(dt) && wa == 'i' && wb != 'i' && !fits(g, a, dt, &v))
        return compare_outside(g, op, b, a, true, v > 0 || val_dtype(g, a) == DT_u64, loc, out);
    TRY(t_convert(g, t_np_name(op), &a, wa, dt, loc));
    TRY(t_convert(g, t_np_name(op), &b, wb, dt, loc));
    return t_binary(g, op, a, b, loc, out);
}

/* & | ^ are logical on bool; a shift of bools is one of i8. */
static Status
choose_bits(Graph *g, TOp *op, DType *dt, LocId loc)
{
    bool shift = *op == T_left_shift || *op == T_right_shift;
    if (is_float(*dt))
        return fail(g->cx, ST_TYPE, loc, "NKI-2060 %s: not defined for %s", t_np_name(*op), dtypes[*dt].name);
    if (*dt != DT_bool)
        return ST_OK;
    if (shift)
        *dt = DT_i8;
    else
        *op = *op == T_bitwise_and ? T_logical_and : *op == T_bitwise_or ? T_logical_or : T_logical_xor;
    return ST_OK;
}

/* The op and dtype NumPy's loop uses for operands promoted to *dt. */
static Status
choose_loop(Graph *g, TOp *op, DType *dt, LocId loc)
{
    switch (*op) {
    case T_logical_and:
    case T_logical_or:
    case T_logical_xor:
        *dt = DT_bool;
        return ST_OK;
    case T_div:
        *dt = is_float(*dt) ? *dt : DT_f64;
        return ST_OK;
    case T_hypot:
    case T_logaddexp:
        *dt = promote_unary(*op, *dt);
        return ST_OK;
    case T_bitwise_and:
    case T_bitwise_or:
    case T_bitwise_xor:
    case T_left_shift:
    case T_right_shift:
        return choose_bits(g, op, dt, loc);
    case T_floor_divide:
    case T_remainder:
    case T_power:
        *dt = *dt == DT_bool ? DT_i8 : *dt;
        return ST_OK;
    default:
        break;
    }
    if (*dt != DT_bool)
        return ST_OK;
    switch (*op) {
    case T_sub:
        return fail(g->cx, ST_TYPE, loc, "NKI-2048 subtract: bool operands are not supported, use logical_xor instead");
    case T_add:
    case T_maximum:
        *op = T_logical_or;
        return ST_OK;
    case T_mul:
    case T_minimum:
        *op = T_logical_and;
        return ST_OK;
    default:
        return ST_OK;
    }
}

/* Exponents that are known: one for all, or a constant array. */
static bool
has_negative(const Graph *g, Val v)
{
    const Op *d = val_def(g, v);
    double c;
    if (is_splat(g, v, &c) || d->code != T_const)
        return is_splat(g, v, &c) && c < 0;
    DType dt = val_dtype(g, v);
    const char *p = attr_find(g->cx, d->attr, A_data)->data->p;
    for (int64_t i = type_numel(val_type(g, v)); i > 0; i--, p += dtypes[dt].bytes)
        if (dtypes[dt].kind == DK_int && dtype_load_int(dt, p) < 0)
            return true;
    return false;
}

Status
t_binary_np(Graph *g, TOp op, Val a, char weak_a, Val b, char weak_b, LocId loc, Val *out)
{
    DType dt, da = val_dtype(g, a), db = val_dtype(g, b);
    if (op == T_matmul)
        return t_matmul_np(g, a, b, loc, out);
    bool floats = op == T_hypot || op == T_logaddexp;
    if (floats && !weak_a && !weak_b && !is_float(da) && !is_float(db)) { /* the first loop that takes both */
        da = promote_unary(op, da);
        db = promote_unary(op, db);
    }
    TRY(promote(g->cx, loc, da, weak_a, db, weak_b, &dt));
    if (is_compare(op))
        return compare_np(g, op, a, weak_a, b, weak_b, dt, loc, out);
    TRY(choose_loop(g, &op, &dt, loc));
    TRY(t_convert(g, t_np_name(op), &a, weak_a, dt, loc));
    TRY(t_convert(g, t_np_name(op), &b, weak_b, dt, loc));
    if (op == T_power && is_integer(dt) && has_negative(g, b))
        return fail(g->cx, ST_USER, loc, "NKI-2049 power: integers to negative integer powers are not allowed");
    return t_binary(g, op, a, b, loc, out);
}

Status
t_where(Graph *g, Val c, Val a, Val b, LocId loc, Val *out)
{
    TRY(t_cast(g, c, DT_bool, loc, &c));
    return t_emit(g, T_where, (Val[]){c, a, b}, 3, (AttrId){0}, loc, out);
}

Status
t_where_np(Graph *g, Val c, Val a, char weak_a, Val b, char weak_b, LocId loc, Val *out)
{
    DType dt;
    TRY(promote_common(g->cx, loc, val_dtype(g, a), weak_a, val_dtype(g, b), weak_b, &dt));
    Val *v[2] = {&a, &b};
    for (int i = 0; i < 2; i++) { /* wraps Python integers out of range, as np.where does, up to 64 bits */
        bool wraps = !is_float(val_dtype(g, *v[i]));
        TRY(t_convert(g, "where", v[i], wraps ? 0 : i ? weak_b : weak_a, dt, loc));
    }
    return t_where(g, c, a, b, loc, out);
}

/* ---- reductions ---- */

Status
t_axes(Graph *g, const char *what, int rank, const int64_t *axes, int n, LocId loc, int64_t *out, int *nout)
{
    unsigned set = n < 0 ? (1u << rank) - 1 : 0;
    for (int i = 0; i < n; i++) {
        int64_t a = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (a < 0 || a >= rank)
            return fail(g->cx, ST_USER, loc, "NKI-2050 %s: axis %lld is out of bounds for array of dimension %d", what,
                        (long long)axes[i], rank);
        if (set >> a & 1)
            return fail(g->cx, ST_USER, loc, "NKI-2051 %s: duplicate value in 'axis': %lld", what, (long long)axes[i]);
        set |= 1u << a;
    }
    *nout = 0;
    for (int i = 0; i < rank; i++) {
        if (set >> i & 1)
            out[(*nout)++] = i;
    }
    return ST_OK;
}

/* np.sum adds small integers in 64 bits. */
static DType
sum_dtype(DType dt)
{
    if (dtypes[dt].kind == DK_uint)
        return DT_u64;
    return is_float(dt) ? dt : DT_i64;
}

Status
t_reduce_as_is(Graph *g, TOp op, Val a, const int64_t *axes, int n, bool keepdims, LocId loc, Val *out)
{
    int64_t list[MAX_RANK];
    int count;
    AttrId attr;
    TRY(t_axes(g, t_np_name(op), val_type(g, a)->rank, axes, n, loc, list, &count));
    AttrItem item[2] = {AT_INTS(A_axes, list, count), AT_INT(A_keepdims, keepdims)};
    TRY(attr_make(g->cx, item, 2, &attr));
    return t_emit(g, op, &a, 1, attr, loc, out);
}

Status
t_reduce(Graph *g, TOp op, Val a, const int64_t *axes, int n, bool keepdims, LocId loc, Val *out)
{
    if (op == T_reduce_sum)
        TRY(t_cast(g, a, sum_dtype(val_dtype(g, a)), loc, &a));
    return t_reduce_as_is(g, op, a, axes, n, keepdims, loc, out);
}

/* ---- matmul ---- */

Status
t_matmul(Graph *g, Val a, Val b, LocId loc, Val *out)
{
    const Type *ta = val_type(g, a), *tb = val_type(g, b);
    bool va = ta->rank == 1, vb = tb->rank == 1;
    if (!va && !vb)
        return t_emit(g, T_matmul, (Val[]){a, b}, 2, (AttrId){0}, loc, out);
    Operand probe[2] = {{.v = a}, {.v = b}}; /* errors show the shapes the user gave */
    TyId type;
    TRY(infer(g, T_matmul, probe, 2, (AttrId){0}, loc, &type));
    if (va)
        TRY(t_reshape(g, a, (int64_t[]){1, ta->dim[0]}, 2, loc, &a));
    if (vb)
        TRY(t_reshape(g, b, (int64_t[]){tb->dim[0], 1}, 2, loc, &b));
    TRY(t_emit(g, T_matmul, (Val[]){a, b}, 2, (AttrId){0}, loc, out));
    const Type *t = type_get(g->cx, type);
    return t_reshape(g, *out, t->dim, t->rank, loc, out);
}

Status
t_matmul_np(Graph *g, Val a, Val b, LocId loc, Val *out)
{
    DType dt;
    TRY(promote(g->cx, loc, val_dtype(g, a), 0, val_dtype(g, b), 0, &dt));
    TRY(t_cast(g, a, dt, loc, &a));
    TRY(t_cast(g, b, dt, loc, &b));
    return t_matmul(g, a, b, loc, out);
}

/* ---- layout ---- */

static Status
layout(Graph *g, TOp op, Val a, const AttrItem *item, int n, LocId loc, Val *out)
{
    AttrId attr;
    TRY(attr_make(g->cx, item, n, &attr));
    return t_emit(g, op, &a, 1, attr, loc, out);
}

Status
t_transpose(Graph *g, Val a, const int64_t *perm, int n, LocId loc, Val *out)
{
    int64_t list[MAX_RANK];
    int rank = val_type(g, a)->rank;
    if (n != 0 && n != rank)
        return fail(g->cx, ST_USER, loc, "NKI-2052 transpose: %d axes given for array of dimension %d", n, rank);
    for (int i = 0; i < rank; i++) {
        if (n && (perm[i] < -rank || perm[i] >= rank))
            return fail(g->cx, ST_USER, loc, "NKI-2053 transpose: axis %lld is out of bounds for array of dimension %d",
                        (long long)perm[i], rank);
        list[i] = n == 0 ? rank - 1 - i : perm[i] < 0 ? perm[i] + rank : perm[i];
    }
    return layout(g, T_transpose, a, &AT_INTS(A_perm, list, rank), 1, loc, out);
}

/* Replaces the one -1 of a new shape. */
static Status
solve_shape(Graph *g, const Type *t, const int64_t *dim, int n, LocId loc, int64_t *list)
{
    char text[MAX_SHAPE_TEXT];
    int64_t known = 1, numel = type_numel(t);
    int unknown = -1;
    bool big = false;
    for (int i = 0; i < n; i++) {
        list[i] = dim[i];
        if (dim[i] == -1 && unknown >= 0)
            return fail(g->cx, ST_USER, loc, "NKI-2054 reshape: can only specify one unknown dimension: %s",
                        shape_text(text, n, dim));
        if (dim[i] == -1)
            unknown = i;
        else
            big |= __builtin_mul_overflow(known, dim[i], &known);
    }
    if (unknown < 0)
        return ST_OK;
    if (big || known <= 0 || numel % known)
        return fail(g->cx, ST_USER, loc, "NKI-2055 reshape: cannot reshape array of size %lld into shape %s",
                    (long long)numel, shape_text(text, n, dim));
    list[unknown] = numel / known;
    return ST_OK;
}

Status
t_reshape(Graph *g, Val a, const int64_t *dim, int n, LocId loc, Val *out)
{
    int64_t list[MAX_RANK];
    if (n > MAX_RANK)
        return check_dims(g, "reshape", n, dim, loc);
    TRY(solve_shape(g, val_type(g, a), dim, n, loc, list));
    return layout(g, T_reshape, a, &AT_INTS(A_shape, list, n), 1, loc, out);
}

Status
t_broadcast_to(Graph *g, Val a, const int64_t *dim, int n, LocId loc, Val *out)
{
    TRY(check_dims(g, "broadcast_to", n, dim, loc));
    return layout(g, T_broadcast_to, a, &AT_INTS(A_shape, dim, n), 1, loc, out);
}

Status
t_slice(Graph *g, Val a, const int64_t *start, const int64_t *step, const int64_t *size, LocId loc, Val *out)
{
    int64_t first[MAX_RANK], by[MAX_RANK];
    int rank = val_type(g, a)->rank;
    for (int i = 0; i < rank; i++) { /* one spelling for what does not matter */
        first[i] = size[i] == 0 ? 0 : start[i];
        by[i] = size[i] <= 1 ? 1 : step[i];
    }
    AttrItem item[3] = {AT_INTS(A_start, first, rank), AT_INTS(A_step, by, rank), AT_INTS(A_size, size, rank)};
    return layout(g, T_slice, a, item, 3, loc, out);
}

/* Writes the same elements in ascending order. */
static Status
ascending(Graph *g, Box *b, Val *value, LocId loc)
{
    Box flip = box_whole(val_type(g, *value));
    bool any = false;
    for (int i = 0; i < b->rank; i++) {
        if (b->size[i] <= 1) {
            b->step[i] = 1;
            b->start[i] = b->size[i] ? b->start[i] : 0;
        } else if (b->step[i] < 0) {
            b->start[i] = box_last(b, i);
            b->step[i] = -b->step[i];
            flip.start[i] = flip.size[i] - 1;
            flip.step[i] = -1;
            any = true;
        }
    }
    return any ? t_slice(g, *value, flip.start, flip.step, flip.size, loc, value) : ST_OK;
}

Status
t_update(Graph *g, Val base, Val value, const Box *box, LocId loc, Val *out)
{
    Box b = *box;
    AttrId attr;
    TRY(ascending(g, &b, &value, loc));
    AttrItem item[3] = {AT_INTS(A_start, b.start, b.rank), AT_INTS(A_step, b.step, b.rank),
                        AT_INTS(A_size, b.size, b.rank)};
    TRY(attr_make(g->cx, item, 3, &attr));
    return t_emit(g, T_update, (Val[]){base, value}, 2, attr, loc, out);
}

Status
t_concat(Graph *g, const Val *v, int n, int64_t axis, LocId loc, Val *out)
{
    if (n <= 0)
        return fail(g->cx, ST_USER, loc, "NKI-2056 concatenate: need at least one array");
    Val few[FEW], *in = few;
    DType dt = val_dtype(g, v[0]);
    int rank = val_type(g, v[0])->rank;
    AttrId attr;
    if (n > FEW)
        NEW(g->cx, &g->cx->scratch, in, n);
    for (int i = 1; i < n; i++)
        TRY(promote_common(g->cx, loc, dt, 0, val_dtype(g, v[i]), 0, &dt));
    for (int i = 0; i < n; i++)
        TRY(t_cast(g, v[i], dt, loc, &in[i]));
    if (rank == 0)
        return fail(g->cx, ST_USER, loc, "NKI-2057 concatenate: zero-dimensional arrays cannot be concatenated");
    if (axis < -rank || axis >= rank)
        return fail(g->cx, ST_USER, loc, "NKI-2058 concatenate: axis %lld is out of bounds for array of dimension %d",
                    (long long)axis, rank);
    TRY(attr_make(g->cx, &AT_INT(A_axis, axis < 0 ? axis + rank : axis), 1, &attr));
    return t_emit(g, T_concat, in, n, attr, loc, out);
}

/* ---- graphs ---- */

Status
t_output(Graph *g, Val v)
{
    VEC_PUSH(g->cx, &g->arena, &g->outputs, v);
    VEC_PUSH(g->cx, &g->arena, &g->aliases, -1);
    return ST_OK;
}

Status
t_clone(Graph *out, const Graph *in, OpId o, const Val *map, Val *result)
{
    Val few[FEW], *v = few;
    const Op *op = graph_op(in, o);
    if (op->code == T_input)
        return input_typed(out, in->vals.p[op->out.i].type, op->loc, result);
    if (op->nin > FEW)
        NEW(out->cx, &out->cx->scratch, v, op->nin);
    for (int i = 0; i < op->nin; i++)
        v[i] = map[op_val(in, op, i).i];
    if (op->code == T_matmul)
        return t_matmul(out, v[0], v[1], op->loc, result);
    return t_emit(out, (TOp)op->code, v, op->nin, op->attr, op->loc, result);
}
