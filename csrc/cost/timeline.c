/* timeline.c - when everything happens: engines as in-order queues, DMAs over one shared bandwidth.
 *
 * in:   a verified tile program, before or after allocation
 * out:  its modelled time
 * how:  an instruction starts when its engine is free and what it depends on is done. Dependences are overlaps of
 *       regions (partitions x bytes of a row, as bounding boxes) of one copy of one buffer; addresses that change
 *       hands are dependences too. A loop is run until an iteration advances every clock as the one before did; then
 *       the clocks jump over all but the last iterations.
 */
#include <math.h>
#include <string.h>

#include "cost/timeline.h"

#define CK_bus LN_COUNT /* clock of the shared DMA bandwidth, after those of the lanes */
#define CK_work (LN_COUNT + 1) /* and the DMA work so far, which may fill idle time of before */
#define CK_COUNT (LN_COUNT + 2)
#define MAX_GAPS 32
#define MAX_STEPS ((int64_t)1 << 21) /* and 64 per op: from there on loops are not looked at closely */
#define MAX_PERIOD 8 /* iterations after which rotating buffers are back at their first copy */

typedef struct Buffer {
    uint32_t track; /* of copy 0 */
    uint32_t bufs, turn, cur;
    int64_t addr, stride; /* addr < 0: not placed */
    uint8_t space;
    bool read, written, tracked;
} Buffer;

typedef struct Use { /* an operand of an instruction, decoded */
    const Ap *ap;
    int64_t lo, hi; /* bytes, without the loop terms */
    uint32_t val;
    uint8_t elem, role;
} Use;
typedef struct Step { /* an op, decoded */
    double issue, span;
    uint32_t use, nuse; /* loop: the index of its end, and of its last rate in Sim.rates */
    uint8_t lane, engine, ports; /* ports: memories that it may have to share, as a set of spaces */
    uint8_t table; /* table: 1 + activation function that needs its own table, or 0 */
} Step;

typedef struct Rate { double per[CK_COUNT]; } Rate; /* how far the clocks went per period */
typedef struct Span { int64_t lo, hi; uint32_t track; } Span; /* who holds these bytes of every partition */
typedef struct Gap { double a, b; } Gap;

typedef struct Sim {
    const Graph *g;
    const Hw *hw;
    Arena arena;
    Step *step;
    VEC(Use) uses;
    Buffer *buf; /* by value */
    VEC(Track) tracks;
    VEC(Span) spans[SP_COUNT]; /* sorted, disjoint */
    VEC(Rate) rates;           /* by loop: of its last steady state; all zero at first */
    int64_t *value_of;         /* loop variables */
    Tracker tracker;
    double clock[CK_COUNT];
    Gap port[SP_COUNT][LN_COUNT]; /* when the lane used this memory last */
    Gap gap[MAX_GAPS]; /* when the DMA engines are idle; the last is open-ended */
    int ngaps;
    double dma_work;
    int table;
    uint32_t stamp, jumps;
    int64_t steps; /* ops run */
} Sim;

/* ---- operands ---- */

static Region
use_region(const Sim *s, const Use *u)
{
    int64_t off = u->ap->off.nterms ? affine_eval(&u->ap->off, s->value_of) - u->ap->off.c : 0;
    int32_t p0 = u->ap->nparts ? (int32_t)affine_eval(&u->ap->part, s->value_of) : 0;

    off *= u->elem;
    return (Region){u->lo + off, u->hi + off, p0, p0 + MAX(u->ap->nparts, 1)};
}

static Track *
use_track(const Sim *s, const Use *u)
{
    const Buffer *b = &s->buf[u->val];

    return b->tracked ? &s->tracks.p[b->track + b->cur] : NULL;
}

/* ---- addresses ---- */

/* Replaces spans [from, to) of the sorted list by what is left of them around `new`, and `new`. */
static Status
splice_spans(Sim *s, int space, uint32_t from, uint32_t to, Span new)
{
    Span out[3];
    uint32_t n = 0, count = s->spans[space].n;

    if (from < to && s->spans[space].p[from].lo < new.lo)
        out[n++] = (Span){s->spans[space].p[from].lo, new.lo, s->spans[space].p[from].track};
    out[n++] = new;
    if (from < to && s->spans[space].p[to - 1].hi > new.hi)
        out[n++] = (Span){new.hi, s->spans[space].p[to - 1].hi, s->spans[space].p[to - 1].track};
    TRY(vec_reserve(s->g->cx, &s->arena, &s->spans[space], n, sizeof(Span)));
    memmove(s->spans[space].p + from + n, s->spans[space].p + to, sizeof(Span) * (count - to));
    memcpy(s->spans[space].p + from, out, sizeof(Span) * n);
    s->spans[space].n = count - (to - from) + n;
    return ST_OK;
}

/* A copy of a buffer takes over its bytes: it is ready when the former holders are done. */
static Status
take_address(Sim *s, const Buffer *b)
{
    uint32_t me = b->track + b->cur, lo = 0, hi = s->spans[b->space].n, from;
    const Span *p = s->spans[b->space].p;
    Span new = {b->addr + b->stride * b->cur, 0, me};
    double ready = 0;

    new.hi = new.lo + b->stride;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (p[mid].hi > new.lo)
            hi = mid;
        else
            lo = mid + 1;
    }
    from = lo;
    if (from < s->spans[b->space].n && p[from].lo == new.lo && p[from].hi == new.hi
        && p[from].track == me)
        return ST_OK;
    for (; lo < s->spans[b->space].n && p[lo].lo < new.hi; lo++)
        if (p[lo].track != me)
            ready = MAX(ready, track_end(&s->tracker, &s->tracks.p[p[lo].track]));
    TRY(splice_spans(s, b->space, from, lo, new));
    if (ready == 0)
        return ST_OK;
    return track_push(&s->tracker, &s->tracks.p[me], (Access){
        .r = {0, b->stride, 0, (int32_t)s->hw->pmax}, .t0 = ready, .t1 = ready,
        .stamp = s->stamp, .lane = LN_mixed, .write = true});
}

static Status
open_buffer(Sim *s, const Op *op)
{
    Buffer *b = &s->buf[op->out.i];

    b->cur = b->turn++ % b->bufs;
    return b->tracked && b->addr >= 0 ? take_address(s, b) : ST_OK;
}

/* ---- instructions ---- */

static void
insert_gap(Sim *s, int at, Gap gap)
{
    if (s->ngaps == MAX_GAPS) { /* forget the oldest idle time */
        if (at == 0)
            return;
        memmove(s->gap, s->gap + 1, sizeof(Gap) * (size_t)(at - 1));
        s->gap[at - 1] = gap;
        return;
    }
    memmove(s->gap + at + 1, s->gap + at, sizeof(Gap) * (size_t)(s->ngaps - at));
    s->gap[at] = gap;
    s->ngaps++;
}

/* Takes `work` us of idle DMA time from `ready` on, in pieces; returns when the last piece ends. */
static double
fill_gaps(Sim *s, double ready, double work)
{
    const double least = 1e-3; /* us; shorter pieces of idle time are forgotten */
    double end = ready;
    int i = s->ngaps - 1;

    while (i > 0 && s->gap[i - 1].b > ready)
        i--;
    while (work > 0) {
        Gap *gap = &s->gap[i];
        double begin = MAX(gap->a, ready), use = MIN(work, gap->b - begin), before = gap->a;
        work -= use;
        end = begin + use;
        gap->a = end;
        if (begin - before > least) {
            int n = s->ngaps;
            insert_gap(s, i, (Gap){before, begin});
            i += s->ngaps - n;
        }
        if (s->gap[i].b - s->gap[i].a > least || i == s->ngaps - 1) {
            i++;
        } else {
            memmove(s->gap + i, s->gap + i + 1, sizeof(Gap) * (size_t)(s->ngaps - i - 1));
            s->ngaps--;
        }
    }
    return end;
}

static double
run_dma(Sim *s, const Step *st, double *start)
{
    double work = MIN(st->issue, st->span), end;

    s->dma_work += st->issue;
    *start = MAX(*start, s->hw->dma_trigger_ns * 1e-3);
    end = fill_gaps(s, *start, work);
    end = MAX(end, *start + st->span);
    fill_gaps(s, end, st->issue - work); /* the engines are not ready for the next one yet */
    s->clock[st->lane] = MAX(s->clock[st->lane], end);
    return end;
}

/* Generation 2: vector and scalar engine take turns at PSUM, vector and gpsimd at SBUF. */
static int
shares_with(const Sim *s, int space, int lane)
{
    int other = space == SP_psum ? LN_scalar : LN_gpsimd;
    bool parallel = space == SP_psum ? s->hw->vector_scalar_parallel > 0 : s->hw->vector_gpsimd_parallel > 0;

    if (parallel || (space != SP_psum && space != SP_sbuf))
        return LN_COUNT;
    return lane == LN_vector ? other : lane == other ? LN_vector : LN_COUNT;
}

static void
take_ports(Sim *s, const Step *st, double *start)
{
    for (int sp = 0; sp < SP_COUNT; sp++) {
        int other = shares_with(s, sp, st->lane);
        const Gap *used = &s->port[sp][other < LN_COUNT ? other : 0];
        if (other < LN_COUNT && (st->ports >> sp & 1) && *start < used->b && *start + st->issue > used->a)
            *start = used->b;
    }
    for (int sp = 0; sp < SP_COUNT; sp++)
        if (st->ports >> sp & 1)
            s->port[sp][st->lane] = (Gap){*start, *start + st->issue};
}

static double
run_compute(Sim *s, const Step *st, double *start)
{
    *start = MAX(*start, s->clock[st->lane]);
    take_ports(s, st, start);
    s->clock[st->lane] = *start + st->issue;
    if (st->table && st->table != s->table) {
        s->clock[st->lane] += s->hw->act_table_ns * 1e-3;
        s->table = st->table;
    }
    return s->clock[st->lane];
}

static Status
run_instr(Sim *s, OpId o)
{
    const Step *st = &s->step[o.i];
    Region r[MAX_OPERANDS];
    double start = 0, end;

    for (uint32_t i = 0; i < st->nuse; i++) {
        const Use *u = &s->uses.p[st->use + i];
        const Track *t = use_track(s, u);
        double ready;
        if (!t)
            continue;
        r[i] = use_region(s, u);
        ready = track_wait(&s->tracker, t, &r[i], u->role, st->lane);
        start = MAX(start, ready);
    }
    end = st->engine == EN_dma ? run_dma(s, st, &start) : run_compute(s, st, &start);
    s->stamp++;
    for (uint32_t i = 0; i < st->nuse; i++) {
        const Use *u = &s->uses.p[st->use + i];
        Track *t = use_track(s, u);
        if (t)
            TRY(track_record(&s->tracker, t, (Access){.r = r[i], .t0 = end, .t1 = end, .stamp = s->stamp,
                                             .lane = st->lane, .write = (u->role & R_write) != 0}));
    }
    return ST_OK;
}

/* ---- loops ---- */

static Status run_loop(Sim *s, OpId loop);

static Status
run_range(Sim *s, uint32_t begin, uint32_t end)
{
    for (OpId o = {begin}; o.i < end; o.i++) {
        const Op *op = graph_op(s->g, o);
        s->steps++;
        if (op->code == K_buffer) {
            TRY(open_buffer(s, op));
        } else if (op->code == K_loop) {
            TRY(run_loop(s, o));
            o.i = s->step[o.i].use;
        } else if (op->code != K_end) {
            TRY(run_instr(s, o));
        }
    }
    return ST_OK;
}

/* Iterations after which every rotating buffer of the body is back at the same copy (at most MAX_PERIOD). */
static int64_t
rotation_period(const Sim *s, OpId loop)
{
    int64_t period = 1, times[MAX_NEST + 1] = {1};
    int depth = 0;

    for (uint32_t o = loop.i + 1; o < s->step[loop.i].use; o++) {
        const Op *op = &s->g->ops.p[o];
        if (op->code == K_loop) {
            depth++;
            times[depth] = times[depth - 1] * attr_int(s->g->cx, op->attr, A_count, 0) % 5040;
        } else if (op->code == K_end) {
            depth--;
        } else if (op->code == K_buffer) {
            int64_t bufs = s->buf[op->out.i].bufs, q = bufs / gcd(bufs, times[depth]);
            period = period / gcd(period, q) * q;
            if (period > MAX_PERIOD)
                return MAX_PERIOD;
        }
    }
    return period;
}

static void
take_clocks(const Sim *s, double *out)
{
    memcpy(out, s->clock, sizeof(s->clock));
    out[CK_bus] = s->gap[s->ngaps - 1].a;
    out[CK_work] = s->dma_work;
    out[LN_mixed] = 0;
    for (int l = 0; l < LN_mixed; l++)
        out[LN_mixed] = MAX(out[LN_mixed], out[l]);
}

static void
shift_track(Sim *s, Track *t, uint32_t since, const double *by)
{
    if (t->shifted == s->jumps)
        return;
    t->shifted = s->jumps;
    for (uint32_t i = 0; i < t->n; i++) {
        Access *a = &t->a[i];
        if (a->stamp <= since)
            continue;
        a->t0 += by[a->lane];
        a->t1 += by[a->lane];
    }
}

/* The bytes a use reaches while the variable of `loop` goes over [v0, v1] and the loops inside over all of theirs. */
static Region
swept_region(const Sim *s, const Use *u, OpId loop, int64_t v0, int64_t v1, int64_t *coef)
{
    Region r = {u->lo, u->hi, 0, 1};
    const Affine *form[2] = {&u->ap->off, &u->ap->part};
    int64_t lo[2], hi[2];

    *coef = 0;
    for (int k = 0; k < 2; k++) {
        lo[k] = hi[k] = k ? form[k]->c : 0;
        for (uint32_t i = 0; i < form[k]->nterms; i++) {
            Term t = form[k]->term[i];
            uint32_t def = s->g->vals.p[t.var.i].def.i;
            int64_t a = s->value_of[t.var.i], b = a;
            if (def == loop.i) {
                a = v0, b = v1;
                *coef = k && *coef ? *coef : t.coef;
            } else if (def > loop.i) {
                a = 0, b = attr_int(s->g->cx, s->g->ops.p[def].attr, A_count, 1) - 1;
            }
            lo[k] += t.coef < 0 ? t.coef * b : t.coef * a;
            hi[k] += t.coef < 0 ? t.coef * a : t.coef * b;
        }
    }
    r.lo += lo[0] * u->elem;
    r.hi += hi[0] * u->elem;
    if (u->ap->nparts) {
        r.p0 = (int32_t)lo[1];
        r.p1 = (int32_t)hi[1] + u->ap->nparts;
    }
    return r;
}

/* What the skipped iterations [v0, v1] did to buffers that outlive an iteration: ramps from the clock before the jump
 * to the clock after it. */
static Status
sweep_uses(Sim *s, OpId loop, int64_t v0, int64_t v1, const double *by)
{
    for (uint32_t o = loop.i + 1; o < s->step[loop.i].use; o++) {
        const Step *st = &s->step[o];
        if (s->g->ops.p[o].code == K_loop)
            continue;
        for (uint32_t i = 0; i < st->nuse; i++) {
            const Use *u = &s->uses.p[st->use + i];
            Track *t = use_track(s, u);
            double now = s->clock[st->lane], then = now - by[st->lane];
            int64_t coef;
            Region r;
            if (!t || s->g->vals.p[u->val].def.i > loop.i)
                continue;
            r = swept_region(s, u, loop, v0, v1, &coef);
            if (coef)
                TRY(track_push(&s->tracker, t, (Access){.r = r, .t0 = coef > 0 ? then : now,
                                               .t1 = coef > 0 ? now : then, .stamp = s->stamp,
                                               .lane = st->lane, .write = (u->role & R_write) != 0}));
        }
    }
    return ST_OK;
}

/* Skips `times` periods of iterations [v0, v1], each of which moves the clocks by `per`. */
static Status
jump(Sim *s, OpId loop, uint32_t since, double times, const double *per, int64_t v0, int64_t v1)
{
    double by[CK_COUNT];

    for (int c = 0; c < CK_COUNT; c++)
        by[c] = per[c] * times;
    s->jumps++;
    for (uint32_t o = loop.i + 1; o < s->step[loop.i].use; o++) {
        const Step *st = &s->step[o];
        if (s->g->ops.p[o].code == K_loop)
            continue;
        for (uint32_t i = 0; i < st->nuse; i++) {
            const Buffer *b = &s->buf[s->uses.p[st->use + i].val];
            for (uint32_t k = 0; b->tracked && k < b->bufs; k++)
                shift_track(s, &s->tracks.p[b->track + k], since, by);
        }
    }
    for (int l = 0; l < LN_mixed; l++)
        s->clock[l] += by[l];
    s->dma_work += by[CK_work];
    for (int l = 0; l < LN_COUNT; l++) {
        for (int sp = 0; sp < SP_COUNT; sp++) {
            s->port[sp][l].a += by[l];
            s->port[sp][l].b += by[l];
        }
    }
    for (int i = 0; i < s->ngaps; i++) {
        s->gap[i].a += by[CK_bus];
        s->gap[i].b += by[CK_bus];
    }
    return sweep_uses(s, loop, v0, v1, by);
}

static bool
is_steady(const double *a, const double *b)
{
    double most = 1e-6; /* us */

    for (int c = 0; c < CK_COUNT; c++)
        most = MAX(most, b[c]);
    for (int c = 0; c < CK_COUNT; c++)
        if (fabs(a[c] - b[c]) > 1e-4 * most)
            return false;
    return true;
}

/* Loops that nest too deep to wait for a steady state: the first iteration stands for all of them. */
static bool
is_hasty(const Sim *s)
{
    return s->steps > MAX_STEPS + 64 * (int64_t)s->g->ops.n;
}

/* The second to the last of `count` iterations, each as long as the first. */
static Status
repeat_first(Sim *s, OpId loop, uint32_t since, const double *before, int64_t count)
{
    double per[CK_COUNT];

    take_clocks(s, per);
    for (int c = 0; c < CK_COUNT; c++)
        per[c] -= before[c];
    return jump(s, loop, since, (double)(count - 1), per, 1, count - 1);
}

/* DMAs that fill idle time of before the loop are ahead of what their engines can keep up. */
static void
keep_up(double *per)
{
    for (int c = 0; c < CK_work; c++)
        if (per[c] > 0)
            per[c] = MAX(per[c], per[CK_work]);
}

/* After a period: has the loop settled? Two periods alike, or one like those of the loop's last execution. */
static bool
settle(Sim *s, OpId loop, int rounds, int most, double *last, Rate *rate)
{
    Rate *known = &s->rates.p[s->step[loop.i].nuse], old = *rate;
    double now[CK_COUNT];
    bool done;

    take_clocks(s, now);
    for (int c = 0; c < CK_COUNT; c++)
        rate->per[c] = now[c] - last[c];
    memcpy(last, now, sizeof(now));
    if (rounds < 2)
        return false;
    done = rounds >= most || is_steady(known->per, rate->per)
           || (rounds > 2 && is_steady(old.per, rate->per));
    if (done) {
        keep_up(rate->per);
        *known = *rate;
    }
    return done;
}

static Status
run_loop(Sim *s, OpId loop)
{
    const Op *op = graph_op(s->g, loop);
    int64_t count = attr_int(s->g->cx, op->attr, A_count, 0), period = rotation_period(s, loop);
    double last[CK_COUNT] = {0};
    Rate rate = {{0}};
    uint32_t since = s->stamp;
    int rounds = 0;
    bool jumped = false;

    take_clocks(s, last);
    for (int64_t i = 0; i < count; i++) {
        s->value_of[op->out.i] = i;
        TRY(run_range(s, loop.i + 1, s->step[loop.i].use));
        if (i == 0 && count > 1 && is_hasty(s))
            return repeat_first(s, loop, since, last, count);
        if (jumped || (i + 1) % period || i + 1 + period >= count)
            continue;
        if (!settle(s, loop, ++rounds, period > 2 ? 4 : 6, last, &rate))
            continue;
        int64_t times = (count - i - 2) / period; /* leaves at least one iteration to run */
        if (times > 0)
            TRY(jump(s, loop, since, (double)times, rate.per, i + 1, i + times * period));
        i += times * period;
        jumped = true;
    }
    return ST_OK;
}

/* ---- preparation ---- */

static int
lane_of(const Graph *g, const Op *op, int engine)
{
    switch (engine) {
    case EN_tensor: return LN_tensor;
    case EN_vector: return LN_vector;
    case EN_scalar: return LN_scalar;
    case EN_dma: return val_type(g, op_val(g, op, KI_dst))->space == SP_hbm ? LN_store : LN_load;
    default: return LN_gpsimd;
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

static Status
decode_instr(Sim *s, const Op *op, Step *st)
{
    InstrCost c = cost_instr(s->g, op);

    st->issue = c.issue_us;
    st->span = c.span_us;
    st->engine = (uint8_t)instr_engine(s->g, op);
    st->lane = (uint8_t)lane_of(s->g, op, st->engine);
    st->table = act_table(s->g, op);
    st->use = s->uses.n;
    for (int i = 0; i < op->nin; i++) {
        const Operand *in = op_in(s->g, op, i);
        int role = operand_role(s->g, op, i);
        Use u = {.val = in->v.i, .role = (uint8_t)role};
        if (!in->v.i || !in->ap.i)
            continue;
        u.ap = ap_get(s->g->cx, in->ap);
        st->ports |= (uint8_t)(1u << val_type(s->g, in->v)->space);
        u.elem = dtypes[val_dtype(s->g, in->v)].bytes;
        ap_extent(u.ap, &u.lo, &u.hi);
        u.lo *= u.elem;
        u.hi = (u.hi + 1) * u.elem;
        s->buf[u.val].read |= (role & R_read) != 0;
        s->buf[u.val].written |= (role & R_write) != 0;
        VEC_PUSH(s->g->cx, &s->arena, &s->uses, u);
    }
    st->nuse = s->uses.n - st->use;
    return ST_OK;
}

static void
decode_buffer(Sim *s, const Op *op)
{
    const Type *ty = val_type(s->g, op->out);
    Buffer *b = &s->buf[op->out.i];

    b->bufs = (uint32_t)attr_int(s->g->cx, op->attr, A_bufs, 1);
    b->addr = ty->space == SP_hbm ? -1 : attr_int(s->g->cx, op->attr, A_addr, -1);
    b->space = ty->space;
    b->stride = b->space == SP_hbm ? 0 : buffer_stride(ty);
}

typedef VEC(OpId) Stack;

static Status
decode_loop(Sim *s, OpId loop, Stack *open)
{
    s->step[loop.i].nuse = s->rates.n;
    VEC_PUSH(s->g->cx, &s->arena, &s->rates, (Rate){{0}});
    VEC_PUSH(s->g->cx, &s->arena, open, loop);
    return ST_OK;
}

static Status
decode_program(Sim *s)
{
    const Graph *g = s->g;
    Stack open = {0};

    NEW(g->cx, &s->arena, s->step, g->ops.n + 1);
    NEW(g->cx, &s->arena, s->buf, g->vals.n + 1);
    NEW(g->cx, &s->arena, s->value_of, g->vals.n + 1);
    TRY(vec_reserve(g->cx, &s->arena, &s->uses, g->operands.n, sizeof(Use)));
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        if (op->code == K_buffer)
            decode_buffer(s, op);
        else if (op->code == K_loop)
            TRY(decode_loop(s, o, &open));
        else if (op->code == K_end)
            s->step[open.p[--open.n].i].use = o.i;
        else
            TRY(decode_instr(s, op, &s->step[o.i]));
    }
    for (uint32_t v = 1; v < g->vals.n; v++) { /* HBM orders nothing unless it is both written and read */
        Buffer *b = &s->buf[v];
        b->tracked = b->bufs && (b->space != SP_hbm || (b->read && b->written));
        b->track = s->tracks.n;
        if (!b->tracked)
            continue;
        TRY(vec_reserve(g->cx, &s->arena, &s->tracks, b->bufs, sizeof(Track)));
        memset(s->tracks.p + s->tracks.n, 0, sizeof(Track) * b->bufs);
        s->tracks.n += b->bufs;
    }
    return ST_OK;
}

/* What an instruction on lane `b` waits after one on lane `a`: pipeline drain and semaphore between engines, the fixed
 * cost of a true dependence on one engine, completion and trigger of DMAs. Accumulation in PSUM is pipelined. */
static void
set_lags(Sim *s)
{
    const Hw *hw = s->hw;
    const double clock[LN_COUNT] = {hw->clock_tensor, hw->clock_vector, hw->clock_scalar, hw->clock_gpsimd};
    const double drain[LN_COUNT] = {
        hw->tensor_drain_ns, hw->vector_fixed_cycles / clock[LN_vector], hw->act_fixed_ns,
        hw->vector_fixed_cycles / clock[LN_gpsimd], hw->dma_completion_ns, hw->dma_completion_ns, 0};

    for (int a = 0; a < LN_COUNT; a++) {
        for (int b = 0; b < LN_COUNT; b++) {
            bool dma = b == LN_load || b == LN_store;
            bool far = a < LN_load;
            double hop = (dma ? hw->dma_trigger_ns : 0) + (far ? hw->semaphore_ns : 0);
            double *raw = &s->tracker.lag[DEP_raw][a][b], *war = &s->tracker.lag[DEP_war][a][b];
            *raw = (drain[a] + hop) * 1e-3;
            *war = (far ? hop : drain[a] + hop) * 1e-3;
            s->tracker.lag[DEP_waw][a][b] = *raw;
            if (a == b && far) {
                *raw = a == LN_tensor ? 0 : hw->static_instr / clock[a] * 1e-3;
                *war = s->tracker.lag[DEP_waw][a][b] = 0;
            }
        }
    }
}

static Status
run_program(Sim *s)
{
    s->hw = hw_get(s->g->target);
    s->tracker.cx = s->g->cx;
    s->tracker.arena = &s->arena;
    s->gap[0] = (Gap){0, INFINITY};
    s->ngaps = 1;
    set_lags(s);
    TRY(decode_program(s));
    return run_range(s, 1, s->g->ops.n);
}

static double
end_of_program(const Sim *s)
{
    double end = 0, done = s->hw->dma_completion_ns * 1e-3;

    for (int l = 0; l < LN_mixed; l++)
        if (s->clock[l] > 0)
            end = MAX(end, s->clock[l] + (l == LN_load || l == LN_store ? done : 0));
    return end;
}

Status
cost_program(const Graph *g, Cost *out)
{
    Sim s = {.g = g};
    Status st;

    TRY(cost_totals(g, out));
    arena_init(&s.arena, &g->cx->mem);
    st = run_program(&s);
    if (st == ST_OK)
        out->time_us = end_of_program(&s);
    arena_free(&s.arena);
    return st;
}
