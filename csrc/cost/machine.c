/* machine.c - engines as in-order queues, DMAs over one shared bandwidth.
 *
 * in:   instructions in the order of the text, each with the time from which on its data is there
 * out:  when it starts and ends
 * rule: an instruction starts when its queue is free; DMAs share the bandwidth and may fill idle time of before.
 */
#include <math.h>
#include <string.h>

#include "cost/machine.h"

/* ---- preparation ---- */

static int
lane_of(const Graph *g, const Op *op, int engine)
{
    switch (engine) {
    case EN_tensor:
        return LN_tensor;
    case EN_vector:
        return LN_vector;
    case EN_scalar:
        return LN_scalar;
    case EN_dma:
        return val_type(g, op_val(g, op, KI_dst))->space == SP_hbm ? LN_store : LN_load;
    default:
        return LN_gpsimd;
    }
}

/* Functions that every activation table holds need no switch. */
static uint8_t
act_table(const Graph *g, const Op *op)
{
    int f;

    if (op->code != K_activation)
        return 0;
    f = (int)attr_int(g->cx, op->attr, A_func, ACT_copy);
    return f == ACT_copy || f == ACT_square || f == ACT_relu || f == ACT_abs ? 0 : (uint8_t)(f + 1);
}

Work
work_of(const Graph *g, const Op *op, const Ap *const *ap)
{
    InstrCost c = cost_instr_with(g, op, ap);
    Work w = {
        .issue = c.issue_us, .span = c.span_us, .engine = (uint8_t)instr_engine(g, op), .table = act_table(g, op)};

    w.lane = (uint8_t)lane_of(g, op, w.engine);
    for (int i = 0; i < op->nin; i++)
        if (op_val(g, op, i).i && op_in(g, op, i)->ap.i)
            w.ports |= (uint8_t)(1u << val_type(g, op_val(g, op, i))->space);
    return w;
}

/* What an instruction on lane `b` waits after one on lane `a`: pipeline drain and semaphore between engines, the fixed
 * cost of a true dependence on one engine, completion and trigger of DMAs. Accumulation in PSUM is pipelined. */
void
lags_of(const Hw *hw, Lags *out)
{
    const double clock[LN_COUNT] = {hw->clock_tensor, hw->clock_vector, hw->clock_scalar, hw->clock_gpsimd};
    const double drain[LN_COUNT] = {hw->tensor_drain_ns,
                                    hw->vector_fixed_cycles / clock[LN_vector],
                                    hw->act_fixed_ns,
                                    hw->vector_fixed_cycles / clock[LN_gpsimd],
                                    hw->dma_completion_ns,
                                    hw->dma_completion_ns,
                                    0};

    for (int a = 0; a < LN_COUNT; a++) {
        for (int b = 0; b < LN_COUNT; b++) {
            bool dma = b == LN_load || b == LN_store;
            bool far = a < LN_load;
            double hop = (dma ? hw->dma_trigger_ns : 0) + (far ? hw->semaphore_ns : 0);
            double *raw = &out->us[DEP_raw][a][b], *war = &out->us[DEP_war][a][b];
            *raw = (drain[a] + hop) * 1e-3;
            *war = (far ? hop : drain[a] + hop) * 1e-3;
            out->us[DEP_waw][a][b] = *raw;
            if (a == b && far) {
                *raw = a == LN_tensor ? 0 : hw->static_instr / clock[a] * 1e-3;
                *war = out->us[DEP_waw][a][b] = 0;
            }
        }
    }
}

void
machine_init(Machine *m, const Hw *hw)
{
    *m = (Machine){.hw = hw, .gap = {{0, INFINITY}}, .ngaps = 1};
}

/* ---- running ---- */

static void
insert_gap(Machine *m, int at, Gap gap)
{
    if (m->ngaps == MAX_GAPS) { /* forget the oldest idle time */
        if (at == 0)
            return;
        memmove(m->gap, m->gap + 1, sizeof(Gap) * (size_t)(at - 1));
        m->gap[at - 1] = gap;
        return;
    }
    memmove(m->gap + at + 1, m->gap + at, sizeof(Gap) * (size_t)(m->ngaps - at));
    m->gap[at] = gap;
    m->ngaps++;
}

/* Takes `work` us of idle DMA time from `ready` on, in pieces; returns when the last piece ends. */
static double
fill_gaps(Machine *m, double ready, double work)
{
    const double least = 1e-3; /* us; shorter pieces of idle time are forgotten */
    double end = ready;
    int i = m->ngaps - 1;

    while (i > 0 && m->gap[i - 1].b > ready)
        i--;
    while (work > 0) {
        Gap *gap = &m->gap[i];
        double begin = MAX(gap->a, ready), use = MIN(work, gap->b - begin), before = gap->a;
        work -= use;
        end = begin + use;
        gap->a = end;
        if (begin - before > least) {
            int n = m->ngaps;
            insert_gap(m, i, (Gap){before, begin});
            i += m->ngaps - n;
        }
        if (m->gap[i].b - m->gap[i].a > least || i == m->ngaps - 1) {
            i++;
        } else {
            memmove(m->gap + i, m->gap + i + 1, sizeof(Gap) * (size_t)(m->ngaps - i - 1));
            m->ngaps--;
        }
    }
    return end;
}

static double
run_dma(Machine *m, const Work *w, double *start)
{
    double work = MIN(w->issue, w->span), end;

    m->dma_work += w->issue;
    *start = MAX(*start, m->hw->dma_trigger_ns * 1e-3);
    end = fill_gaps(m, *start, work);
    end = MAX(end, *start + w->span);
    fill_gaps(m, end, w->issue - work); /* the engines are not ready for the next one yet */
    m->clock[w->lane] = MAX(m->clock[w->lane], end);
    return end;
}

/* Generation 2: vector and scalar engine take turns at PSUM, vector and gpsimd at SBUF. */
static int
shares_with(const Machine *m, int space, int lane)
{
    int other = space == SP_psum ? LN_scalar : LN_gpsimd;
    bool parallel = space == SP_psum ? m->hw->vector_scalar_parallel > 0 : m->hw->vector_gpsimd_parallel > 0;

    if (parallel || (space != SP_psum && space != SP_sbuf))
        return LN_COUNT;
    return lane == LN_vector ? other : lane == other ? LN_vector : LN_COUNT;
}

static void
take_ports(Machine *m, const Work *w, double *start)
{
    for (int sp = 0; sp < SP_COUNT; sp++) {
        int other = shares_with(m, sp, w->lane);
        const Gap *used = &m->port[sp][other < LN_COUNT ? other : 0];
        if (other < LN_COUNT && (w->ports >> sp & 1) && *start < used->b && *start + w->issue > used->a)
            *start = used->b;
    }
    for (int sp = 0; sp < SP_COUNT; sp++)
        if (w->ports >> sp & 1)
            m->port[sp][w->lane] = (Gap){*start, *start + w->issue};
}

static double
run_compute(Machine *m, const Work *w, double *start)
{
    *start = MAX(*start, m->clock[w->lane]);
    take_ports(m, w, start);
    m->clock[w->lane] = *start + w->issue;
    if (w->table && w->table != m->table) {
        m->clock[w->lane] += m->hw->act_table_ns * 1e-3;
        m->table = w->table;
    }
    return m->clock[w->lane];
}

double
machine_run(Machine *m, const Work *w, double *start)
{
    return w->engine == EN_dma ? run_dma(m, w, start) : run_compute(m, w, start);
}

/* ---- clocks ---- */

void
machine_clocks(const Machine *m, double out[CK_COUNT])
{
    memcpy(out, m->clock, sizeof(m->clock));
    out[CK_bus] = m->gap[m->ngaps - 1].a;
    out[CK_work] = m->dma_work;
    out[LN_mixed] = 0;
    for (int l = 0; l < LN_mixed; l++)
        out[LN_mixed] = MAX(out[LN_mixed], out[l]);
}

void
machine_shift(Machine *m, const double by[CK_COUNT])
{
    for (int l = 0; l < LN_mixed; l++)
        m->clock[l] += by[l];
    m->dma_work += by[CK_work];
    for (int l = 0; l < LN_COUNT; l++) {
        for (int sp = 0; sp < SP_COUNT; sp++) {
            m->port[sp][l].a += by[l];
            m->port[sp][l].b += by[l];
        }
    }
    for (int i = 0; i < m->ngaps; i++) {
        m->gap[i].a += by[CK_bus];
        m->gap[i].b += by[CK_bus];
    }
}

double
machine_end(const Machine *m)
{
    double end = 0, done = m->hw->dma_completion_ns * 1e-3;

    for (int l = 0; l < LN_mixed; l++)
        if (m->clock[l] > 0)
            end = MAX(end, m->clock[l] + (l == LN_load || l == LN_store ? done : 0));
    return end;
}
