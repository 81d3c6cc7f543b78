/* verify.c - what must hold for every tensor graph.
 *
 * in:   any graph of the tensor dialect, also one that was parsed
 * out:  ST_OK, or the first violation
 * rule: linear; types are inferred again and compared, so the rules stand in infer.c alone.
 */
#include "tensor/tensor.h"

static Status
check_attrs(const Graph *g, const Op *op)
{
    const OpDef *d = op_def(g, op);
    for (int i = 0; i < COUNT_OF(d->attrs) && d->attrs[i] != A_none; i++) {
        Key k = (Key)d->attrs[i];
        if (k == A_value || k == A_ivalue || k == A_keepdims)
            continue;
        if (attr_find(g->cx, op->attr, k) == NULL)
            return fail(g->cx, ST_USER, op->loc, "NKI-2030 %s: attribute %s is missing", d->name, attr_name(k));
    }
    return ST_OK;
}

static Status
check_full(const Graph *g, const Op *op)
{
    bool real = is_float(val_dtype(g, op->out));
    Key want = real ? A_value : A_ivalue, other = real ? A_ivalue : A_value;
    if (attr_find(g->cx, op->attr, want) == NULL || attr_find(g->cx, op->attr, other) != NULL)
        return fail(g->cx, ST_USER, op->loc, "NKI-2031 full: dtype %s takes the attribute %s",
                    dtypes[val_dtype(g, op->out)].name, attr_name(want));
    int64_t v = attr_int(g->cx, op->attr, A_ivalue, 0);
    if (wrap_int(val_dtype(g, op->out), v) != v)
        return fail(g->cx, ST_USER, op->loc, "NKI-2032 full: %s cannot hold %lld", dtypes[val_dtype(g, op->out)].name,
                    (long long)v);
    return ST_OK;
}

static Status
check_const(const Graph *g, const Op *op)
{
    const Data *d = attr_find(g->cx, op->attr, A_data)->data;
    const Type *t = val_type(g, op->out);
    if (d->dtype != t->dtype || d->bytes != (size_t)type_numel(t) * dtypes[t->dtype].bytes)
        return fail(g->cx, ST_USER, op->loc, "NKI-2033 const: %zu bytes of %s do not fill its type", d->bytes,
                    dtypes[d->dtype].name);
    return ST_OK;
}

static Status
check_input(const Graph *g, const Op *op)
{
    int64_t k = attr_int(g->cx, op->attr, A_index, -1);
    if (k < 0 || k >= g->inputs.n || g->inputs.p[k].i != op->out.i)
        return fail(g->cx, ST_USER, op->loc, "NKI-2034 input: index %lld is not its place among the inputs",
                    (long long)k);
    return ST_OK;
}

static Status
check_bool(const Graph *g, const Op *op)
{
    DType dt = val_dtype(g, op_val(g, op, 0));
    if (dt != DT_bool)
        return fail(g->cx, ST_TYPE, op->loc, "NKI-2035 %s: operands must be bool, got %s", op_def(g, op)->name,
                    dtypes[dt].name);
    return ST_OK;
}

static Status
check_integer(const Graph *g, const Op *op)
{
    DType dt = val_dtype(g, op_val(g, op, 0));
    if (!is_integer(dt))
        return fail(g->cx, ST_TYPE, op->loc, "NKI-2059 %s: operands must be integers, got %s", op_def(g, op)->name,
                    dtypes[dt].name);
    return ST_OK;
}

static Status
check_own(const Graph *g, const Op *op)
{
    switch ((TOp)op->code) {
    case T_input:
        return check_input(g, op);
    case T_full:
        return check_full(g, op);
    case T_const:
        return check_const(g, op);
    case T_logical_not:
    case T_logical_and:
    case T_logical_or:
    case T_logical_xor:
        return check_bool(g, op);
    case T_bitwise_and:
    case T_bitwise_or:
    case T_bitwise_xor:
    case T_left_shift:
    case T_right_shift:
    case T_shift_down:
    case T_invert:
        return check_integer(g, op);
    default:
        return ST_OK;
    }
}

static Status
check_op(const Graph *g, const Op *op)
{
    TyId type;
    if (val_type(g, op->out)->kind != TY_tensor)
        return fail(g->cx, ST_USER, op->loc, "NKI-2036 %s: its result is no tensor", op_def(g, op)->name);
    TRY(check_attrs(g, op));
    TRY(op_def(g, op)->infer(g->cx, g, op, &type));
    TyId got = g->vals.p[op->out.i].type;
    if (type.i != got.i) {
        char a[MAX_SHAPE_TEXT], b[MAX_SHAPE_TEXT];
        const Type *want = type_get(g->cx, type), *have = type_get(g->cx, got);
        return fail(g->cx, ST_USER, op->loc, "NKI-2037 %s: its result is %s %s, the graph says %s %s",
                    op_def(g, op)->name, dtypes[want->dtype].name, shape_text(a, want->rank, want->dim),
                    dtypes[have->dtype].name, shape_text(b, have->rank, have->dim));
    }
    return check_own(g, op);
}

Status
tensor_verify(const Graph *g)
{
    if (g->dialect->verify != tensor_verify)
        return fail(g->cx, ST_BUG, (LocId){0}, "NKI-2038 not a tensor graph");
    TRY(graph_check(g));
    FOR_OPS(g, o)
        TRY(check_op(g, graph_op(g, o)));
    return ST_OK;
}
