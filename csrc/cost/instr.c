/* instr.c - the cost of one instruction: issue interval, latency and HBM bytes.
 *
 * in:   an instruction of a tile program
 * out:  times from the published formulas (nisa-facts 2.13) and the fits of hw.def; bytes exact
 * rule: only access patterns, dtypes and spaces matter, never loop variables: one answer per instruction
 */
#include "cost/cost.h"
#include "tile/access.h"

typedef struct Side { /* an operand, decoded */
    const Ap *ap;     /* NULL: absent */
    DType dt;
    uint8_t space;
    int bytes;   /* per element */
    int64_t n;   /* elements per partition; HBM: all */
    int64_t run; /* elements of the innermost contiguous run */
    int64_t inner_stride; /* elements; 1 when there is one element */
} Side;

typedef struct Instr {
    const Graph *g;
    const Hw *hw;
    const Op *op;
    int engine;
    Side side[MAX_OPERANDS]; /* in the row's order */
} Instr;

static void
measure_runs(Side *s)
{
    bool inner = true;

    s->run = 1;
    s->inner_stride = 1;
    for (int d = (int)s->ap->ndim - 1; d >= 0; d--) {
        const ApDim *dim = &s->ap->dim[d];
        if (dim->count == 1)
            continue;
        if (inner)
            s->inner_stride = dim->stride;
        inner = false;
        if (dim->stride != s->run)
            return;
        s->run *= dim->count;
    }
}

static Side
side_of(const Graph *g, const Op *op, int i, const Ap *ap)
{
    Side s = {0};
    Use u;

    if (!operand_use(g, op, i, &u))
        return s;
    s.ap = ap ? ap : u.ap;
    s.dt = (DType)u.dtype;
    s.space = u.space;
    s.bytes = u.elem;
    s.n = ap ? ap_count(ap) : u.count;
    measure_runs(&s);
    return s;
}

static bool
is_16bit(const Hw *hw, const Side *s)
{
    return s->dt == DT_bf16 || s->dt == DT_f16
           || (hw->vector_fast_fp8 > 0 && s->bytes == 1 && is_float(s->dt));
}

static bool
one_in_psum(const Side *a, const Side *b)
{
    return (a->space == SP_psum) != (b->space == SP_psum);
}

static bool
is_unit(const Side *s)
{
    return s->inner_stride == 1;
}

/* How many elements per lane and cycle a copy-like instruction streams. */
static double
copy_rate(const Instr *k)
{
    const Hw *hw = k->hw;
    const Side *dst = &k->side[0], *src = &k->side[1];
    bool half = is_16bit(hw, dst) && is_16bit(hw, src);
    bool unit = is_unit(dst) && is_unit(src);
    int psum = (dst->space == SP_psum) + (src->space == SP_psum);

    if (k->engine == EN_scalar)
        return half ? hw->scalar_fast_copy : 1;
    if (k->engine != EN_vector || !half)
        return 1;
    if (psum == 0)
        return unit ? hw->vector_fast_copy : hw->vector_mid_copy;
    return psum == 1 && unit ? hw->vector_mid_copy : 1;
}

static double
tensor_tensor_cycles(const Instr *k, double n)
{
    const Side *dst = &k->side[0], *a = &k->side[1], *b = &k->side[2];
    int alu = (int)attr_int(k->g->cx, k->op->attr, A_op, ALU_none);
    bool bf16 = dst->dt == DT_bf16 && a->dt == DT_bf16 && b->dt == DT_bf16;
    bool sbuf = a->space == SP_sbuf && b->space == SP_sbuf;

    if (one_in_psum(a, b))
        return n;
    if (sbuf && bf16 && (alu == ALU_add || alu == ALU_subtract || alu == ALU_multiply)
        && is_unit(a) && is_unit(b) && is_unit(dst))
        return n;
    if (k->engine == EN_vector && sbuf && is_16bit(k->hw, dst) && is_16bit(k->hw, a)
        && is_16bit(k->hw, b))
        return 2 * n / k->hw->vector_fast_tt;
    return 2 * n;
}

static double
scalar_tensor_tensor_cycles(const Instr *k, double n)
{
    const Side *a = &k->side[1], *b = &k->side[3];
    bool fast = a->dt == DT_bf16 && b->dt == DT_bf16 && a->n % 2 == 0
                && attr_int(k->g->cx, k->op->attr, A_op0, ALU_none) == ALU_subtract
                && attr_int(k->g->cx, k->op->attr, A_op1, ALU_none) == ALU_multiply;

    return fast ? n : 2 * n;
}

static double
memset_cycles(const Instr *k, double n)
{
    DType dt = k->side[0].dt;
    bool zero = attr_float(k->g->cx, k->op->attr, A_imm0, 0) == 0;

    return zero && (dt == DT_bf16 || dt == DT_f16) ? n / 2 : n;
}

static double
reduce_cycles(const Instr *k, double n)
{
    int alu = (int)attr_int(k->g->cx, k->op->attr, A_op, ALU_none);
    bool bf16 = k->side[0].dt == DT_bf16 && k->side[1].dt == DT_bf16;

    return bf16 && (alu == ALU_add || alu == ALU_maximum) ? n / 2 : n;
}

/* Cycles of a vector, scalar or gpsimd instruction that streams n elements per partition. */
static double
stream_cycles(const Instr *k, double n)
{
    const Side *s = k->side;

    switch (k->op->code) {
    case K_tensor_copy:
        return n / copy_rate(k);
    case K_tensor_scalar:
        return k->engine == EN_gpsimd ? 4 * n : n / copy_rate(k);
    case K_memset:
        return memset_cycles(k, n);
    case K_tensor_tensor:
        return tensor_tensor_cycles(k, n);
    case K_scalar_tensor_tensor:
        return scalar_tensor_tensor_cycles(k, n);
    case K_tensor_copy_predicated:
    case K_select_reduce:
        return one_in_psum(&s[1], &s[2]) ? n : 2 * n;
    case K_reciprocal:
        return k->hw->reciprocal_cycles * n;
    case K_tensor_reduce:
        return reduce_cycles(k, n);
    case K_tensor_partition_reduce: /* unpublished: 16 lanes fold the partitions of one core by one */
        return n * CEIL_DIV(s[1].ap->nparts, 16);
    default: /* activation nc_transpose nc_stream_shuffle tensor_scalar_reduce iota affine_select */
        return n;
    }
}

/* Elements per partition the instruction streams, and whether a stride halves the memory interface. */
static int64_t
stream_length(const Instr *k, bool *slow)
{
    int64_t n = 1;

    *slow = false;
    for (int i = 0; i < k->op->nin; i++) {
        const Side *s = &k->side[i];
        int64_t stride = s->inner_stride < 0 ? -s->inner_stride : s->inner_stride;
        if (!s->ap)
            continue;
        n = MAX(n, s->n);
        if (s->n > 1 && stride * s->bytes >= 16)
            *slow = true;
    }
    return n;
}

static void
cost_stream(const Instr *k, InstrCost *c)
{
    const Hw *hw = k->hw;
    double clock = k->engine == EN_vector ? hw->clock_vector
                   : k->engine == EN_scalar ? hw->clock_scalar : hw->clock_gpsimd;
    bool slow;
    double n = (double)stream_length(k, &slow);
    double cycles = stream_cycles(k, n) * (slow ? 2 : 1);

    cycles = MAX(hw->min_ii, cycles);
    if (k->op->code == K_tensor_scalar_reduce)
        cycles += hw->min_ii;
    if (k->op->code == K_activation && k->side[KA_reduce_res].ap)
        cycles += hw->act_read_accumulator;
    if (k->engine == EN_vector) /* in part hidden behind what the previous instruction still writes */
        cycles += MIN(hw->sram_access, n / 4);
    if (k->engine == EN_gpsimd)
        cycles += hw->gpsimd_start;
    else if (n < hw->pmax) /* too short to hide the fixed part behind the previous instruction */
        cycles += hw->static_instr * (hw->pmax - n) / hw->pmax;
    c->issue_us = cycles / clock * 1e-3;
    c->latency_us = k->engine == EN_scalar ? hw->act_fixed_ns * 1e-3
                                           : hw->vector_fixed_cycles / clock * 1e-3;
}

static void
cost_tensor(const Instr *k, InstrCost *c)
{
    const Hw *hw = k->hw;
    double cycles;

    c->latency_us = hw->tensor_drain_ns * 1e-3;
    if (k->op->code == K_nc_matmul) {
        const Side *st = &k->side[KM_stationary], *mv = &k->side[KM_moving];
        double passes = st->dt == DT_f32 || mv->dt == DT_f32 ? hw->fp32_passes : 1;
        cycles = passes * MAX(hw->mm_min_cycles, (double)mv->n);
        c->flops = 2 * st->ap->nparts * st->n * mv->n;
    } else { /* nc_transpose: the data is stationary, an identity as wide as its partitions moves */
        const Side *data = &k->side[1];
        double passes = data->dt == DT_f32 ? hw->fp32_transpose_passes : 1;
        cycles = passes * MAX((double)data->ap->nparts, MIN(hw->mm_min_cycles, (double)data->n));
        cycles = MAX(cycles, hw->mm_min_cycles);
    }
    c->issue_us = (cycles + hw->mm_gap_cycles) / hw->clock_tensor * 1e-3;
}

/* What a contiguous run of `bytes` costs its DMA engine, in bytes at full speed. */
static double
run_cost(const Hw *hw, double bytes)
{
    return MAX(bytes, hw->dma_run_min) + hw->dma_row_bytes;
}

/* Engines that share a transfer: 8 partitions each; between HBM buffers, pieces of at least dma_good_bytes. */
static double
engines_used(const Hw *hw, const Side *dst, const Side *src, double bytes)
{
    int64_t parts = MAX(dst->ap->nparts, src->ap->nparts);
    double n = parts ? (double)CEIL_DIV(parts, (int64_t)hw->dma_engine_partitions)
                     : bytes / hw->dma_good_bytes;

    return n < 1 ? 1 : MIN(n, hw->dma_engines);
}

static double
hbm_share(const Hw *hw) /* GB/s that a core may count on when all of them stream */
{
    return hw->hbm_device_gbs / hw->cores_per_device;
}

static int64_t
total_elems(const Side *s)
{
    return s->n * MAX(s->ap->nparts, 1);
}

static void
cost_dma(const Instr *k, InstrCost *c)
{
    const Hw *hw = k->hw;
    const Side *dst = &k->side[KI_dst], *src = &k->side[KI_src];
    int64_t elems = total_elems(dst);
    int64_t run = MAX(MIN(dst->run, src->run), 1);
    double bytes, engines, per_engine, share = 1, hbm;

    if (k->op->code == K_dma_transpose) { /* whole source runs go in; the engine, if there is one, writes the columns */
        run = hw->dma_transpose ? src->run : 1;
        share = src->space == SP_hbm ? hw->dma_transpose_hbm : hw->dma_transpose_sbuf;
    }
    bytes = (double)(elems * MAX(dst->bytes, src->bytes));
    engines = engines_used(hw, dst, src, bytes);
    per_engine = (double)elems / (double)run / engines
                 * run_cost(hw, (double)(run * MAX(dst->bytes, src->bytes)));
    c->hbm_read = src->space == SP_hbm ? total_elems(src) * src->bytes : 0;
    c->hbm_write = dst->space == SP_hbm ? elems * dst->bytes : 0;
    hbm = (double)(c->hbm_read + c->hbm_write);
    c->span_us = per_engine / hw->dma_engine_gbs / share * 1e-3;
    c->span_us = MAX(c->span_us, hbm / hbm_share(hw) * 1e-3);
    c->issue_us = MAX(c->span_us, hw->dma_least_ns * 1e-3) * engines / hw->dma_engines;
    c->issue_us = MAX(c->issue_us, hbm / hbm_share(hw) * 1e-3);
    c->latency_us = hw->dma_completion_ns * 1e-3;
}

double
cost_matmul_peak(const Hw *hw, DType dt)
{
    return 2 * hw->mm_k * hw->mm_m * hw->clock_tensor * 1e3 / (dt == DT_f32 ? hw->fp32_passes : 1);
}

double
cost_dma_bandwidth(const Hw *hw)
{
    return MIN(hw->dma_core_gbs, hbm_share(hw)) * 1e3;
}

InstrCost
cost_instr(const Graph *g, const Op *op)
{
    return cost_instr_with(g, op, NULL);
}

InstrCost
cost_instr_with(const Graph *g, const Op *op, const Ap *const *ap)
{
    Instr k = {.g = g, .hw = hw_get(g->target), .op = op};
    InstrCost c = {0};

    if (!is_instr(g, op))
        return c;
    k.engine = instr_engine(g, op);
    for (int i = 0; i < op->nin && i < MAX_OPERANDS; i++)
        k.side[i] = side_of(g, op, i, ap ? ap[i] : NULL);
    if (op_def(g, op)->flags & F_DMA)
        cost_dma(&k, &c);
    else if (k.engine == EN_tensor)
        cost_tensor(&k, &c);
    else
        cost_stream(&k, &c);
    return c;
}
