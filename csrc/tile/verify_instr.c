/* verify_instr.c - rules of single instructions: shapes, dtypes and operators.
 *
 * in:   an instruction whose operands are decoded
 * out:  violations
 * rule: one check_NAME per row of ops.def; they run when verify_operand.c found all operands to be buffers
 */
#include "tile/verify.h"

enum {
    M_BITWISE = BIT(ALU_bitwise_and) | BIT(ALU_bitwise_or) | BIT(ALU_bitwise_xor) | BIT(ALU_left_shift) |
        BIT(ALU_right_shift),
    M_UNARY = BIT(ALU_abs) | BIT(ALU_rsqrt),
    M_COMPARE = BIT(ALU_equal) | BIT(ALU_not_equal) | BIT(ALU_greater_equal) | BIT(ALU_greater) | BIT(ALU_less_equal) |
        BIT(ALU_less),
    M_LOGICAL = BIT(ALU_logical_and) | BIT(ALU_logical_or) | BIT(ALU_logical_xor),
    M_ARITH = BIT(ALU_add) | BIT(ALU_subtract) | BIT(ALU_multiply) | BIT(ALU_maximum) | BIT(ALU_minimum),
    M_BINARY = M_ARITH | M_COMPARE | M_LOGICAL, /* what the vector engine does in f32 */
    M_REDUCE = M_ARITH | M_LOGICAL | BIT(ALU_bitwise_and) | BIT(ALU_bitwise_or) | BIT(ALU_bitwise_xor),
    M_ROW_REDUCE = BIT(ALU_add) | BIT(ALU_multiply) | BIT(ALU_maximum) | BIT(ALU_minimum),
    M_PARTITION_REDUCE = BIT(ALU_add) | BIT(ALU_maximum) | BIT(ALU_bitwise_or) | BIT(ALU_bitwise_and),
    M_GPSIMD_TT = BIT(ALU_add) | BIT(ALU_multiply) | BIT(ALU_subtract) | BIT(ALU_power),
    M_INT8_16 = BIT(DT_u8) | BIT(DT_u16) | BIT(DT_bool),
};

/* ---- questions ---- */

static inline bool
has(const Check *c, int i)
{
    return c->in[i].use.ap != NULL;
}

static inline DType
dtype_of(const Check *c, int i)
{
    return (DType)c->in[i].v->dtype;
}

static inline int
space_of(const Check *c, int i)
{
    return c->in[i].v->space;
}

static inline int64_t
nparts(const Check *c, int i)
{
    return c->in[i].use.ap->nparts;
}

static inline bool
has_attr(const Check *c, Key k)
{
    return attr_find(c->cx, c->op->attr, k) != NULL;
}

static inline Alu
alu(const Check *c, Key k)
{
    return (Alu)attr_int(c->cx, c->op->attr, k, ALU_none);
}

static inline const char *
alu_text(Alu a)
{
    return enum_name(AK_alu, (int)a);
}

/* Elements of all partitions; INT64_MAX stands for more. */
static int64_t
total(const Opnd *x)
{
    int64_t n;
    return __builtin_mul_overflow(x->use.count, MAX(x->use.ap->nparts, 1), &n) ? INT64_MAX : n;
}

/* ---- rules instructions share ---- */

static void
same_parts(Check *c, int i, int k)
{
    if (nparts(c, i) != nparts(c, k))
        report(c, "partition-count", "NKI-3001 %s has %lld partitions, %s has %lld; they must be equal",
               operand_name(c, i), (long long)nparts(c, i), operand_name(c, k), (long long)nparts(c, k));
}

static void
same_count(Check *c, int i, int k)
{
    if (c->in[i].use.count != c->in[k].use.count)
        report(c, "element-count", "NKI-3002 %s has %lld elements per partition, %s has %lld; they must be equal",
               operand_name(c, i), (long long)c->in[i].use.count, operand_name(c, k), (long long)c->in[k].use.count);
}

static void
same_shape(Check *c, int i, int k)
{
    same_parts(c, i, k);
    same_count(c, i, k);
}

static void
same_dtype(Check *c, int i, int k)
{
    if (dtype_of(c, i) != dtype_of(c, k))
        report(c, "dtype", "NKI-3003 %s is %s, %s is %s; they must be equal", operand_name(c, i),
               dtypes[dtype_of(c, i)].name, operand_name(c, k), dtypes[dtype_of(c, k)].name);
}

static void
need_dtype(Check *c, int i, uint32_t allowed, const char *text)
{
    if (!(allowed & BIT(dtype_of(c, i))))
        report(c, "dtype", "NKI-3004 %s is %s, allowed: %s", operand_name(c, i), dtypes[dtype_of(c, i)].name, text);
}

/* A [P, 1] operand that goes with the data operand k. */
static void
column(Check *c, int i, int k)
{
    if (!has(c, i))
        return;
    same_parts(c, i, k);
    if (c->in[i].use.count != 1)
        report(c, "column", "NKI-3005 %s has %lld elements per partition, exactly 1 is allowed", operand_name(c, i),
               (long long)c->in[i].use.count);
}

static void
column_f32(Check *c, int i, int k)
{
    column(c, i, k);
    if (has(c, i))
        need_dtype(c, i, BIT(DT_f32), "f32");
}

static void
not_both_psum(Check *c, int i, int k)
{
    if (has(c, i) && has(c, k) && space_of(c, i) == SP_psum && space_of(c, k) == SP_psum)
        report(c, "both-psum", "NKI-3006 %s and %s are both in PSUM, at most one may be", operand_name(c, i),
               operand_name(c, k));
}

/* The second value of an operator: a tile or an immediate, not both and not neither. */
static void
one_source(Check *c, int i, Key imm, bool needed)
{
    bool tile = has(c, i), value = has_attr(c, imm);
    if (tile && value)
        report(c, "operand", "NKI-3007 %s is given as a tile and as %s, only one is allowed", operand_name(c, i),
               attr_name(imm));
    else if (needed && !tile && !value)
        report(c, "operand", "NKI-3008 neither a tile %s nor %s is given", operand_name(c, i), attr_name(imm));
}

static void
need_op(Check *c, Key k, uint32_t allowed)
{
    Alu a = alu(c, k);
    if (a == ALU_none || !(allowed & BIT(a)))
        report(c, "operator", "NKI-3009 %s=%s is not an operator of this instruction on the %s engine", attr_name(k),
               a == ALU_none ? "none" : alu_text(a), enum_name(AK_engine, c->engine));
}

static void
need_integer(Check *c, int i, const char *why)
{
    if (has(c, i) && !is_integer(dtype_of(c, i)))
        report(c, "bitwise-dtype", "NKI-3010 %s is %s, %s needs integers", operand_name(c, i),
               dtypes[dtype_of(c, i)].name, why);
}

static bool
is_bitwise(Alu a)
{
    return BIT(a) & M_BITWISE;
}

/* ---- DMA ---- */

static void
check_dma_copy(Check *c)
{
    int64_t d = total(&c->in[KI_dst]), s = total(&c->in[KI_src]);
    if (d != s)
        report(c, "element-count", "NKI-3012 dst has %lld elements, src has %lld; they must be equal", (long long)d,
               (long long)s);
}

static int
shape_of(const Opnd *x, int64_t *dim)
{
    int n = 0;
    if (is_chip(x->v->space))
        dim[n++] = x->use.ap->nparts;
    for (uint32_t i = 0; i < x->use.ap->ndim; i++)
        dim[n++] = x->use.ap->dim[i].count;
    return n;
}

static void
check_dma_transpose(Check *c)
{
    int64_t d[MAX_AP_DIMS + 1], s[MAX_AP_DIMS + 1];
    int nd = shape_of(&c->in[KI_dst], d), ns = shape_of(&c->in[KI_src], s), bytes = dtypes[dtype_of(c, KI_src)].bytes;
    same_dtype(c, KI_dst, KI_src);
    if (bytes != 2 && bytes != 4)
        report(c, "dtype", "NKI-3013 src is %s, a DMA transposes elements of 2 or 4 bytes",
               dtypes[dtype_of(c, KI_src)].name);
    if (ns < 2 || ns > 3 || nd != ns) {
        report(c, "transpose-shape", "NKI-3014 src has %d dims and dst %d, both must have 2 or both 3", ns, nd);
        return;
    }
    for (int i = 0; i < ns; i++) {
        if (d[i] != s[ns - 1 - i])
            report(c, "transpose-shape", "NKI-3015 dim %d of dst is %lld, dim %d of src is %lld; they must be equal", i,
                   (long long)d[i], ns - 1 - i, (long long)s[ns - 1 - i]);
    }
}

/* ---- copies and fills ---- */

static void
check_tensor_copy(Check *c)
{
    same_shape(c, KI_dst, KI_src);
    if (c->engine == EN_scalar && !c->hw->scalar_tensor_copy)
        report(c, "engine-generation", "NKI-3016 the scalar engine has no tensor_copy on %s, use activation copy",
               c->target);
}

static void
check_memset(Check *c)
{
    DType dt = dtype_of(c, KI_dst);
    if (!has_attr(c, A_imm0))
        report(c, "operand", "NKI-3017 no value imm0 is given");
    else if (!is_float(dt))
        need_int_value(c, A_imm0, dt);
}

static void
check_tensor_copy_predicated(Check *c)
{
    same_shape(c, 0, 1);
    same_shape(c, 0, 2);
    same_dtype(c, 0, 1);
    need_dtype(c, 2, M_INT8_16 | BIT(DT_u32), "u8, u16, u32, bool");
    not_both_psum(c, 1, 2);
}

/* ---- tensor engine ---- */

static void
matmul_dtypes(Check *c)
{
    DType s = dtype_of(c, KM_stationary), m = dtype_of(c, KM_moving), d = dtype_of(c, KI_dst);
    uint32_t legal = BIT(DT_f32) | BIT(DT_f16) | BIT(DT_bf16) | BIT(DT_fp8_e4m3) | BIT(DT_fp8_e5m2);
    const char *text = "f32, f16, bf16, fp8_e4m3, fp8_e5m2; fp8_e4m3fn on trn3";
    if (c->hw->mm_fp8_e4m3fn)
        legal |= BIT(DT_fp8_e4m3fn);
    need_dtype(c, KM_stationary, legal, text);
    need_dtype(c, KM_moving, legal, text);
    if ((s == DT_f32) != (m == DT_f32))
        report(c, "matmul-dtype-pair", "NKI-3018 stationary is %s and moving %s; f32 goes with f32 only",
               dtypes[s].name, dtypes[m].name);
    if ((s == DT_fp8_e4m3 && m == DT_fp8_e4m3fn) || (s == DT_fp8_e4m3fn && m == DT_fp8_e4m3))
        report(c, "matmul-dtype-pair", "NKI-3019 stationary is %s and moving %s; the two e4m3 formats do not mix",
               dtypes[s].name, dtypes[m].name);
    if (d != DT_f32 && !(d == DT_bf16 && c->hw->bf16_psum_out))
        report(c, "matmul-dst-dtype", "NKI-3020 dst is %s, allowed on %s: %s", dtypes[d].name, c->target,
               c->hw->bf16_psum_out ? "f32, bf16" : "f32");
}

static void
at_most(Check *c, const char *rule, int i, int64_t n, double limit, const char *what)
{
    if (n > (int64_t)limit)
        report(c, rule, "NKI-3021 %s has %lld %s, at most %lld are allowed on %s", operand_name(c, i), (long long)n,
               what, (long long)limit, c->target);
}

/* What a matmul or a transpose writes per partition stays within so many banks, wherever the loops put it. */
static void
matmul_banks(Check *c)
{
    const Opnd *x = &c->in[KI_dst];
    int64_t es = x->v->esize, bank = (int64_t)c->hw->psum_bank_bytes, banks = (int64_t)c->hw->mm_dst_banks;
    if (x->all.lo < 0 || x->all.hi > x->v->row * es || es > 4) /* said elsewhere */
        return;
    Affine start = affine_scale(x->use.ap->off, es);
    start.c = x->use.lo;
    int64_t bytes = x->use.hi - x->use.lo, at = affine_residue_max(c, &start, bank);
    if (at + bytes > banks * bank)
        report(c, "matmul-bank",
               "NKI-3022 dst covers %lld bytes from byte %lld of a PSUM bank, at most %lld bank%s of %lld "
               "on %s",
               (long long)bytes, (long long)at, (long long)banks, banks > 1 ? "s" : "", (long long)bank, c->target);
}

/* The loop variable that says whether this is the first product must be that of a loop the destination outlives. */
static void
matmul_first(Check *c)
{
    Val first = op_val(c->g, c->op, KM_first);
    const Opnd *dst = &c->in[KI_dst];
    if (first.i == 0)
        return;
    const VInfo *loop = &c->val[first.i];
    if (loop->is != V_LOOP) {
        report(c, "accumulate-start", "NKI-3023 first is not a loop variable");
        return;
    }
    if (dst->v->decl > loop->decl && loop->count > 1)
        report(c, "accumulate-start", "NKI-3024 dst is a new buffer in each iteration of the loop it accumulates over");
    for (uint32_t i = 0; i < dst->use.ap->off.nterms; i++) {
        if (dst->use.ap->off.term[i].var.i == first.i && loop->count > 1)
            report(c, "accumulate-start",
                   "NKI-3025 dst moves with the loop it accumulates over, so later iterations add to "
                   "what nothing has written");
    }
    for (uint32_t i = 0; i < dst->use.ap->part.nterms; i++) {
        if (dst->use.ap->part.term[i].var.i == first.i && loop->count > 1)
            report(c, "accumulate-start", "NKI-3026 dst moves over partitions with the loop it accumulates over");
    }
}

static void
check_nc_matmul(Check *c)
{
    const Opnd *s = &c->in[KM_stationary], *m = &c->in[KM_moving], *d = &c->in[KI_dst];
    bool bf16 = d->v->dtype == DT_bf16;
    same_parts(c, KM_stationary, KM_moving);
    at_most(c, "matmul-k", KM_stationary, s->use.ap->nparts, c->hw->mm_k, "partitions (K)");
    at_most(c, "matmul-m", KM_stationary, s->use.count, c->hw->mm_m, "columns (M)");
    at_most(c, "matmul-n", KM_moving, m->use.count, bf16 ? c->hw->mm_n_bf16 : c->hw->mm_n, "columns (N)");
    if (d->use.ap->nparts != s->use.count)
        report(c, "matmul-shape", "NKI-3027 dst has %d partitions, stationary has %lld columns (M); they must be equal",
               d->use.ap->nparts, (long long)s->use.count);
    if (d->use.count != m->use.count)
        report(c, "matmul-shape",
               "NKI-3028 dst has %lld elements per partition, moving has %lld columns (N); they must be equal",
               (long long)d->use.count, (long long)m->use.count);
    matmul_dtypes(c);
    matmul_banks(c);
    matmul_first(c);
}

static void
transpose_dtypes(Check *c)
{
    DType s = dtype_of(c, KI_src);
    same_dtype(c, KI_dst, KI_src);
    if (c->engine == EN_tensor && (!is_float(s) || dtypes[s].bytes < 2))
        report(c, "dtype", "NKI-3029 data is %s, the tensor engine transposes floats of 2 or 4 bytes", dtypes[s].name);
}

static void
check_nc_transpose(Check *c)
{
    const Opnd *d = &c->in[KI_dst], *s = &c->in[KI_src];
    double limit = c->engine == EN_vector ? c->hw->vector_transpose : c->hw->pmax;
    at_most(c, "transpose-shape", KI_src, s->use.ap->nparts, limit, "partitions");
    at_most(c, "transpose-shape", KI_src, s->use.count, limit, "elements per partition");
    if (d->use.ap->nparts != s->use.count || d->use.count != s->use.ap->nparts)
        report(c, "transpose-shape", "NKI-3030 dst is [%d, %lld], the transpose of data is [%lld, %d]",
               d->use.ap->nparts, (long long)d->use.count, (long long)s->use.count, s->use.ap->nparts);
    if (c->engine == EN_tensor) {
        if (d->v->space != SP_psum || s->v->space != SP_sbuf)
            report(c, "operand-space", "NKI-3031 the tensor engine transposes from SBUF to PSUM, not from %s to %s",
                   space_names[s->v->space], space_names[d->v->space]);
        else
            matmul_banks(c);
    }
    transpose_dtypes(c);
}

/* ---- element-wise ---- */

static void
check_tensor_tensor(Check *c)
{
    Alu op = alu(c, A_op);
    same_shape(c, 0, 1);
    same_shape(c, 0, 2);
    not_both_psum(c, 1, 2);
    if (c->engine == EN_gpsimd) {
        need_op(c, A_op, M_GPSIMD_TT);
        return;
    }
    need_op(c, A_op, M_BINARY | M_BITWISE);
    for (int i = 0; is_bitwise(op) && i < 3; i++)
        need_integer(c, i, alu_text(op));
}

static void
tensor_scalar_on_scalar(Check *c, Alu op0, Alu op1)
{
    if (!c->hw->scalar_tensor_scalar)
        report(c, "engine-generation", "NKI-3032 the scalar engine has no tensor_scalar on %s", c->target);
    bool ok = (op0 == ALU_multiply && (op1 == ALU_none || op1 == ALU_add)) || (op0 == ALU_add && op1 == ALU_none);
    if (!ok)
        report(c, "operator", "NKI-3033 op0=%s op1=%s: the scalar engine has multiply, add, and multiply then add",
               alu_text(op0), op1 == ALU_none ? "none" : alu_text(op1));
}

static void
bitwise_operand(Check *c, int i, Key imm)
{
    need_integer(c, i, "a bitwise operator");
    if (is_integer(dtype_of(c, KI_src)))
        need_int_value(c, imm, dtype_of(c, KI_src));
}

static void
tensor_scalar_bitwise(Check *c, Alu op0, Alu op1)
{
    if (op1 != ALU_none && !is_bitwise(op0) != !is_bitwise(op1))
        report(c, "operator", "NKI-3034 op0=%s op1=%s: both must be bitwise or both arithmetic", alu_text(op0),
               alu_text(op1));
    need_integer(c, KI_dst, "a bitwise operator");
    need_integer(c, KI_src, "a bitwise operator");
    bitwise_operand(c, 2, A_imm0);
    bitwise_operand(c, 3, A_imm1);
}

static void
check_tensor_scalar(Check *c)
{
    Alu op0 = alu(c, A_op0), op1 = alu(c, A_op1);
    bool unary = BIT(op0) & M_UNARY;
    same_shape(c, KI_dst, KI_src);
    one_source(c, 2, A_imm0, !unary);
    one_source(c, 3, A_imm1, op1 != ALU_none);
    if (op1 == ALU_none && (has(c, 3) || has_attr(c, A_imm1)))
        report(c, "operand", "NKI-3035 operand1 is given without op1");
    if (unary && (has(c, 2) || attr_float(c->cx, c->op->attr, A_imm0, 0) != 0))
        report(c, "operand", "NKI-3036 op0=%s takes no operand0", alu_text(op0));
    if (is_bitwise(op0) || is_bitwise(op1)) {
        column(c, 2, KI_src);
        column(c, 3, KI_src);
        tensor_scalar_bitwise(c, op0, op1);
    } else {
        column_f32(c, 2, KI_src);
        column_f32(c, 3, KI_src);
    }
    if (c->engine == EN_scalar) {
        tensor_scalar_on_scalar(c, op0, op1);
    } else {
        need_op(c, A_op0, c->engine == EN_gpsimd ? BIT(ALU_rsqrt) : M_BINARY | M_BITWISE | BIT(ALU_abs));
        if (op1 != ALU_none)
            need_op(c, A_op1, c->engine == EN_gpsimd ? 0 : M_BINARY | M_BITWISE);
    }
}

static void
check_scalar_tensor_tensor(Check *c)
{
    same_shape(c, 0, 1);
    same_shape(c, 0, 3);
    one_source(c, 2, A_imm0, true);
    column_f32(c, 2, 1);
    not_both_psum(c, 1, 3);
    need_op(c, A_op0, M_BINARY);
    need_op(c, A_op1, M_BINARY);
}

static void
check_reciprocal(Check *c)
{
    same_shape(c, KI_dst, KI_src);
}

static void
check_select_reduce(Check *c)
{
    same_shape(c, 0, 1);
    same_shape(c, 0, 2);
    one_source(c, 3, A_imm0, true);
    column_f32(c, 3, 2);
    not_both_psum(c, 1, 2);
    need_dtype(c, 1, M_INT8_16 | BIT(DT_i8) | BIT(DT_i16), "i8, u8, i16, u16, bool");
    need_dtype(c, 2, ~(BIT(DT_i32) | BIT(DT_u32)), "all but i32 and u32");
}

static void
check_activation(Check *c)
{
    enum { RES = KA_reduce_res, DATA = KA_data };

    const AttrItem *bias = attr_find(c->cx, c->op->attr, A_bias);
    same_shape(c, KI_dst, DATA);
    column(c, RES, DATA);
    column(c, KA_bias, DATA);
    column_f32(c, KA_scale, DATA);
    one_source(c, KA_bias, A_bias, false);
    one_source(c, KA_scale, A_scale, false);
    if (!has_attr(c, A_func))
        report(c, "operand", "NKI-3037 no function is given");
    if (bias != NULL && bias->f != 0 && !c->hw->act_scalar_bias)
        report(c, "engine-generation", "NKI-3038 bias=%g: on %s a bias must be a [P, 1] tile", bias->f, c->target);
    if (attr_int(c->cx, c->op->attr, A_func, -1) == ACT_reciprocal && !c->hw->act_reciprocal_bias &&
        (has(c, KA_bias) || (bias != NULL && bias->f != 0)))
        report(c, "engine-generation", "NKI-3039 reciprocal takes no bias on %s", c->target);
}

/* ---- reductions ---- */

static void
check_tensor_reduce(Check *c)
{
    const Ap *data = c->in[KI_src].use.ap;
    int64_t naxes = attr_int(c->cx, c->op->attr, A_naxes, 1), keep = 1;
    Alu op = alu(c, A_op);
    same_parts(c, KI_dst, KI_src);
    need_op(c, A_op, M_REDUCE);
    if (is_bitwise(op)) {
        need_integer(c, KI_dst, alu_text(op));
        need_integer(c, KI_src, alu_text(op));
        if (attr_int(c->cx, c->op->attr, A_negate, 0))
            report(c, "operator", "NKI-3040 negate needs an arithmetic operator, not %s", alu_text(op));
    }
    if (naxes < 1 || naxes > data->ndim) {
        report(c, "reduce-axes", "NKI-3041 naxes=%lld, the data pattern has %u dims", (long long)naxes, data->ndim);
        return;
    }
    for (uint32_t i = 0; i + (uint32_t)naxes < data->ndim; i++)
        keep *= data->dim[i].count;
    if (c->in[KI_dst].use.count != keep)
        report(c, "element-count", "NKI-3042 dst has %lld elements per partition, the reduction leaves %lld",
               (long long)c->in[KI_dst].use.count, (long long)keep);
}

static void
check_tensor_scalar_reduce(Check *c)
{
    same_shape(c, 0, 2);
    column(c, 1, 2);
    one_source(c, 3, A_imm0, true);
    column_f32(c, 3, 2);
    need_op(c, A_op0, M_BINARY);
    need_op(c, A_op1, M_ROW_REDUCE);
}

static void
check_tensor_partition_reduce(Check *c)
{
    Alu op = alu(c, A_op);
    same_count(c, KI_dst, KI_src);
    need_op(c, A_op, M_PARTITION_REDUCE);
    if (nparts(c, KI_dst) != 1)
        report(c, "partition-count", "NKI-3043 dst has %lld partitions, exactly 1 is allowed",
               (long long)nparts(c, KI_dst));
    for (int i = 0; is_bitwise(op) && i < 2; i++)
        need_integer(c, i, alu_text(op));
}

/* ---- shuffles, index patterns ---- */

static void
check_nc_stream_shuffle(Check *c)
{
    const int64_t *mask;
    int n = attr_ints(c->cx, c->op->attr, A_mask, &mask);
    int rest = (int)(nparts(c, KI_dst) % SHUFFLE_LANES), lanes = rest ? rest : SHUFFLE_LANES;
    same_shape(c, KI_dst, KI_src);
    same_dtype(c, KI_dst, KI_src);
    if (n != SHUFFLE_LANES) {
        report(c, "shuffle-mask", "NKI-3044 mask has %d entries, exactly %d are allowed", n, SHUFFLE_LANES);
        return;
    }
    for (int i = 0; i < n; i++) {
        if (mask[i] != SHUFFLE_KEEP && (mask[i] < 0 || mask[i] >= SHUFFLE_LANES))
            report(c, "shuffle-mask", "NKI-3045 mask[%d] is %lld, allowed: 0 to %d or %d", i, (long long)mask[i],
                   SHUFFLE_LANES - 1, SHUFFLE_KEEP);
        else if (mask[i] != SHUFFLE_KEEP && i < lanes && mask[i] >= lanes)
            report(c, "shuffle-mask", "NKI-3095 mask[%d] is %lld, but the last group of dst has %d partitions", i,
                   (long long)mask[i], lanes);
    }
}

static void
check_iota(Check *c)
{
    index_pattern(c, KI_dst);
}

static void
check_affine_select(Check *c)
{
    same_shape(c, KI_dst, KI_src);
    index_pattern(c, KI_dst);
    need_op(c, A_op, M_COMPARE);
    if (!has_attr(c, A_imm0))
        report(c, "operand", "NKI-3049 no value imm0 is given");
}

/* ---- every instruction ---- */

typedef void CheckFn(Check *c);
#define CHECK_CONTROL(id) NULL
#define CHECK_DMA(id) check_##id
#define CHECK_EW(id) check_##id
#define CHECK_PE(id) check_##id
#define CHECK_REDUCE(id) check_##id
#define CHECK_MOVE(id) check_##id
static CheckFn *const checks[K_COUNT] = {
#define OP(id, class, ...) [K_##id] = CHECK_##class(id),
#include "tile/ops.def"
#undef OP
};

void
check_instr(Check *c)
{
    if (!check_operands(c))
        return;
    checks[c->op->code](c);
    check_immediates(c);
}
