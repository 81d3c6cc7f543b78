/* fold.c - what an op becomes when it need not be one.
 *
 * in:   an op about to be made: its operands, attributes and result type
 * out:  a value that equals it in every bit NumPy defines, or none
 * rule: constant time, looks one op deep, keeps the type, makes the graph no slower. x + 0.0
 *       stays: it turns -0.0 into 0.0; x - x stays on floats: it may be nan. Of a chain of updates it
 *       looks at the last few; the whole chain is for pass/updates.c.
 */
#include "tensor/tensor.h"

#include <math.h>

#define LOOK_BACK 16 /* updates of a chain that a slice looks at */

typedef struct Site { /* the op about to be made */
    Graph *g;
    TOp op;
    const Val *in;
    int nin;
    AttrId attr;
    const Type *t;
    TyId type;
    LocId loc;
    Val *out;
} Site;

static Status
fold_real(const Site *s, double v)
{
    return t_full(s->g, (DType)s->t->dtype, s->t->rank, s->t->dim, v, s->loc, s->out);
}

static Status
fold_int(const Site *s, int64_t v)
{
    return t_full_int(s->g, (DType)s->t->dtype, s->t->rank, s->t->dim, v, s->loc, s->out);
}

/* v in the result's shape; dtypes agree. */
static Status
fold_to(const Site *s, Val v)
{
    *s->out = v;
    if (s->g->vals.p[v.i].type.i == s->type.i)
        return ST_OK;
    return t_broadcast_to(s->g, v, s->t->dim, s->t->rank, s->loc, s->out);
}

/* ---- rules by kind of op ---- */

static Status
fold_unary_full(const Site *s, const Num *x)
{
    DType dt = val_dtype(s->g, s->in[0]);
    double y;
    int64_t i;
    if (x->real && eval_unary(s->op, x->f, &y))
        return fold_real(s, y);
    if (!x->real && eval_unary_int(s->op, x->i, dtypes[dt].kind == DK_uint, &i))
        return fold_int(s, i);
    return ST_OK;
}

static bool
is_rounding(int op)
{
    return op == T_floor || op == T_ceil || op == T_rint || op == T_trunc;
}

static Status
fold_unary(const Site *s)
{
    Graph *g = s->g;
    Val x = s->in[0];
    const Op *d = val_def(g, x);
    Num num;
    if (d->code == T_full && full_num(g, x, &num))
        return fold_unary_full(s, &num);
    bool whole = !is_float(val_dtype(g, x));
    if (s->op == T_positive || (is_rounding(s->op) && (whole || is_rounding(d->code))))
        *s->out = x;
    else if (s->op == T_isnan && whole)
        return fold_int(s, 0);
    else if ((s->op == T_neg || s->op == T_logical_not) && d->code == s->op)
        *s->out = op_val(g, d, 0);
    else if (s->op == T_abs &&
             (d->code == T_abs || dtypes[val_dtype(g, x)].kind == DK_uint || val_dtype(g, x) == DT_bool))
        *s->out = x;
    else if ((s->op == T_abs || s->op == T_square) && d->code == T_neg)
        return t_unary(g, s->op, op_val(g, d, 0), s->loc, s->out);
    return ST_OK;
}

static Status
fold_binary_full(const Site *s, const Num *a, const Num *b)
{
    DType dt = val_dtype(s->g, s->in[0]);
    double y;
    int64_t i;
    if (a->real && eval_binary(s->op, a->f, b->f, &y))
        return fold_real(s, y);
    int64_t bits = dtypes[dt].bytes < 8 ? ((int64_t)1 << 8 * dtypes[dt].bytes) - 1 : -1;
    int64_t left = s->op == T_shift_down ? a->i & bits : a->i;
    if (!a->real && eval_binary_int(s->op, left, b->i, dtypes[dt].kind == DK_uint, &i))
        return fold_int(s, i);
    return ST_OK;
}

/* Both operands are x. */
static Status
fold_same(const Site *s, Val x)
{
    bool real = is_float(val_dtype(s->g, x));
    switch (s->op) {
    case T_maximum:
    case T_minimum:
    case T_logical_and:
    case T_logical_or:
    case T_bitwise_and:
    case T_bitwise_or:
        *s->out = x;
        return ST_OK;
    case T_sub:
    case T_remainder:
    case T_logical_xor:
    case T_bitwise_xor:
    case T_not_equal:
    case T_less:
    case T_greater:
        if (real && s->op != T_less && s->op != T_greater) /* nan */
            return ST_OK;
        return fold_int(s, 0);
    case T_equal:
    case T_less_equal:
    case T_greater_equal:
        return real ? ST_OK : fold_int(s, 1);
    default:
        return ST_OK;
    }
}

/* x / 2**k is x * 2**-k as long as that is a number of the dtype. */
static Status
fold_divisor(const Site *s, double b)
{
    int e;
    unsigned char bits[8];
    Val inverse;
    DType dt = (DType)s->t->dtype;
    if (fabs(frexp(b, &e)) != 0.5 || e < -120 || e > 120)
        return ST_OK;
    dtype_store(dt, 1 / b, bits);
    if (dtype_load(dt, bits) != 1 / b)
        return ST_OK;
    const Type *t = val_type(s->g, s->in[1]);
    TRY(t_full(s->g, dt, t->rank, t->dim, 1 / b, s->loc, &inverse));
    return t_binary(s->g, T_mul, s->in[0], inverse, s->loc, s->out);
}

/* x op c on floats */
static Status
fold_right_real(const Site *s, Val x, double c)
{
    switch (s->op) {
    case T_add:
        return c == 0 && signbit(c) ? fold_to(s, x) : ST_OK;
    case T_sub:
        return c == 0 && !signbit(c) ? fold_to(s, x) : ST_OK;
    case T_mul:
        return c == 1 ? fold_to(s, x) : ST_OK;
    case T_div:
        return c == 1 ? fold_to(s, x) : fold_divisor(s, c);
    case T_power:
        return c == 1 ? fold_to(s, x) : c == 0 ? fold_real(s, 1) : ST_OK;
    default:
        return ST_OK;
    }
}

/* x op c on integers and bools */
static Status
fold_right_int(const Site *s, Val x, int64_t c)
{
    switch (s->op) {
    case T_add:
    case T_sub:
    case T_logical_xor:
    case T_bitwise_or:
    case T_bitwise_xor:
    case T_left_shift:
    case T_right_shift:
    case T_shift_down:
        return c == 0 ? fold_to(s, x) : ST_OK;
    case T_bitwise_and:
        return c == 0 ? fold_int(s, 0) : ST_OK;
    case T_logical_or:
        return c == 0 ? fold_to(s, x) : fold_int(s, 1);
    case T_logical_and:
        return c == 0 ? fold_int(s, 0) : fold_to(s, x);
    case T_mul:
        return c == 0 ? fold_int(s, 0) : c == 1 ? fold_to(s, x) : ST_OK;
    case T_floor_divide:
        return c == 1 ? fold_to(s, x) : ST_OK;
    case T_remainder:
        return c == 1 ? fold_int(s, 0) : ST_OK;
    case T_power:
        return c == 1 ? fold_to(s, x) : c == 0 ? fold_int(s, 1) : ST_OK;
    default:
        return ST_OK;
    }
}

static Status
fold_binary(const Site *s)
{
    Val a = s->in[0], b = s->in[1];
    Num na, nb;
    bool fa = val_def(s->g, a)->code == T_full && full_num(s->g, a, &na);
    bool fb = val_def(s->g, b)->code == T_full && full_num(s->g, b, &nb);
    if (fa && fb)
        return fold_binary_full(s, &na, &nb);
    if (a.i == b.i)
        return fold_same(s, a);
    if (fa && (tensor_dialect.ops[s->op].flags & F_COMM)) {
        nb = na;
        b = a;
        a = s->in[1];
        fb = true;
    }
    if (!fb)
        return ST_OK;
    return nb.real ? fold_right_real(s, a, nb.f) : fold_right_int(s, a, nb.i);
}

static Status
fold_where(const Site *s)
{
    Graph *g = s->g;
    Num c;
    const Op *d = val_def(g, s->in[0]);
    if (full_num(g, s->in[0], &c))
        return fold_to(s, c.i ? s->in[1] : s->in[2]);
    if (s->in[1].i == s->in[2].i)
        return fold_to(s, s->in[1]);
    if (d->code == T_logical_not)
        return t_where(g, op_val(g, d, 0), s->in[2], s->in[1], s->loc, s->out);
    return ST_OK;
}

/* ml_dtypes makes its formats from f32, and f32 from everything else. */
static double
by_way_of_f32(DType to, double v)
{
    return is_float(to) && dtypes[to].bytes < 4 && to != DT_f16 ? (double)(float)v : v;
}

static Status
fold_cast_full(const Site *s, const Num *x)
{
    DType to = (DType)s->t->dtype;
    if (s->op == T_rcast) {
        double v = num_double(x, val_dtype(s->g, s->in[0]));
        return fabs(v) < 9007199254740992.0 ? fold_real(s, nearbyint(v)) : ST_OK;
    }
    if (x->real)
        return fold_real(s, by_way_of_f32(to, x->f));
    if (is_float(to))
        return fold_real(s, by_way_of_f32(to, num_double(x, val_dtype(s->g, s->in[0]))));
    return fold_int(s, x->i);
}

static Status
fold_cast(const Site *s)
{
    Graph *g = s->g;
    Val x = s->in[0];
    DType from = val_dtype(g, x), to = (DType)s->t->dtype;
    const Op *d = val_def(g, x);
    Num num;
    if (from == to) {
        *s->out = x;
        return ST_OK;
    }
    if (s->op == T_rcast && is_float(to)) /* no difference to a float */
        return t_cast(g, x, to, s->loc, s->out);
    if (d->code == T_full && full_num(g, x, &num))
        return fold_cast_full(s, &num);
    if (d->code == T_cast) {
        Val y = op_val(g, d, 0);
        if (dtype_holds(from, val_dtype(g, y)))
            return s->op == T_cast ? t_cast(g, y, to, s->loc, s->out)
                                   : t_emit(g, T_rcast, &y, 1, s->attr, s->loc, s->out);
    }
    return ST_OK;
}

/* Moves no element past another: the axes longer than 1 keep their order. */
static bool
is_reshape(const Type *a, const int64_t *perm)
{
    int64_t last = -1;
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[perm[i]] == 1)
            continue;
        if (perm[i] < last)
            return false;
        last = perm[i];
    }
    return true;
}

static Status
fold_transpose(const Site *s)
{
    Graph *g = s->g;
    const Op *d = val_def(g, s->in[0]);
    const int64_t *perm, *first;
    int n = attr_ints(g->cx, s->attr, A_perm, &perm);
    if (is_reshape(val_type(g, s->in[0]), perm))
        return t_reshape(g, s->in[0], s->t->dim, n, s->loc, s->out);
    if (d->code != T_transpose)
        return ST_OK;
    int64_t list[MAX_RANK];
    attr_ints(g->cx, d->attr, A_perm, &first);
    for (int i = 0; i < n; i++)
        list[i] = first[perm[i]];
    return t_transpose(g, op_val(g, d, 0), list, n, s->loc, s->out);
}

/* ---- updates ---- */

/* update(b, update(slice(b, box), v, inner), box) writes only v. */
static bool
is_nested(const Graph *g, Val base, Val value, AttrId attr, Box *box, Val *v)
{
    const Op *u = val_def(g, value);
    if (u->code != T_update)
        return false;
    const Op *s = val_def(g, op_val(g, u, 0));
    if (s->code != T_slice || s->attr.i != attr.i || op_val(g, s, 0).i != base.i)
        return false;
    Box in = box_of(g, u);
    for (int i = 0; i < in.rank; i++) {
        box->start[i] += box->step[i] * in.start[i];
        box->step[i] *= in.step[i];
        box->size[i] = in.size[i];
    }
    *v = op_val(g, u, 1);
    return true;
}

/* The value before the updates that `box` writes over, as far as they are the last ones. Each leaves its chain for
 * good, so that a chain is walked once. */
static Val
before_overwritten(const Graph *g, Val base, const Box *box)
{
    for (const Op *u = val_def(g, base); u->code == T_update; u = val_def(g, base)) {
        Box old = box_of(g, u), rel;
        if (!box_is_within(box, &old, &rel))
            break;
        base = op_val(g, u, 0);
    }
    return base;
}

static Status
fold_update(const Site *s)
{
    Graph *g = s->g;
    Box box = box_of(g, &(Op){.attr = s->attr});
    Val base = s->in[0], value = s->in[1];
    const Op *d = val_def(g, value);
    if (type_numel(val_type(g, value)) == 0 ||
        (d->code == T_slice && d->attr.i == s->attr.i && op_val(g, d, 0).i == base.i)) { /* writes what is there */
        *s->out = base;
        return ST_OK;
    }
    if (box_covers_all(&box, val_type(g, base))) {
        *s->out = value;
        return ST_OK;
    }
    bool nested = is_nested(g, base, value, s->attr, &box, &value);
    base = before_overwritten(g, base, &box);
    if (nested || base.i != s->in[0].i)
        return t_update(g, base, value, &box, s->loc, s->out);
    return ST_OK;
}

static Status
fold_slice_of_update(const Site *s)
{
    Graph *g = s->g;
    Box box = box_of(g, &(Op){.attr = s->attr}), rel;
    Val base = s->in[0];
    int n = 0;
    for (const Op *u = val_def(g, base); u->code == T_update; u = val_def(g, base)) {
        Box written = box_of(g, u);
        if (box_is_within(&written, &box, &rel))
            return t_slice(g, op_val(g, u, 1), rel.start, rel.step, rel.size, s->loc, s->out);
        if (!box_is_disjoint(&written, &box))
            break;
        if (++n == LOOK_BACK)
            return ST_OK; /* a slice of something in the middle would look on from there */
        base = op_val(g, u, 0);
    }
    if (base.i == s->in[0].i)
        return ST_OK;
    return t_slice(g, base, box.start, box.step, box.size, s->loc, s->out);
}

static Status
fold_slice(const Site *s)
{
    Graph *g = s->g;
    const Op *d = val_def(g, s->in[0]);
    const int64_t *start, *step, *first, *by;
    int n = attr_ints(g->cx, s->attr, A_start, &start);
    attr_ints(g->cx, s->attr, A_step, &step);
    if (g->vals.p[s->in[0].i].type.i == s->type.i) {
        bool whole = true;
        for (int i = 0; i < n; i++)
            whole &= step[i] == 1 || s->t->dim[i] == 1;
        if (whole) {
            *s->out = s->in[0];
            return ST_OK;
        }
    }
    if (d->code == T_update)
        return fold_slice_of_update(s);
    if (d->code != T_slice)
        return ST_OK;
    int64_t from[MAX_RANK], stride[MAX_RANK];
    attr_ints(g->cx, d->attr, A_start, &first);
    attr_ints(g->cx, d->attr, A_step, &by);
    for (int i = 0; i < n; i++) {
        from[i] = first[i] + by[i] * start[i];
        stride[i] = by[i] * step[i];
    }
    return t_slice(g, op_val(g, d, 0), from, stride, s->t->dim, s->loc, s->out);
}

static Status
fold_concat(const Site *s)
{
    Num a, b;
    if (s->nin == 1) {
        *s->out = s->in[0];
        return ST_OK;
    }
    if (!full_num(s->g, s->in[0], &a))
        return ST_OK;
    for (int i = 1; i < s->nin; i++) {
        if (!full_num(s->g, s->in[i], &b))
            return ST_OK;
        if (a.real ? a.f != b.f || signbit(a.f) != signbit(b.f) : a.i != b.i)
            return ST_OK;
    }
    return a.real ? fold_real(s, a.f) : fold_int(s, a.i);
}

static Status
fold_layout(const Site *s)
{
    Graph *g = s->g;
    Val x = s->in[0];
    const Op *d = val_def(g, x);
    Num num;
    if (d->code == T_full && full_num(g, x, &num))
        return num.real ? fold_real(s, num.f) : fold_int(s, num.i);
    if (s->op == T_transpose)
        return fold_transpose(s);
    if (s->op == T_slice)
        return fold_slice(s);
    if (g->vals.p[x.i].type.i == s->type.i) {
        *s->out = x;
        return ST_OK;
    }
    if (s->op == T_broadcast_to && type_numel(val_type(g, x)) == type_numel(s->t))
        return t_reshape(g, x, s->t->dim, s->t->rank, s->loc, s->out);
    if (d->code == s->op) {
        Val y = op_val(g, d, 0);
        return s->op == T_reshape ? t_reshape(g, y, s->t->dim, s->t->rank, s->loc, s->out)
                                  : t_broadcast_to(g, y, s->t->dim, s->t->rank, s->loc, s->out);
    }
    return ST_OK;
}

/* A sum begins with 0, so that of -0 alone is 0. */
static Status
fold_sum_of_one(const Site *s)
{
    Val zero, x = s->in[0];
    TRY(t_full(s->g, (DType)s->t->dtype, 0, NULL, 0, s->loc, &zero));
    TRY(t_reshape(s->g, x, s->t->dim, s->t->rank, s->loc, &x));
    return t_binary(s->g, T_add, x, zero, s->loc, s->out);
}

static Status
fold_reduce(const Site *s)
{
    Graph *g = s->g;
    const Type *a = val_type(g, s->in[0]);
    const int64_t *axes;
    int n = attr_ints(g->cx, s->attr, A_axes, &axes);
    int64_t count = 1;
    Num num;
    for (int i = 0; i < n; i++)
        count *= a->dim[axes[i]];
    if (count == 0)
        return fold_real(s, 0);
    if (count == 1 && s->op == T_reduce_sum && is_float((DType)s->t->dtype))
        return fold_sum_of_one(s);
    if (count == 1)
        return t_reshape(g, s->in[0], s->t->dim, s->t->rank, s->loc, s->out);
    if (!full_num(g, s->in[0], &num))
        return ST_OK;
    if (s->op != T_reduce_sum)
        return num.real ? fold_real(s, num.f) : fold_int(s, num.i);
    if (num.real)
        return fold_real(s, num.f * (double)count);
    return fold_int(s, (int64_t)((uint64_t)num.i * (uint64_t)count));
}

Status
t_fold(Graph *g, TOp op, const Val *in, int nin, AttrId attr, TyId type, LocId loc, Val *out)
{
    const Type *t = type_get(g->cx, type);
    const Site s = {g, op, in, nin, attr, t, type, loc, out};
    if (nin == 0)
        return ST_OK;
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] == 0)
            return fold_real(&s, 0); /* nothing to compute */
    }
    int flags = tensor_dialect.ops[op].flags;
    if (op == T_cast || op == T_rcast)
        return fold_cast(&s);
    if (flags & F_EW)
        return nin == 1 ? fold_unary(&s) : nin == 2 ? fold_binary(&s) : fold_where(&s);
    if (op == T_concat)
        return fold_concat(&s);
    if (op == T_update)
        return fold_update(&s);
    if (flags & F_LAYOUT)
        return fold_layout(&s);
    if (flags & F_REDUCE)
        return fold_reduce(&s);
    if (op == T_matmul && val_type(g, in[0])->dim[val_type(g, in[0])->rank - 1] == 0)
        return fold_real(&s, 0);
    return ST_OK;
}
