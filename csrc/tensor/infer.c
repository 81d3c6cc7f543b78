/* infer.c - result types of the tensor ops: NumPy's shape rules on static shapes.
 *
 * in:   an op whose operands are in the graph; it need not be appended itself
 * out:  the type of its result, or an error that says what was given and what was expected
 * rule: dtypes of operands are equal already (the builder promotes); no rule looks beyond the
 *       operands' types.
 */
#include "tensor/tensor.h"

#include <stdio.h>

const char *
shape_text(char buf[MAX_SHAPE_TEXT], int rank, const int64_t *dim)
{
    size_t n = 0;
    buf[n++] = '(';
    for (int i = 0; i < rank && n < MAX_SHAPE_TEXT - 30; i++)
        n += (size_t)snprintf(buf + n, MAX_SHAPE_TEXT - n, i ? ", %lld" : "%lld", (long long)dim[i]);
    snprintf(buf + n, MAX_SHAPE_TEXT - n, rank == 1 ? ",)" : ")");
    return buf;
}

bool
is_too_large(int rank, const int64_t *dim)
{
    double n = 1;
    for (int i = 0; i < rank; i++)
        n *= (double)dim[i];
    return n > (double)MAX_NUMEL;
}

static const Type *
in_type(const Graph *g, const Op *op, int i)
{
    return val_type(g, op_val(g, op, i));
}

static const char *
np(const Graph *g, const Op *op)
{
    return np_name(op_def(g, op));
}

/* Interns a result type; refuses ranks and sizes that nothing after us could handle. */
static Status
result(const Graph *g, const Op *op, DType dt, int rank, const int64_t *dim, TyId *out)
{
    char text[MAX_SHAPE_TEXT];
    if (rank > MAX_RANK)
        return fail(g->cx, ST_UNSUPPORTED, op->loc,
                    "NKI-2001 %s: arrays of %d dimensions are not supported, at most %d", np(g, op), rank, MAX_RANK);
    for (int i = 0; i < rank; i++)
        if (dim[i] < 0)
            return fail(g->cx, ST_USER, op->loc, "NKI-2002 %s: negative dimensions are not allowed: %s", np(g, op),
                        shape_text(text, rank, dim));
    if (is_too_large(rank, dim))
        return fail(g->cx, ST_USER, op->loc, "NKI-2003 %s: an array of shape %s is too large", np(g, op),
                    shape_text(text, rank, dim));
    return tensor_type(g->cx, dt, rank, dim, out);
}

Status
infer_same(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    (void)cx;
    *out = g->vals.p[op_val(g, op, 0).i].type;
    return ST_OK;
}

Status
broadcast_dims(Ctx *cx, LocId loc, const char *what, const Type *a, const Type *b, int *rank, int64_t *dim)
{
    int r = MAX(a->rank, b->rank);
    for (int i = 1; i <= r; i++) {
        int64_t da = i <= a->rank ? a->dim[a->rank - i] : 1;
        int64_t db = i <= b->rank ? b->dim[b->rank - i] : 1;
        if (da != db && da != 1 && db != 1) {
            char ta[MAX_SHAPE_TEXT], tb[MAX_SHAPE_TEXT];
            return fail(cx, ST_USER, loc, "NKI-2004 %s: shapes %s and %s do not broadcast", what,
                        shape_text(ta, a->rank, a->dim), shape_text(tb, b->rank, b->dim));
        }
        dim[r - i] = da == 1 ? db : da;
    }
    *rank = r;
    return ST_OK;
}

static Status
same_dtype(const Graph *g, const Op *op, const Type *a, const Type *b)
{
    if (a->dtype != b->dtype)
        return fail(g->cx, ST_TYPE, op->loc, "NKI-2005 %s: operands must have one dtype, got %s and %s", np(g, op),
                    dtypes[a->dtype].name, dtypes[b->dtype].name);
    return ST_OK;
}

Status
infer_broadcast(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    TyId ta = g->vals.p[op_val(g, op, 0).i].type, tb = g->vals.p[op_val(g, op, 1).i].type;
    if (ta.i == tb.i) {
        *out = ta;
        return ST_OK;
    }
    const Type *a = type_get(cx, ta), *b = type_get(cx, tb);
    int rank;
    int64_t dim[MAX_RANK];
    TRY(same_dtype(g, op, a, b));
    TRY(broadcast_dims(cx, op->loc, np(g, op), a, b, &rank, dim));
    return result(g, op, (DType)a->dtype, rank, dim, out);
}

Status
infer_compare(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    const Type *a = in_type(g, op, 0), *b = in_type(g, op, op->nin - 1);
    int rank;
    int64_t dim[MAX_RANK];
    TRY(same_dtype(g, op, a, b));
    TRY(broadcast_dims(cx, op->loc, np(g, op), a, b, &rank, dim));
    return result(g, op, DT_bool, rank, dim, out);
}

Status
infer_where(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    const Type *c = in_type(g, op, 0), *a = in_type(g, op, 1), *b = in_type(g, op, 2);
    if (c->dtype != DT_bool)
        return fail(cx, ST_TYPE, op->loc, "NKI-2006 where: the condition must be bool, got %s", dtypes[c->dtype].name);
    TRY(same_dtype(g, op, a, b));
    int rank;
    int64_t dim[MAX_RANK];
    TRY(broadcast_dims(cx, op->loc, "where", a, b, &rank, dim));
    Type ab = {.rank = (uint8_t)rank};
    for (int i = 0; i < rank; i++)
        ab.dim[i] = dim[i];
    TRY(broadcast_dims(cx, op->loc, "where", c, &ab, &rank, dim));
    return result(g, op, (DType)a->dtype, rank, dim, out);
}

Status
infer_reduce(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    const Type *a = in_type(g, op, 0);
    const int64_t *axes;
    int n = attr_ints(cx, op->attr, A_axes, &axes), rank = 0;
    bool keep = attr_int(cx, op->attr, A_keepdims, 0);
    int64_t dim[MAX_RANK];
    unsigned reduced = 0;
    for (int i = 0; i < n; i++) {
        if (axes[i] < 0 || axes[i] >= a->rank)
            return fail(cx, ST_USER, op->loc, "NKI-2007 %s: axis %lld is out of bounds for array of dimension %d",
                        np(g, op), (long long)axes[i], a->rank);
        if (i && axes[i] <= axes[i - 1])
            return fail(cx, ST_USER, op->loc, "NKI-2008 %s: axes must be ascending and distinct", np(g, op));
        reduced |= 1u << axes[i];
    }
    bool empty = false;
    for (int i = 0; i < a->rank; i++) {
        bool r = reduced >> i & 1;
        empty |= r && a->dim[i] == 0;
        if (!r || keep)
            dim[rank++] = r ? 1 : a->dim[i];
    }
    if (empty && op->code != T_reduce_sum)
        return fail(cx, ST_USER, op->loc, "NKI-2009 %s: zero-size array to a reduction that has no identity",
                    np(g, op));
    return result(g, op, (DType)a->dtype, rank, dim, out);
}

/* NumPy has no matmul loop for its extension dtypes and takes the one for f32. */
static DType
matmul_dtype(DType d)
{
    return is_float(d) && d != DT_f16 && d != DT_f64 ? DT_f32 : d;
}

static Status
matmul_batch(Ctx *cx, const Op *op, const Type *a, const Type *b, int *rank, int64_t *dim)
{
    Type ba = *a, bb = *b;
    ba.rank = (uint8_t)MAX(a->rank - 2, 0);
    bb.rank = (uint8_t)MAX(b->rank - 2, 0);
    if (broadcast_dims(cx, op->loc, "matmul", &ba, &bb, rank, dim) == ST_OK)
        return ST_OK;
    char ta[MAX_SHAPE_TEXT], tb[MAX_SHAPE_TEXT];
    return fail(cx, ST_USER, op->loc, "NKI-2010 matmul: leading dimensions do not broadcast: %s @ %s",
                shape_text(ta, a->rank, a->dim), shape_text(tb, b->rank, b->dim));
}

Status
infer_matmul(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    const Type *a = in_type(g, op, 0), *b = in_type(g, op, 1);
    char ta[MAX_SHAPE_TEXT], tb[MAX_SHAPE_TEXT];
    TRY(same_dtype(g, op, a, b));
    if (a->rank == 0 || b->rank == 0)
        return fail(cx, ST_USER, op->loc, "NKI-2012 matmul: operands need at least one dimension, got %s @ %s",
                    shape_text(ta, a->rank, a->dim), shape_text(tb, b->rank, b->dim));
    int64_t ka = a->dim[a->rank - 1], kb = b->dim[b->rank == 1 ? 0 : b->rank - 2];
    if (ka != kb)
        return fail(cx, ST_USER, op->loc, "NKI-2013 matmul: inner dimensions differ: %s @ %s",
                    shape_text(ta, a->rank, a->dim), shape_text(tb, b->rank, b->dim));
    int rank;
    int64_t dim[MAX_RANK + 2];
    TRY(matmul_batch(cx, op, a, b, &rank, dim));
    if (a->rank > 1)
        dim[rank++] = a->dim[a->rank - 2];
    if (b->rank > 1)
        dim[rank++] = b->dim[b->rank - 1];
    return result(g, op, matmul_dtype((DType)a->dtype), rank, dim, out);
}

static Status
infer_transpose(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    const Type *a = in_type(g, op, 0);
    const int64_t *perm;
    int n = attr_ints(cx, op->attr, A_perm, &perm);
    int64_t dim[MAX_RANK];
    unsigned seen = 0;
    if (n != a->rank)
        return fail(cx, ST_USER, op->loc, "NKI-2014 transpose: %d axes given for array of dimension %d", n, a->rank);
    for (int i = 0; i < n; i++) {
        if (perm[i] < 0 || perm[i] >= n)
            return fail(cx, ST_USER, op->loc,
                        "NKI-2015 transpose: axis %lld is out of bounds for array of dimension %d", (long long)perm[i],
                        n);
        if (seen >> perm[i] & 1)
            return fail(cx, ST_USER, op->loc, "NKI-2016 transpose: repeated axis %lld", (long long)perm[i]);
        seen |= 1u << perm[i];
        dim[i] = a->dim[perm[i]];
    }
    return result(g, op, (DType)a->dtype, n, dim, out);
}

static Status
infer_reshape(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    const Type *a = in_type(g, op, 0);
    const int64_t *dim;
    int n = attr_ints(cx, op->attr, A_shape, &dim);
    char text[MAX_SHAPE_TEXT];
    TRY(result(g, op, (DType)a->dtype, n, dim, out));
    if (type_numel(type_get(cx, *out)) != type_numel(a))
        return fail(cx, ST_USER, op->loc, "NKI-2017 reshape: cannot reshape array of size %lld into shape %s",
                    (long long)type_numel(a), shape_text(text, n, dim));
    return ST_OK;
}

static Status
infer_broadcast_to(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    const Type *a = in_type(g, op, 0);
    const int64_t *dim;
    int n = attr_ints(cx, op->attr, A_shape, &dim);
    bool ok = n >= a->rank;
    for (int i = 1; ok && i <= a->rank; i++)
        ok = a->dim[a->rank - i] == dim[n - i] || a->dim[a->rank - i] == 1;
    if (!ok) {
        char ta[MAX_SHAPE_TEXT], tb[MAX_SHAPE_TEXT];
        return fail(cx, ST_USER, op->loc, "NKI-2018 broadcast_to: shape %s does not broadcast to %s",
                    shape_text(ta, a->rank, a->dim), shape_text(tb, n, dim));
    }
    return result(g, op, (DType)a->dtype, n, dim, out);
}

/* The box of a slice or an update lies in its operand. */
static Status
check_box(Ctx *cx, const Graph *g, const Op *op, const int64_t **size)
{
    const Type *a = in_type(g, op, 0);
    const int64_t *start, *step;
    int n = attr_ints(cx, op->attr, A_start, &start);
    if (n != a->rank || attr_ints(cx, op->attr, A_step, &step) != n || attr_ints(cx, op->attr, A_size, size) != n)
        return fail(cx, ST_USER, op->loc, "NKI-2019 %s: start, step and size need %d entries each", np(g, op), a->rank);
    for (int i = 0; i < n; i++) {
        int64_t last, count = (*size)[i];
        if (step[i] == 0)
            return fail(cx, ST_USER, op->loc, "NKI-2020 %s: step of axis %d is 0", np(g, op), i);
        if (count == 0)
            continue;
        if (count < 0 || __builtin_mul_overflow(step[i], count - 1, &last) ||
            __builtin_add_overflow(last, start[i], &last) || start[i] < 0 || start[i] >= a->dim[i] || last < 0 ||
            last >= a->dim[i])
            return fail(cx, ST_USER, op->loc,
                        "NKI-2021 %s: %lld elements from %lld with step %lld leave axis %d of size %lld", np(g, op),
                        (long long)count, (long long)start[i], (long long)step[i], i, (long long)a->dim[i]);
        if (op->code == T_update && step[i] <= 0)
            return fail(cx, ST_USER, op->loc, "NKI-2022 update: the step of axis %d must be positive, got %lld", i,
                        (long long)step[i]);
    }
    return ST_OK;
}

static Status
infer_slice(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    const Type *a = in_type(g, op, 0);
    const int64_t *size;
    TRY(check_box(cx, g, op, &size));
    return result(g, op, (DType)a->dtype, a->rank, size, out);
}

static Status
infer_update(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    const Type *a = in_type(g, op, 0), *v = in_type(g, op, 1);
    const int64_t *size;
    TRY(same_dtype(g, op, a, v));
    TRY(check_box(cx, g, op, &size));
    bool ok = v->rank == a->rank;
    for (int i = 0; ok && i < a->rank; i++)
        ok = v->dim[i] == size[i];
    if (!ok) {
        char ta[MAX_SHAPE_TEXT], tb[MAX_SHAPE_TEXT];
        return fail(cx, ST_USER, op->loc, "NKI-2023 update: a value of shape %s does not fit a part of shape %s",
                    shape_text(ta, v->rank, v->dim), shape_text(tb, a->rank, size));
    }
    *out = g->vals.p[op_val(g, op, 0).i].type;
    return ST_OK;
}

static Status
infer_concat(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    if (op->nin == 0)
        return fail(cx, ST_USER, op->loc, "NKI-2024 concatenate: need at least one array");
    const Type *a = in_type(g, op, 0);
    int64_t axis = attr_int(cx, op->attr, A_axis, 0), dim[MAX_RANK], sum = 0;
    if (axis < 0 || axis >= a->rank)
        return fail(cx, ST_USER, op->loc, "NKI-2025 concatenate: axis %lld is out of bounds for array of dimension %d",
                    (long long)axis, a->rank);
    for (int k = 0; k < op->nin; k++) {
        const Type *b = in_type(g, op, k);
        TRY(same_dtype(g, op, a, b));
        bool ok = a->rank == b->rank;
        for (int i = 0; ok && i < a->rank; i++)
            ok = i == axis || a->dim[i] == b->dim[i];
        if (!ok) {
            char ta[MAX_SHAPE_TEXT], tb[MAX_SHAPE_TEXT];
            return fail(cx, ST_USER, op->loc, "NKI-2026 concatenate: shapes %s and %s differ in more than axis %lld",
                        shape_text(ta, a->rank, a->dim), shape_text(tb, b->rank, b->dim), (long long)axis);
        }
        if (__builtin_add_overflow(sum, b->dim[axis], &sum))
            return fail(cx, ST_USER, op->loc, "NKI-2027 concatenate: the arrays are too large together");
    }
    for (int i = 0; i < a->rank; i++)
        dim[i] = i == axis ? sum : a->dim[i];
    return result(g, op, (DType)a->dtype, a->rank, dim, out);
}

Status
infer_layout(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    switch ((TOp)op->code) {
    case T_transpose:
        return infer_transpose(cx, g, op, out);
    case T_reshape:
        return infer_reshape(cx, g, op, out);
    case T_broadcast_to:
        return infer_broadcast_to(cx, g, op, out);
    case T_slice:
        return infer_slice(cx, g, op, out);
    case T_concat:
        return infer_concat(cx, g, op, out);
    case T_update:
        return infer_update(cx, g, op, out);
    default:
        return fail(cx, ST_BUG, op->loc, "NKI-2028 %s is no layout op", np(g, op));
    }
}

Status
infer_attr(Ctx *cx, const Graph *g, const Op *op, TyId *out)
{
    if (op->code == T_input) { /* its type is given, not inferred */
        *out = g->vals.p[op->out.i].type;
        return ST_OK;
    }
    int64_t dt = attr_int(cx, op->attr, A_dtype, DT_none);
    if (dt <= DT_none || dt >= DT_COUNT)
        return fail(cx, ST_USER, op->loc, "NKI-2029 %s: no dtype", np(g, op));
    if (op->nin) {
        const Type *a = in_type(g, op, 0);
        return result(g, op, (DType)dt, a->rank, a->dim, out);
    }
    const int64_t *dim;
    int n = attr_ints(cx, op->attr, A_shape, &dim);
    return result(g, op, (DType)dt, n, dim, out);
}
