/* narrow.c - map the dtypes the hardware lacks to those it has: f64, i64, u64 become f32, i32, u32.
 *
 * in:   a verified tensor graph
 * out:  the same function, inputs, outputs and everything between in 32 bits at most
 * rule: says so once per dtype with the place of the first, or refuses (NARROW_error); a
 *       constant that does not fit is refused in any case.
 */
#include "pass/pass.h"

#include <math.h>
#include <stdio.h>

static DType
narrowed(DType d)
{
    switch (d) {
    case DT_f64:
        return DT_f32;
    case DT_i64:
        return DT_i32;
    case DT_u64:
        return DT_u32;
    default:
        return d;
    }
}

static Status
say(const Rewrite *n, DType d, LocId loc)
{
    DType to = narrowed(d);
    bool *said = n->env; /* by dtype */
    if (to == d || said[d])
        return ST_OK;
    said[d] = true;
    if (n->opt != NULL && n->opt->narrow == NARROW_error)
        return fail(n->g->cx, ST_USER, loc,
                    "NKI-4007 the device has no %s; convert to %s with astype, or allow narrowing", dtypes[d].np,
                    dtypes[to].np);
    return warn(n->g->cx, loc, "NKI-4008 %s is computed as %s on the device", dtypes[d].np, dtypes[to].np);
}

static Status
too_large(const Rewrite *n, DType from, LocId loc, const char *text)
{
    return fail(n->g->cx, ST_USER, loc, "NKI-4009 constant %s of dtype %s does not fit %s", text, dtypes[from].np,
                dtypes[narrowed(from)].np);
}

static Status
check_int(const Rewrite *n, DType from, int64_t v, LocId loc)
{
    char text[32];
    bool ok = from == DT_u64 ? (uint64_t)v <= UINT32_MAX : v >= INT32_MIN && v <= INT32_MAX;
    if (ok)
        return ST_OK;
    snprintf(text, sizeof(text), from == DT_u64 ? "%llu" : "%lld", (long long)v);
    return too_large(n, from, loc, text);
}

static Status
check_real(const Rewrite *n, DType from, double v, LocId loc)
{
    char text[32];
    if (!isfinite(v) || isfinite((float)v))
        return ST_OK;
    snprintf(text, sizeof(text), "%g", v);
    return too_large(n, from, loc, text);
}

static Status
narrow_full(const Rewrite *n, const Op *op, Val *out)
{
    const Type *t = val_type(n->in, op->out);
    DType from = (DType)t->dtype, to = narrowed(from);
    if (is_float(from)) {
        double v = attr_float(n->g->cx, op->attr, A_value, 0);
        TRY(check_real(n, from, v, op->loc));
        return t_full(n->g, to, t->rank, t->dim, v, op->loc, out);
    }
    int64_t v = attr_int(n->g->cx, op->attr, A_ivalue, 0);
    TRY(check_int(n, from, v, op->loc));
    return t_full_int(n->g, to, t->rank, t->dim, v, op->loc, out);
}

static Status
narrow_const(const Rewrite *n, const Op *op, Val *out)
{
    Ctx *cx = n->g->cx;
    const Type *t = val_type(n->in, op->out);
    const Data *d = attr_find(cx, op->attr, A_data)->data;
    DType from = (DType)t->dtype, to = narrowed(from);
    int64_t numel = type_numel(t);
    uint32_t *p; /* f32, i32 or u32 */
    NEW(cx, &cx->scratch, p, numel);
    for (int64_t i = 0; i < numel; i++) {
        if (is_float(from)) {
            double v = ((const double *)d->p)[i];
            TRY(check_real(n, from, v, op->loc));
            ((float *)p)[i] = (float)v;
        } else {
            int64_t v = ((const int64_t *)d->p)[i];
            TRY(check_int(n, from, v, op->loc));
            p[i] = (uint32_t)v;
        }
    }
    return t_const(n->g, to, t->rank, t->dim, p, op->loc, out);
}

static Status
narrow_cast(const Rewrite *n, const Op *op, Val *out)
{
    DType to = narrowed((DType)attr_int(n->g->cx, op->attr, A_dtype, DT_none));
    Val x = n->map[op_val(n->in, op, 0).i];
    AttrId attr;
    TRY(attr_make(n->g->cx, &AT_INT(A_dtype, to), 1, &attr));
    return t_emit(n->g, (TOp)op->code, &x, 1, attr, op->loc, out);
}

static Status
narrow_op(const Rewrite *n, OpId o, Val *out)
{
    const Op *op = graph_op(n->in, o);
    const Type *t = val_type(n->in, op->out);
    bool wide = narrowed((DType)t->dtype) != t->dtype;
    TRY(say(n, (DType)t->dtype, op->loc));
    if (wide && op->code == T_full)
        return narrow_full(n, op, out);
    if (wide && op->code == T_const)
        return narrow_const(n, op, out);
    if (wide && op->code == T_input)
        return t_input(n->g, str_get(n->g->cx, n->in->vals.p[op->out.i].name), narrowed((DType)t->dtype), t->rank,
                       t->dim, op->loc, out);
    if (op->code == T_cast || op->code == T_rcast)
        return narrow_cast(n, op, out);
    return t_clone(n->g, n->in, o, n->map, out);
}

Status
pass_narrow(const Graph *in, const CompileOptions *opt, Graph **out)
{
    bool said[DT_COUNT] = {false};
    return graph_rewrite(in, opt, narrow_op, said, out);
}
