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

#define MAX_STEPS ((int64_t)1 << 21) /* and 64 per op: from there on loops are not looked at closely */
#define MAX_PERIOD 8 /* iterations after which rotating buffers are back at their first copy */

typedef struct Buffer {
    uint32_t track; /* of copy 0 */
    uint32_t bufs, turn, cur;
    int64_t addr, stride; /* addr < 0: not placed */
    uint8_t space;
    bool read, written, tracked;
} Buffer;

typedef struct Step { /* an op, decoded */
    Work work;
    uint32_t use, nuse; /* loop: the index of its end, and of its last rate in Sim.rates */
} Step;

typedef struct Rate { double per[CK_COUNT]; } Rate; /* how far the clocks went per period */
typedef struct Span { int64_t lo, hi; uint32_t track; } Span; /* who holds these bytes of every partition */

typedef struct Sim {
    const Graph *g;
    Arena arena;
    Step *step;
    VEC(Use) uses;
    Buffer *buf; /* by value */
    VEC(Track) tracks;
    VEC(Span) spans[SP_COUNT]; /* sorted, disjoint */
    VEC(Rate) rates;           /* by loop: of its last steady state; all zero at first */
    int64_t *value_of, *last_of; /* loop variables; the same, unless iterations are looked at together */
    Tracker tracker;
    Machine machine;
    uint32_t stamp, jumps;
    int64_t steps; /* ops run */
} Sim;

/* ---- operands ---- */

static Track *
use_track(const Sim *s, const Use *u)
{
    const Buffer *b = &s->buf[u->val.i];

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
    return track_push(&s->tracker, &s->tracks.p[me],
                      (Access){.r = {0, b->stride, 0, (int32_t)s->machine.hw->pmax},
                               .t0 = ready,
                               .t1 = ready,
                               .stamp = s->stamp,
                               .lane = LN_mixed,
                               .write = true});
}

static Status
open_buffer(Sim *s, const Op *op)
{
    Buffer *b = &s->buf[op->out.i];

    b->cur = b->turn++ % b->bufs;
    return b->tracked && b->addr >= 0 ? take_address(s, b) : ST_OK;
}

/* ---- instructions ---- */

static Status
run_instr(Sim *s, OpId o)
{
    const Step *st = &s->step[o.i];
    Extent r[MAX_OPERANDS];
    double start = 0, end;

    for (uint32_t i = 0; i < st->nuse; i++) {
        const Use *u = &s->uses.p[st->use + i];
        const Track *t = use_track(s, u);
        double ready;
        if (!t)
            continue;
        r[i] = use_at(u, s->value_of);
        ready = track_wait(&s->tracker, t, &r[i], u->role, st->work.lane);
        start = MAX(start, ready);
    }
    end = machine_run(&s->machine, &st->work, &start);
    s->stamp++;
    for (uint32_t i = 0; i < st->nuse; i++) {
        const Use *u = &s->uses.p[st->use + i];
        Track *t = use_track(s, u);
        if (t)
            TRY(track_record(&s->tracker, t,
                             (Access){.r = r[i],
                                      .t0 = end,
                                      .t1 = end,
                                      .stamp = s->stamp,
                                      .lane = st->work.lane,
                                      .write = (u->role & R_write) != 0}));
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

/* Variables of the loops that begin in [begin, end) go over all their iterations. */
static void
sweep_loops(Sim *s, uint32_t begin, uint32_t end)
{
    for (uint32_t o = begin; o < end; o++) {
        const Op *op = &s->g->ops.p[o];
        if (op->code != K_loop)
            continue;
        s->value_of[op->out.i] = 0;
        s->last_of[op->out.i] = attr_int(s->g->cx, op->attr, A_count, 1) - 1;
    }
}

/* The bytes a use reaches while the variable of `loop` goes over [v0, v1] and those inside over all of theirs; *coef is
 * what it moves by. */
static Extent
swept_extent(const Sim *s, const Use *u, Val var, int64_t *coef)
{
    int64_t part = affine_coef(&u->ap->part, var);

    *coef = part ? part : affine_coef(&u->ap->off, var);
    return use_over(u, s->value_of, s->last_of);
}

/* What the skipped iterations [v0, v1] did to buffers that outlive an iteration: ramps from the clock before the jump
 * to the clock after it. */
static Status
sweep_uses(Sim *s, OpId loop, int64_t v0, int64_t v1, const double *by)
{
    Val var = graph_op(s->g, loop)->out;

    sweep_loops(s, loop.i + 1, s->step[loop.i].use);
    s->value_of[var.i] = v0;
    s->last_of[var.i] = v1;
    for (uint32_t o = loop.i + 1; o < s->step[loop.i].use; o++) {
        const Step *st = &s->step[o];
        if (s->g->ops.p[o].code == K_loop)
            continue;
        for (uint32_t i = 0; i < st->nuse; i++) {
            const Use *u = &s->uses.p[st->use + i];
            Track *t = use_track(s, u);
            double now = s->machine.clock[st->work.lane], then = now - by[st->work.lane];
            int64_t coef;
            Extent r;
            if (!t || s->g->vals.p[u->val.i].def.i > loop.i)
                continue;
            r = swept_extent(s, u, var, &coef);
            if (coef)
                TRY(track_push(&s->tracker, t,
                               (Access){.r = r,
                                        .t0 = coef > 0 ? then : now,
                                        .t1 = coef > 0 ? now : then,
                                        .stamp = s->stamp,
                                        .lane = st->work.lane,
                                        .write = (u->role & R_write) != 0}));
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
            const Buffer *b = &s->buf[s->uses.p[st->use + i].val.i];
            for (uint32_t k = 0; b->tracked && k < b->bufs; k++)
                shift_track(s, &s->tracks.p[b->track + k], since, by);
        }
    }
    machine_shift(&s->machine, by);
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

    machine_clocks(&s->machine, per);
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

    machine_clocks(&s->machine, now);
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

    machine_clocks(&s->machine, last);
    for (int64_t i = 0; i < count; i++) {
        s->value_of[op->out.i] = s->last_of[op->out.i] = i;
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

static Status
decode_instr(Sim *s, const Op *op, Step *st)
{
    Use use[MAX_OPERANDS];
    int n = op_uses(s->g, op, use);

    st->work = work_of(s->g, op, NULL);
    st->use = s->uses.n;
    for (int i = 0; i < n; i++) {
        Buffer *b = &s->buf[use[i].val.i];
        b->read |= (use[i].role & R_read) != 0;
        b->written |= (use[i].role & R_write) != 0;
        VEC_PUSH(s->g->cx, &s->arena, &s->uses, use[i]);
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
    NEW(g->cx, &s->arena, s->last_of, g->vals.n + 1);
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

static Status
run_program(Sim *s)
{
    s->tracker.cx = s->g->cx;
    s->tracker.arena = &s->arena;
    machine_init(&s->machine, hw_get(s->g->target));
    lags_of(s->machine.hw, &s->tracker.lags);
    TRY(decode_program(s));
    return run_range(s, 1, s->g->ops.n);
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
        out->time_us = machine_end(&s.machine);
    arena_free(&s.arena);
    return st;
}
