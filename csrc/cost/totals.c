/* totals.c - what needs no timeline: counts, bytes, busy times, the roofline and the memory peaks.
 *
 * in:   a verified tile program, before or after allocation
 * out:  exact counts and bytes (loop bodies times their iterations), busy time per engine, peaks
 * rule: one walk over the program text; counts that do not fit 64 bits are ST_LIMIT
 */
#include "cost/cost.h"

#define MAX_TIMES ((int64_t)1 << 53) /* executions of an op; exact as a double */

typedef struct Walk {
    const Graph *g;
    Cost *out;
    Arena arena;
    VEC(int64_t) times; /* iterations of the open loops, multiplied */
    bool overflow;
} Walk;

static void
add(Walk *w, int64_t *sum, int64_t each, int64_t times)
{
    int64_t n;
    w->overflow |= __builtin_mul_overflow(each, times, &n) || __builtin_add_overflow(*sum, n, sum);
}

static void
count_instr(Walk *w, OpId o, int64_t times)
{
    const Graph *g = w->g;
    const Op *op = graph_op(g, o);
    InstrCost c = cost_instr(g, op);
    Cost *out = w->out;

    add(w, &out->instr[op->code], 1, times);
    add(w, &out->instr_total, 1, times);
    add(w, &out->hbm_read, c.hbm_read, times);
    add(w, &out->hbm_write, c.hbm_write, times);
    out->engine_us[instr_engine(g, op)] += c.issue_us * (double)times;
    if (op->code == K_nc_matmul) {
        DType dt = val_dtype(g, op_val(g, op, KM_moving));
        add(w, &out->flops, c.flops, times);
        out->tensor_us += (double)c.flops * (double)times / cost_matmul_peak(hw_get(g->target), dt);
    }
}

static void
count_buffer(Walk *w, const Op *op)
{
    int kind = (int)attr_int(w->g->cx, op->attr, A_kind, BK_tile);

    if (kind == BK_input || kind == BK_output)
        add(w, &w->out->hbm_min, buffer_bytes(val_type(w->g, op->out)), 1);
}

static Status
walk_program(Walk *w)
{
    int64_t times = 1;

    FOR_OPS(w->g, o) {
        const Op *op = graph_op(w->g, o);
        if (op->code == K_buffer) {
            count_buffer(w, op);
        } else if (op->code == K_loop) {
            VEC_PUSH(w->g->cx, &w->arena, &w->times, times);
            int64_t count = attr_int(w->g->cx, op->attr, A_count, 0);
            w->overflow |= __builtin_mul_overflow(times, count, &times) || times > MAX_TIMES;
        } else if (op->code == K_end) {
            if (w->times.n)
                times = w->times.p[--w->times.n];
        } else {
            count_instr(w, o, times);
        }
        if (w->overflow)
            return fail(w->g->cx, ST_LIMIT, op->loc,
                        "NKI-6501 this runs more often than can be counted: more than 2^53 times, "
                        "or it moves more than 2^63 bytes");
    }
    return ST_OK;
}

/* Bytes per partition that a buffer takes, or banks in PSUM. */
static int64_t
footprint(const Graph *g, const Op *op)
{
    const Type *ty = val_type(g, op->out);
    int64_t bytes = buffer_stride(ty) * attr_int(g->cx, op->attr, A_bufs, 1);
    int64_t bank = (int64_t)hw_get(g->target)->psum_bank_bytes;

    return ty->space == SP_psum ? CEIL_DIV(bytes, bank) : bytes;
}

/* Allocated programs: the highest end. Others: the largest sum of what is live. delta: zeros, and again on return. */
static int64_t
memory_peak(const Graph *g, Space sp, const Live *live, int64_t *delta)
{
    int64_t now = 0, top = 0, peak = 0, unit;
    bool placed = true;

    unit = sp == SP_psum ? (int64_t)hw_get(g->target)->psum_bank_bytes : 1;
    for (uint32_t v = 1; v < g->vals.n; v++) {
        const Type *ty = val_type(g, (Val){v});
        const Op *op = val_def(g, (Val){v});
        int64_t addr = attr_int(g->cx, op->attr, A_addr, -1), size;
        if (ty->kind != TY_buffer || ty->space != sp || !live[v].first.i)
            continue;
        size = footprint(g, op);
        placed = placed && addr >= 0;
        top = MAX(top, CEIL_DIV(addr, unit) + size);
        delta[live[v].first.i] += size;
        delta[live[v].last.i + 1] -= size;
    }
    for (uint32_t o = 0; o <= g->ops.n; o++) {
        now += delta[o];
        peak = MAX(peak, now);
        delta[o] = 0;
    }
    return placed ? top : peak;
}

static Status
totals_of(Walk *w)
{
    Live *live;
    int64_t *delta;

    TRY(walk_program(w));
    TRY(tile_liveness(w->g, &w->arena, &live));
    NEW(w->g->cx, &w->arena, delta, w->g->ops.n + 1);
    w->out->sbuf_peak = memory_peak(w->g, SP_sbuf, live, delta);
    w->out->psum_peak_banks = (int)memory_peak(w->g, SP_psum, live, delta);
    w->out->roofline_us = (double)w->out->hbm_min / cost_dma_bandwidth(hw_get(w->g->target));
    w->out->roofline_us = MAX(w->out->roofline_us, w->out->tensor_us);
    return ST_OK;
}

Status
cost_totals(const Graph *g, Cost *out)
{
    Walk w = {.g = g, .out = out};
    Status st;

    *out = (Cost){0};
    arena_init(&w.arena, &g->cx->mem);
    st = totals_of(&w);
    arena_free(&w.arena);
    return st;
}
