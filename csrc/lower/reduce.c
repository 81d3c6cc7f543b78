/* reduce.c - reductions: along the free axis, and over the spine.
 *
 * A reduction of free dims is one instruction per row tile, or rides along with the activation that makes its operand.
 * A reduction over the spine keeps a partial result per partition over all row tiles and combines the partitions at
 * the end: sums through the tensor engine, extremes on gpsimd.
 */
#include "lower/context.h"

#include <math.h>

#define WINDOW_COLUMNS 2048 /* of half of PSUM */

static const struct {
    uint8_t alu;
    double identity;
} kinds[T_COUNT] = {
    [T_reduce_sum] = {ALU_add, 0},
    [T_reduce_max] = {ALU_maximum, -INFINITY},
    [T_reduce_min] = {ALU_minimum, INFINITY},
};

/* All readers subtract it from something: then the reduction can deliver it with the other sign, for free. */
static bool
wants_negated(const Lower *l, const Op *op)
{
    const Graph *g = l->g;
    if (l->p->stored[op->out.i] || l->uses[op->out.i] != 1 || !is_float(val_dtype(g, op->out)))
        return false;
    const Op *u = graph_op(g, l->user[op->out.i]);
    return u->code == T_sub && op_val(g, u, 1).i == op->out.i && op_val(g, u, 0).i != op->out.i &&
           tile_dtype(l, op->out, l->p->span[op->out.i]) == DT_f32;
}

/* What is reduced may be walked in any order: long strides first, so that dims of a turned tile merge. */
static void
sort_trailing(Instr *in)
{
    for (int i = in->rank - in->trailing + 1; i < in->rank; i++)
        for (int k = i; k > in->rank - in->trailing && in->arg[1].stride[k - 1] < in->arg[1].stride[k]; k--) {
            int64_t count = in->count[k], stride = in->arg[1].stride[k];
            in->count[k] = in->count[k - 1];
            in->arg[1].stride[k] = in->arg[1].stride[k - 1];
            in->count[k - 1] = count;
            in->arg[1].stride[k - 1] = stride;
        }
}

/* Index space: dims that stay (rows per partition among them), then those reduced. */
static void
reduce_space(const Lower *l, const Op *op, const Tile *src, const Tile *dst, bool over_rows, Instr *in)
{
    Val v = op_val(l->g, op, 0);
    const Type *t = val_type(l->g, v);
    Span s = operand_span(l, op, 0);
    uint32_t set = reduced_dims(l->g, op);
    *in = (Instr){.op = K_tensor_reduce, .nargs = 2, .parts = l->parts, .per = over_rows ? 1 : l->per};
    if (s.role != RO_row) {
        in->parts = row_lanes(l->gr, l->hw);
        in->per = 1;
    }
    in->arg[0] = *dst;
    in->arg[1] = *src;
    int n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < t->rank; i++) {
            bool row = over_rows && i == s.spine.lo && s.spine.lo < s.spine.hi;
            bool gone = (set >> i & 1) || row;
            if (gone != (pass == 1))
                continue;
            in->count[n] = row ? l->per : is_free_dim(s, i) ? span_dim(l, t, s, i) : 1;
            in->arg[0].stride[n] = gone ? 0 : dst->stride[i];
            in->arg[1].stride[n] = row ? src->rstride : src->stride[i];
            n++;
            in->trailing += gone;
        }
    in->rank = n;
    sort_trailing(in);
}

/* Dims of a pattern that the reduced ones take. */
static int
trailing_dims(const Instr *in)
{
    int n = 0;
    int64_t next = 0;
    for (int i = in->rank - in->trailing; i < in->rank; i++) {
        int64_t stride = in->arg[1].stride[i];
        if (in->count[i] == 1)
            continue;
        n += n == 0 || next != stride * in->count[i];
        next = stride;
    }
    return n;
}

/* The instruction that gathers what `in` reduces, C order by its index space, into a new buffer: its arg[0]. */
static Status
gather(Lower *l, const Instr *in, DType dt, Instr *copy)
{
    int64_t n = 1;
    *copy = *in;
    copy->op = K_tensor_copy;
    copy->trailing = copy->nat = 0;
    copy->arg[0] = (Tile){.dt = dt};
    for (int i = in->rank - 1; i >= 0; i--) {
        copy->arg[0].stride[i] = n;
        n *= in->count[i];
    }
    copy->arg[0].rstride = n;
    TRY(new_buffer(l, SP_sbuf, dt, in->parts, n * in->per, 1, &copy->arg[0].buf));
    return emit_instr(l, copy);
}

/* One tensor_reduce; of a copy when there are more dims to reduce than a pattern has. */
static Status
emit_reduce(Lower *l, Instr *in)
{
    Instr copy;
    if (trailing_dims(in) > (int)l->hw->ap_free_dims) {
        TRY(gather(l, in, in->arg[1].dt, &copy));
        in->arg[1] = copy.arg[0];
    }
    return emit_instr(l, in);
}

/* Elements that one instruction sums. */
static int64_t
reduced_elems(const Instr *in)
{
    int64_t n = 1;
    for (int i = in->rank - in->trailing; i < in->rank; i++)
        n *= in->count[i];
    return n;
}

/* The scalar engine sums what it copies: `in` as an activation, whose copy nobody reads. */
static Status
sum_on_scalar(Lower *l, const Instr *in, bool negated)
{
    Instr act = *in;
    act.op = K_activation;
    act.nargs = 5;
    act.trailing = act.nat = 0;
    act.arg[0] = (Tile){.dt = DT_bf16};
    act.arg[KA_reduce_res] = in->arg[0];
    act.is_scal[KA_reduce_res] = true;
    act.arg[KA_data] = in->arg[1];
    int64_t n = 1;
    for (int i = in->rank - 1; i >= in->rank - in->trailing; i--) {
        act.arg[0].stride[i] = n;
        n *= in->count[i];
    }
    TRY(new_buffer(l, SP_sbuf, DT_bf16, in->parts, n, 1, &act.arg[0].buf));
    act.at[act.nat++] = AT_INT(A_func, ACT_copy);
    if (negated)
        act.at[act.nat++] = AT_FLT(A_scale, -1.0);
    return emit_instr(l, &act);
}

/* Integers: exact sums by halving, on the engine with native integers. */
static Status
sum_integers(Lower *l, const Op *op, Tile *src, const Tile *dst)
{
    Instr in, copy;
    reduce_space(l, op, src, dst, false, &in);
    int64_t n = 1, kept = in.per;
    for (int i = 0; i < in.rank; i++)
        *(i < in.rank - in.trailing ? &kept : &n) *= in.count[i];
    TRY(gather(l, &in, dst->dt, &copy)); /* as [kept, n] */
    Val buf = copy.arg[0].buf;
    for (int64_t m = n; m > 1; m = (m + 1) / 2) {
        int64_t h = (m + 1) / 2;
        Instr add = {.op = K_tensor_tensor, .nargs = 3, .parts = in.parts, .per = kept, .rank = 1, .count = {m - h}};
        for (int a = 0; a < 3; a++)
            add.arg[a] = (Tile){.buf = buf, .dt = dst->dt, .stride = {1}, .rstride = n};
        add.arg[2].off = affine_const(h);
        add.at[add.nat++] = AT_INT(A_op, ALU_add);
        add.at[add.nat++] = AT_INT(A_engine, EN_gpsimd);
        TRY(emit_instr(l, &add));
    }
    for (int i = in.rank - in.trailing; i < in.rank; i++)
        copy.count[i] = 1;
    copy.arg[1] = copy.arg[0];
    copy.arg[0] = in.arg[0];
    return emit_instr(l, &copy);
}

/* The operand's tile; a conversion that waits is read through. */
static Status
reduced_tile(Lower *l, const Op *op, Tile *out)
{
    Node *n;
    Val v = op_val(l->g, op, 0);
    TRY(operand(l, op, 0, &n));
    if (n->kind != N_lazy || n->nops > 0 || n->mm)
        TRY(force(l, v, n));
    *out = n->tile;
    return ST_OK;
}

/* The extremes that were found when the operand was written; NULL: none. */
static const Fold *
fold_of(const Lower *l, const Op *op)
{
    Val v = op_val(l->g, op, 0);
    const Node *n = &l->node[v.i];
    bool current = is_member(l, v) && n->epoch == epoch_of(l, l->p->span[v.i]) && n->kind == N_tile;
    return current && l->extreme_of[v.i].i == op->out.i ? n->fold : NULL;
}

/* What is left to reduce: the windows of each row. */
static void
finish_fold(const Lower *l, const Fold *fold, const Tile *dst, Instr *in)
{
    *in = (Instr){.op = K_tensor_reduce, .nargs = 2, .parts = l->parts, .per = l->per, .rank = 1, .trailing = 1};
    in->count[0] = fold->n;
    in->arg[0] = *dst;
    in->arg[0].stride[0] = 0;
    in->arg[1] = fold->tile;
    in->arg[1].stride[0] = 1;
}

static Status
negate(Lower *l, Instr *in)
{
    in->op = K_tensor_scalar;
    in->nargs = 4;
    in->at[in->nat++] = AT_INT(A_op0, ALU_multiply);
    in->at[in->nat++] = AT_FLT(A_imm0, -1.0);
    return emit_instr(l, in);
}

Status
lower_reduce(Lower *l, const Op *op)
{
    Tile src, dst, by_dims;
    Node *n = &l->node[op->out.i];
    Val v = op_val(l->g, op, 0);
    if (n->epoch == epoch_of(l, l->p->span[op->out.i]) && n->kind == N_tile && l->sum_of[v.i].i == op->out.i)
        return ST_OK; /* carried along with its operand */
    TRY(reduced_tile(l, op, &src));
    TRY(new_tile(l, op->out, &dst));
    by_dims = by_operand_dims(l, op, &dst);
    n = set_node(l, op->out, N_tile);
    n->tile = dst;
    Instr in;
    if (is_integer(dst.dt) && op->code == T_reduce_sum)
        return sum_integers(l, op, &src, &by_dims);
    reduce_space(l, op, &src, &by_dims, false, &in);
    const Fold *fold = fold_of(l, op);
    if (fold)
        finish_fold(l, fold, &dst, &in);
    in.at[in.nat++] = AT_INT(A_op, kinds[op->code].alu);
    if (wants_negated(l, op)) {
        in.at[in.nat++] = AT_INT(A_negate, 1);
        n->negated = true;
    }
    if (op->code == T_reduce_sum && l->gr->scalar_sums && is_float(src.dt) && reduced_elems(&in) >= SUM_ELEMS)
        return sum_on_scalar(l, &in, n->negated);
    if (reduced_elems(&in) > 1)
        return emit_reduce(l, &in);
    in.trailing = in.nat = 0;
    if (n->negated && fold)
        return negate(l, &in);
    n->negated = false; /* nothing to reduce: a copy */
    in.op = K_tensor_copy;
    return emit_instr(l, &in);
}

/* ---- over the spine ---- */
static int64_t
kept_elems(const Lower *l, const Op *op)
{
    return type_numel(val_type(l->g, op->out));
}

static DType
acc_dtype(const Lower *l, const Op *op)
{
    DType dt = val_dtype(l->g, op->out);
    return is_integer(dt) ? dt : DT_f32;
}

static Ref
acc_ref(const Lower *l, const Op *op, int parts, int64_t from, int64_t n)
{
    Ref r = {.buf = l->acc[op->out.i].buf, .ap = {.nparts = parts, .off = affine_const(from), .ndim = 1}};
    r.ap.dim[0] = (ApDim){n, 1};
    return r;
}

Status
acc_begin(Lower *l, const Op *op)
{
    Tile *acc = &l->acc[op->out.i];
    const Type *t = val_type(l->g, op->out);
    int parts = row_lanes(l->gr, l->hw);
    double identity = kinds[op->code].identity;
    *acc = (Tile){.dt = acc_dtype(l, op)};
    if (is_integer(acc->dt) && identity != 0)
        identity = identity < 0 ? -dtypes[acc->dt].max - (dtypes[acc->dt].kind == DK_int) : dtypes[acc->dt].max;
    if (dtypes[acc->dt].kind == DK_uint && identity < 0)
        identity = 0;
    int64_t n = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        acc->stride[i] = n;
        n *= t->dim[i];
    }
    TRY(new_buffer(l, SP_sbuf, acc->dt, parts, n, 1, &acc->buf));
    Ref dst = acc_ref(l, op, parts, 0, n);
    AttrItem at = AT_FLT(A_imm0, identity);
    return emit(l, K_memset, &dst, 1, &at, 1);
}

/* acc = acc op x, with x's strides in arg[1] of a reduction's space. */
static Status
accumulate(Lower *l, const Op *op, const Instr *in, const Tile *x)
{
    Instr add = *in;
    add.op = K_tensor_tensor;
    add.nargs = 3;
    add.arg[1] = in->arg[0];
    add.arg[2] = *x;
    add.trailing = add.nat = 0;
    for (int i = in->rank - in->trailing; i < in->rank; i++)
        add.count[i] = 1;
    add.at[add.nat++] = AT_INT(A_op, kinds[op->code].alu);
    if (is_integer(in->arg[0].dt) && op->code == T_reduce_sum)
        add.at[add.nat++] = AT_INT(A_engine, EN_gpsimd);
    return emit_instr(l, &add);
}

/* Long rows go into the accumulator one by one; short ones are reduced over the tile's rows and free dims first. */
Status
acc_add(Lower *l, const Op *op)
{
    Tile src;
    TRY(reduced_tile(l, op, &src));
    Tile acc = by_operand_dims(l, op, &l->acc[op->out.i]);
    Instr in;
    int64_t reduced = 1;
    reduce_space(l, op, &src, &acc, true, &in);
    for (int i = in.rank - in.trailing; i < in.rank; i++)
        reduced *= in.count[i];
    bool one_by_one = reduced == l->per && (reduced == 1 || (reduced <= 4 && kept_elems(l, op) >= CARRY_ELEMS));
    for (int64_t j = 0; j < l->per && one_by_one; j++) {
        Tile row = in.arg[1];
        row.off = affine_add(row.off, affine_const(j * src.rstride));
        TRY(accumulate(l, op, &in, &row));
    }
    if (one_by_one)
        return ST_OK;
    Instr part = in;
    TRY(new_buffer(l, SP_sbuf, acc.dt, l->parts, kept_elems(l, op), 1, &part.arg[0].buf));
    part.arg[0].off = affine_const(0);
    part.at[part.nat++] = AT_INT(A_op, kinds[op->code].alu);
    TRY(emit_reduce(l, &part));
    return accumulate(l, op, &in, &part.arg[0]);
}

/* One PSUM window of a sum over partitions: ones times the accumulator, a bank at a time, evicted together. */
static Status
sum_window(Lower *l, const Op *op, int parts, const Tile *ones, Affine at, int64_t width, Val row)
{
    Val psum;
    TRY(new_buffer(l, SP_psum, DT_f32, 1, width, 1, &psum));
    for (int64_t c = 0; c < width; c += bank_columns(l)) {
        int64_t w = MIN(bank_columns(l), width - c);
        Ref mm[4] = {{.buf = psum, .ap = {.off = affine_const(c), .nparts = 1, .ndim = 1, .dim = {{w, 1}}}},
                     {.buf = ones->buf, .ap = {.nparts = parts, .ndim = 1, .dim = {{1, 1}}}},
                     acc_ref(l, op, parts, 0, w)};
        mm[2].ap.off = affine_add(at, affine_const(c));
        TRY(emit(l, K_nc_matmul, mm, 4, NULL, 0));
    }
    Ref cp[2] = {{.buf = row, .ap = {.off = at, .nparts = 1, .ndim = 1, .dim = {{width, 1}}}},
                 {.buf = psum, .ap = {.nparts = 1, .ndim = 1, .dim = {{width, 1}}}}};
    return emit(l, K_tensor_copy, cp, 2, NULL, 0);
}

static Status
sum_partitions(Lower *l, const Op *op, int parts, int64_t n, Val row)
{
    Tile ones;
    Affine c;
    TRY(const_tile(l, 1.0, DT_f32, &ones));
    if (n >= WINDOW_COLUMNS) {
        TRY(loop_begin(l, n / WINDOW_COLUMNS, &c));
        TRY(sum_window(l, op, parts, &ones, affine_scale(c, WINDOW_COLUMNS), WINDOW_COLUMNS, row));
        TRY(loop_end_of(l, n / WINDOW_COLUMNS));
    }
    if (n % WINDOW_COLUMNS == 0)
        return ST_OK;
    return sum_window(l, op, parts, &ones, affine_const(n - n % WINDOW_COLUMNS), n % WINDOW_COLUMNS, row);
}

static Status
scale_by_minus_one(Lower *l, const Ref *x)
{
    Ref in[4] = {*x, *x};
    AttrItem at[2] = {AT_INT(A_op0, ALU_multiply), AT_FLT(A_imm0, -1.0)};
    return emit(l, K_tensor_scalar, in, 4, at, 2);
}

/* The hardware has a largest over partitions, but no smallest: change signs around it. */
static Status
reduce_partitions(Lower *l, const Op *op, int parts, int64_t n, Val row)
{
    Ref src = acc_ref(l, op, parts, 0, n);
    Ref io[2] = {{.buf = row, .ap = {.nparts = 1, .ndim = 1, .dim = {{n, 1}}}}, src};
    AttrItem at = AT_INT(A_op, op->code == T_reduce_sum ? ALU_add : ALU_maximum);
    if (op->code == T_reduce_min)
        TRY(scale_by_minus_one(l, &src));
    TRY(emit(l, K_tensor_partition_reduce, io, 2, &at, 1));
    return op->code == T_reduce_min ? scale_by_minus_one(l, &io[0]) : ST_OK;
}

Status
acc_end(Lower *l, const Op *op)
{
    Tile row = l->acc[op->out.i];
    int64_t n = kept_elems(l, op);
    int parts = row_lanes(l->gr, l->hw);
    if (parts > 1) {
        TRY(new_buffer(l, SP_sbuf, row.dt, 1, n, 1, &row.buf));
        if (op->code == T_reduce_sum && !is_integer(row.dt))
            TRY(sum_partitions(l, op, parts, n, row.buf));
        else
            TRY(reduce_partitions(l, op, parts, n, row.buf));
    }
    return store_tile(l, op->out, &row, (Span){.role = RO_free}, 1, 1);
}
