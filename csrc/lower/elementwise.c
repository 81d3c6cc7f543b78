/* elementwise.c - element-wise ops of a row tile: which instruction each becomes.
 *
 * in:   an op whose operands have nodes
 * out:  its node: a tile that one instruction has written, or a chain that waits (chain.c)
 * rule: waiting operands are taken in where the instruction has room for them; immediates and [P, 1] operands are tried
 *       before whole tiles
 */
#include "lower/context.h"

#include <math.h>

/* ---- activations ---- */
typedef struct ActIn {
    bool has_scale, has_bias;
    Scal scale, bias;
} ActIn;

static Scal
imm_scal(double v)
{
    return (Scal){.is_imm = true, .imm = v};
}

/* x * a * b as x * (a * b): nothing that over- or underflows on the way comes back. */
static bool
may_merge_factors(const Scal *a, const Scal *b)
{
    return a->is_imm && b->is_imm && (fabs(a->imm) <= 1) == (fabs(b->imm) <= 1);
}

/* x * scale + bias, step by step; false when the chain is of another form, as (x + b) * s is: its sum may cancel. */
static bool
affine_step(ActIn *a, Alu op, const Scal *s, bool rev)
{
    if (op == ALU_multiply && !a->has_bias) {
        if (a->has_scale && !may_merge_factors(&a->scale, s))
            return false;
        a->scale = a->has_scale ? imm_scal(a->scale.imm * s->imm) : *s;
        a->has_scale = true;
        return true;
    }
    if (a->has_bias || (op != ALU_add && op != ALU_subtract))
        return false;
    if (op == ALU_subtract && rev) { /* s - x */
        if (a->has_scale && !a->scale.is_imm)
            return false;
        a->scale = imm_scal(a->has_scale ? -a->scale.imm : -1.0);
        a->has_scale = true;
        a->bias = *s;
    } else if (op == ALU_subtract) {
        if (!s->is_imm)
            return false;
        a->bias = imm_scal(-s->imm);
    } else {
        a->bias = *s;
    }
    return a->has_bias = true;
}

static bool
as_affine(const Node *n, ActIn *a)
{
    *a = (ActIn){0};
    for (int k = 0; k < n->nops; k++)
        if (!affine_step(a, (Alu)n->op[k], &n->scal[k], n->rev[k]))
            return false;
    return true;
}

static Status
put_bias(Lower *l, Instr *in, const ActIn *a)
{
    if (!a->has_bias)
        return ST_OK;
    Scal b = a->bias;
    if (b.is_imm && l->hw->gen < 3 && b.imm != 0) { /* generation 2 takes tiles only */
        b.is_imm = false;
        TRY(const_tile(l, b.imm, DT_f32, &b.tile));
    }
    if (!b.is_imm || b.imm != 0)
        put_scal(in, KA_bias, &b, A_bias);
    return ST_OK;
}

/* The activation may carry the sum: no loop around it walks what the sum reduces. */
static bool
may_carry(const Lower *l, const Instr *in, Val sum)
{
    uint32_t reduced = reduced_dims(l->g, val_def(l->g, sum));
    Instr with = *in;
    Tile *res = &with.arg[KA_reduce_res];
    *res = (Tile){.buf = {1}, .rstride = 1}; /* any buffer will do: what counts is along which dims it moves */
    for (int i = 0; i < in->rank; i++)
        res->stride[i] = reduced >> i & 1 ? 0 : 1;
    with.is_scal[KA_reduce_res] = true;
    with.nargs = 5;
    return !instr_loops_over(l, &with, reduced);
}

static Status
lower_activation(Lower *l, const Op *op, Act func)
{
    Node n;
    ActIn a;
    TRY(take_chain(l, op, 0, 2, &n));
    if (!as_affine(&n, &a)) {
        Node *own;
        TRY(operand(l, op, 0, &own));
        TRY(force(l, op_val(l->g, op, 0), own));
        TRY(take_chain(l, op, 0, 0, &n));
        as_affine(&n, &a);
    }
    Instr in = {.op = K_activation, .nargs = 5};
    Tile sum;
    Node dst;
    Val sum_val;
    TRY(result_tile(l, op, n.mm ? 0 : 1, &dst));
    instr_space(l, op->out, &in);
    instr_arg(&in, 0, &dst.tile);
    put_base(&in, KA_data, &n);
    in.at[in.nat++] = AT_INT(A_func, func);
    if (a.has_scale)
        put_scal(&in, KA_scale, &a.scale, A_scale);
    TRY(put_bias(l, &in, &a));
    if (carried_sum(l, op->out, &sum_val) && may_carry(l, &in, sum_val)) {
        TRY(new_sum(l, sum_val, &sum));
        instr_arg(&in, KA_reduce_res, &sum);
        in.is_scal[KA_reduce_res] = true;
        in.nargs = 5;
    }
    TRY(emit_instr(l, &in));
    l->node[op->out.i] = dst;
    return ST_OK;
}

/* ---- two operands ---- */
/* Arithmetic on native words, and powers. */
static bool
needs_gpsimd(const Lower *l, const Op *op, Alu alu)
{
    bool words = is_integer(val_dtype(l->g, op->out));
    return alu == ALU_power || (words && (alu == ALU_add || alu == ALU_subtract || alu == ALU_multiply));
}

/* Operands as they are, in integer tiles: no step that waits, no number in f32. */
static bool
takes_bits(Alu alu)
{
    return alu == ALU_bitwise_and || alu == ALU_bitwise_or || alu == ALU_bitwise_xor || alu == ALU_left_shift ||
           alu == ALU_right_shift;
}

static Status
emit_tensor_tensor(Lower *l, const Op *op, Alu alu)
{
    Instr in = {.op = K_tensor_tensor};
    Node dst;
    for (int i = 0; i < 2; i++) {
        Node n;
        TRY(take_chain(l, op, i, 0, &n));
        if (in.mm && n.mm) { /* one matmul at a time */
            Tile t;
            TRY(operand_tile(l, op, i, &t));
            n = (Node){.kind = N_tile, .tile = t};
        }
        put_base(&in, 1 + i, &n);
    }
    TRY(result_tile(l, op, 3, &dst));
    instr_space(l, op->out, &in);
    instr_arg(&in, 0, &dst.tile);
    in.at[in.nat++] = AT_INT(A_op, alu);
    if (needs_gpsimd(l, op, alu))
        in.at[in.nat++] = AT_INT(A_engine, EN_gpsimd);
    TRY(emit_instr(l, &in));
    l->node[op->out.i] = dst;
    return ST_OK;
}

/* Operand `data` waits with one step: both operators in one instruction. */
static Status
emit_fused_pair(Lower *l, const Op *op, Alu alu, int data, const Node *n)
{
    Instr in = {.op = K_scalar_tensor_tensor, .nargs = 4};
    Tile other;
    Node dst;
    TRY(operand_tile(l, op, 1 - data, &other));
    TRY(result_tile(l, op, 3, &dst));
    instr_space(l, op->out, &in);
    instr_arg(&in, 0, &dst.tile);
    put_base(&in, 1, n);
    instr_arg(&in, 3, &other);
    in.at[in.nat++] = AT_INT(A_op0, n->op[0]);
    put_scal(&in, 2, &n->scal[0], A_imm0);
    if (n->rev[0])
        in.at[in.nat++] = AT_INT(A_reverse0, 1);
    in.at[in.nat++] = AT_INT(A_op1, alu);
    if (data == 1)
        in.at[in.nat++] = AT_INT(A_reverse1, 1);
    TRY(emit_instr(l, &in));
    l->node[op->out.i] = dst;
    return ST_OK;
}

static bool
waits_with_one_step(Lower *l, const Op *op, int i)
{
    Val v = op_val(l->g, op, i);
    if (!is_member(l, v))
        return false;
    const Node *n = &l->node[v.i];
    return n->kind == N_lazy && n->nops == 1 && is_same_size(l, v, op->out);
}

static bool
is_commutative(Alu a)
{
    return a != ALU_subtract && a != ALU_power && !(a >= ALU_greater_equal && a <= ALU_less);
}

/* v was computed with the other sign: its reader, a subtraction, adds it. */
static bool
is_negated(const Lower *l, Val v)
{
    return is_member(l, v) && l->node[v.i].negated;
}

static Status
lower_binary(Lower *l, const Op *op)
{
    Alu alu = (Alu)selection[op->code].function;
    if (needs_gpsimd(l, op, alu) || takes_bits(alu))
        return emit_tensor_tensor(l, op, alu);
    for (int i = 1; i >= 0; i--) {
        Scal s;
        bool ok;
        double imm;
        if (is_splat(l->g, op_val(l->g, op, 1 - i), &imm))
            continue; /* the other one is an immediate: data comes from here */
        TRY(as_scal(l, op, i, &s, &ok));
        if (alu == ALU_subtract && is_negated(l, op_val(l->g, op, 1)))
            alu = ALU_add;
        if (ok)
            return append_step(l, op, 1 - i, alu, &s, i == 0 && !is_commutative(alu));
    }
    for (int i = 1; i >= 0; i--) {
        Node n;
        if (!waits_with_one_step(l, op, i))
            continue;
        TRY(take_chain(l, op, i, 1, &n));
        if (n.nops == 1)
            return emit_fused_pair(l, op, alu, i, &n);
    }
    return emit_tensor_tensor(l, op, alu);
}

/* ---- the others ---- */
static Status
lower_convert(Lower *l, const Op *op)
{
    Node n;
    DType from = val_dtype(l->g, op_val(l->g, op, 0)), to = val_dtype(l->g, op->out);
    bool exact = is_float(to) && !is_integer(from) && dtype_holds(to, from);
    Node *own;
    TRY(operand(l, op, 0, &own));
    bool as_is = exact && !l->p->stored[op->out.i] && !l->multiplied[op->out.i];
    if (own->kind == N_tile && (as_is || own->tile.dt == tile_dtype(l, op->out, l->p->span[op->out.i]))) {
        /* written in this dtype already, or read just as well in the other */
        Node as = *own;
        as.epoch = set_node(l, op->out, N_tile)->epoch;
        as.own = as.own && is_last_use(l, op, 0);
        own->own = false;
        l->node[op->out.i] = as;
        return ST_OK;
    }
    TRY(take_chain(l, op, 0, 2, &n));
    TRY(own_base(l, op, 0, &n));
    n.kind = N_lazy;
    if (exact)
        return settle(l, op->out, &n);
    Node *at = set_node(l, op->out, N_lazy); /* integers are converted where they are written */
    n.epoch = at->epoch;
    *at = n;
    return force(l, op->out, at);
}

static Status
lower_reciprocal(Lower *l, const Op *op)
{
    Instr in = {.op = K_reciprocal};
    Node n, dst;
    TRY(take_chain(l, op, 0, 0, &n));
    TRY(result_tile(l, op, n.mm ? 0 : 1, &dst));
    instr_space(l, op->out, &in);
    instr_arg(&in, 0, &dst.tile);
    put_base(&in, 1, &n);
    TRY(emit_instr(l, &in));
    l->node[op->out.i] = dst;
    return ST_OK;
}

/* The reciprocal root of gpsimd, the only operator it takes with a number; it reads SBUF alone. */
static Status
lower_rsqrt_wide(Lower *l, const Op *op)
{
    Instr in = {.op = K_tensor_scalar};
    Tile src;
    Node dst;
    TRY(operand_tile(l, op, 0, &src));
    TRY(result_tile(l, op, 1, &dst));
    instr_space(l, op->out, &in);
    instr_arg(&in, 0, &dst.tile);
    instr_arg(&in, 1, &src);
    in.at[in.nat++] = AT_INT(A_op0, ALU_rsqrt);
    in.at[in.nat++] = AT_FLT(A_imm0, 0);
    in.at[in.nat++] = AT_INT(A_engine, EN_gpsimd);
    TRY(emit_instr(l, &in));
    l->node[op->out.i] = dst;
    return ST_OK;
}

static Status
emit_select(Lower *l, const Op *op, const Tile *pred, int tensor, const Scal *other, const Tile *dst)
{
    Instr in = {.op = K_select_reduce, .nargs = 4};
    Tile data;
    TRY(operand_tile(l, op, tensor, &data));
    instr_space(l, op->out, &in);
    instr_arg(&in, 0, dst);
    instr_arg(&in, 1, pred);
    instr_arg(&in, 2, &data);
    put_scal(&in, 3, other, A_imm0);
    if (tensor == 2)
        in.at[in.nat++] = AT_INT(A_reverse_pred, 1);
    return emit_instr(l, &in);
}

static Status
lower_where(Lower *l, const Op *op)
{
    Tile pred, dst, a, b;
    Scal s;
    bool ok;
    TRY(operand_tile(l, op, 0, &pred));
    TRY(new_tile(l, op->out, &dst));
    for (int i = 2; i >= 1 && is_float(val_dtype(l->g, op->out)); i--) { /* one branch per row or constant */
        double imm;
        if (is_splat(l->g, op_val(l->g, op, 3 - i), &imm))
            continue;
        TRY(as_scal(l, op, i, &s, &ok));
        if (!ok)
            continue;
        TRY(emit_select(l, op, &pred, 3 - i, &s, &dst));
        set_node(l, op->out, N_tile)->tile = dst;
        return ST_OK;
    }
    TRY(operand_tile(l, op, 1, &a));
    TRY(operand_tile(l, op, 2, &b));
    TRY(copy_tile(l, op->out, &b, &dst));
    if (a.dt != dst.dt) { /* the predicated copy does not convert */
        Tile same = dst;
        TRY(new_buffer(l, SP_sbuf, dst.dt, l->parts, row_elems(l, op->out, l->p->span[op->out.i]) * l->per, 1,
                       &same.buf));
        same.off = affine_const(0);
        TRY(copy_tile(l, op->out, &a, &same));
        a = same;
    }
    Instr in = {.op = K_tensor_copy_predicated};
    instr_space(l, op->out, &in);
    instr_arg(&in, 0, &dst);
    instr_arg(&in, 1, &a);
    instr_arg(&in, 2, &pred);
    TRY(emit_instr(l, &in));
    set_node(l, op->out, N_tile)->tile = dst;
    return ST_OK;
}

Status
lower_concat(Lower *l, const Op *op)
{
    int64_t axis = attr_int(l->cx, op->attr, A_axis, 0), at = 0;
    Node *own = &l->node[op->out.i];
    if (own->epoch != epoch_of(l, l->p->span[op->out.i]) || own->kind != N_tile) {
        Tile whole;
        TRY(new_tile(l, op->out, &whole));
        own = set_node(l, op->out, N_tile);
        own->tile = whole;
    }
    Tile whole = own->tile;
    for (int i = 0; i < op->nin; i++) {
        Node *n;
        Val v = op_val(l->g, op, i);
        Tile part = whole;
        part.off = affine_add(part.off, affine_const(at * whole.stride[axis]));
        TRY(operand(l, op, i, &n));
        TRY(force(l, v, n));
        bool in_place = n->tile.buf.i == whole.buf.i; /* written where it belongs already, see new_tile */
        Span s = operand_span(l, op, i);
        if (!in_place) {
            Instr in = {.op = K_tensor_copy, .rank = val_type(l->g, v)->rank, .per = l->per, .parts = l->parts};
            for (int d = 0; d < in.rank; d++)
                in.count[d] = is_free_dim(s, d) ? span_dim(l, val_type(l->g, v), s, d) : 1;
            Tile src = n->tile;
            instr_arg(&in, 0, &part);
            instr_arg(&in, 1, &src);
            TRY(emit_instr(l, &in));
        }
        at += val_type(l->g, v)->dim[axis];
    }
    return ST_OK;
}

/* A layout op is another set of strides on the same tile; a reshape that strides cannot say copies first. */
Status
lower_layout(Lower *l, const Op *op)
{
    Tile src;
    Node *n;
    Val v = op_val(l->g, op, 0);
    TRY(operand(l, op, 0, &n));
    TRY(force(l, v, n));
    src = n->tile;
    n->own = false;
    View from = {0}, to;
    for (int i = 0; i < MAX_RANK; i++)
        from.stride[i] = src.stride[i];
    if (!view_step(l->g, op, &from, &to)) {
        Tile dense;
        Span s = is_member(l, v) ? l->p->span[v.i] : operand_span(l, op, 0);
        TRY(dense_copy(l, v, s, src.dt, &src, &dense));
        src = dense;
        for (int i = 0; i < MAX_RANK; i++)
            from.stride[i] = src.stride[i];
        if (!view_step(l->g, op, &from, &to))
            return fail(l->cx, ST_BUG, op->loc, "NKI-4017 lower: %s of a dense tile has no strided form",
                        op_def(l->g, op)->name);
    }
    src.off = affine_add(src.off, affine_const(to.off));
    for (int i = 0; i < MAX_RANK; i++)
        src.stride[i] = to.stride[i];
    set_node(l, op->out, N_tile)->tile = src;
    return ST_OK;
}

Status
lower_elementwise(Lower *l, const Op *op)
{
    switch (selection[op->code].by) {
    case BY_activation:
        return lower_activation(l, op, (Act)selection[op->code].function);
    case BY_alu:
        return lower_binary(l, op);
    case BY_convert:
        return lower_convert(l, op);
    case BY_reciprocal:
        return lower_reciprocal(l, op);
    case BY_rsqrt_wide:
        return lower_rsqrt_wide(l, op);
    case BY_where:
        return lower_where(l, op);
    case BY_logical_not: {
        Scal zero = imm_scal(0);
        return append_step(l, op, 0, ALU_equal, &zero, false);
    }
    case BY_none:
        break;
    }
    return fail(l->cx, ST_BUG, op->loc, "NKI-4018 lower: no instruction for %s", op_def(l->g, op)->name);
}
