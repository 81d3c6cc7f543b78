/* choose.c - the decisions of a plan: tile sizes, copies, PSUM windows, what stays on chip.
 *
 * in:   the groups that fuse has formed
 * out:  the decisions of every group; the lowered, scheduled and allocated program for them
 * rule: decisions only change speed, never meaning. A first guess comes from sizes; while the program is small enough
 *       to try, candidates are lowered and priced, group by group; of the about fastest the one with the fewest
 *       instructions is kept. A plan that does not fit is cut down until it does: smaller tiles, single copies, then
 *       smaller groups (in the driver).
 */
#include "lower/lower.h"
#include "pass/pass.h"

#define MIN_TILES 4      /* row tiles of a large group, so that loads overlap with compute */
#define WORK_BYTES 53248 /* SBUF left for tiles when full matmul operands stay on chip */
#define TRY_MEMBERS 400  /* trying is for programs up to this size: each try costs about 0.3 us per op and member */
#define TRY_GROUPS 8
#define DMA_SHARE 0.1
#define ABOUT 1.03    /* as fast as the fastest: the model is no more exact than that */

static int64_t
value_bytes(const Graph *g, Val v, Span s)
{
    const Type *t = val_type(g, v);
    return free_elems(t, s) * dtypes[t->dtype].bytes;
}

/* The widest row of any value that the group touches row by row. */
static int64_t
widest_row(const Plan *p, const Group *gr)
{
    const Graph *g = p->g;
    int64_t most = 1;
    for (uint32_t k = 0; k < gr->n; k++) {
        const Op *op = graph_op(g, p->member.p[gr->first + k]);
        Span s = p->span[op->out.i];
        if (s.role == RO_row)
            most = MAX(most, value_bytes(g, op->out, s));
        for (int i = 0; i < op->nin; i++) {
            Span e = operand_edge(g, op, i, s);
            if (e.role == RO_row)
                most = MAX(most, value_bytes(g, op_val(g, op, i), e));
        }
    }
    return most;
}

/* Some value's rows are neighbours in memory: its tiles move through a transpose, 128 rows at a time, or in runs of
 * many rows per partition. */
static bool
is_scattered(const Plan *p, const Group *gr)
{
    const Graph *g = p->g;
    for (uint32_t k = 0; k < gr->n; k++) {
        const Op *op = graph_op(g, p->member.p[gr->first + k]);
        for (int i = 0; i < op->nin; i++) {
            Val v = op_val(g, op, i);
            Span e = operand_edge(g, op, i, p->span[op->out.i]);
            uint32_t home = p->group_of[g->vals.p[v.i].def.i];
            Val base = p->view_base[v.i].i ? p->view_base[v.i] : v;
            View w;
            if (e.role != RO_row || home == (uint32_t)(gr - p->groups.p) + 1 || !view_between(g, base, v, &w))
                continue;
            if (scatters_rows(g, v, &w, e))
                return true;
        }
    }
    return false;
}

/* Rows per partition: as many as the bytes allow, and a divisor of the rows when one is near. */
static int64_t
rows_for(int64_t rows, int64_t row_bytes, int64_t tile_bytes)
{
    int64_t most = MAX(1, MIN(tile_bytes / row_bytes, rows / 128 / MIN_TILES));
    for (int64_t r = most; r > most / 2; r--)
        if (rows % (128 * r) == 0)
            return r;
    return most;
}

static void
first_guess(const Plan *p, const Hw *hw, Group *gr)
{
    gr->bufs = 2;
    gr->scalar_sums = sums_on_scalar(p, gr);
    gr->psum_width = 1024;
    gr->psum_bufs = 2;
    gr->resident = gr->has_matmul ? (int64_t)hw->sbuf_usable - WORK_BYTES : 0;
    cut_columns(p, gr);
    int64_t per = gr->has_matmul ? 1 : rows_for(gr->rows, widest_row(p, gr), TILE_BYTES);
    if (is_scattered(p, gr) && per < INSIDE_ROWS) { /* one tile of runs, else a transpose */
        int64_t all = MIN(TILE_BYTES / widest_row(p, gr), gr->rows / 128);
        per = all >= INSIDE_ROWS ? all : 1;
    }
    gr->per_tile = (int32_t)per;
}

/* One step smaller; false when there is none. */
static bool
cut_down(Group *gr)
{
    if (!gr->in_place)
        gr->in_place = true;
    else if (gr->per_tile > 1)
        gr->per_tile /= 2;
    else if (gr->psum_bufs > 1)
        gr->psum_bufs = 1;
    else if (gr->resident > 0)
        gr->resident = gr->resident > 65536 ? gr->resident / 2 : 0;
    else if (gr->bufs > 1)
        gr->bufs = 1;
    else if (gr->psum_width > 512)
        gr->psum_width = 512;
    else
        return false;
    return true;
}

void
realized_free(Realized *r)
{
    for (int i = 0; i < COUNT_OF(r->stage); i++)
        if (r->stage[i])
            graph_free(r->stage[i]);
    *r = (Realized){{0}};
}

/* Lower, schedule and allocate the plan as it stands. On failure nothing is left. */
static Status
realize(const Plan *p, const CompileOptions *opt, Realized *out)
{
    *out = (Realized){{0}};
    Status st = pass_lower(p, opt, NULL, &out->stage[0]);
    if (st == ST_OK)
        st = pass_schedule(out->stage[0], opt, &out->stage[1]);
    if (st == ST_OK)
        st = pass_allocate(out->stage[1], opt, &out->stage[2]);
    if (st != ST_OK)
        realized_free(out);
    return st;
}

typedef struct Price { /* of a program */
    double us; /* modelled time, and a little for each instruction and for DMA time hidden behind compute; < 0: it
                * does not fit */
    int64_t instr;
} Price;

static Status
price(const Plan *p, const CompileOptions *opt, Price *out)
{
    Realized r;
    Cost *c;
    *out = (Price){.us = -1};
    NEW(p->g->cx, &p->g->cx->scratch, c, 1);
    Status st = realize(p, opt, &r);
    if (st == ST_OK)
        st = cost_program(r.stage[2], c);
    if (st == ST_OK)
        *out =
            (Price){c->time_us + INSTR_US * (double)c->instr_total + DMA_SHARE * c->engine_us[EN_dma], c->instr_total};
    realized_free(&r);
    return st == ST_LIMIT ? ST_OK : st;
}

#define MAX_CANDIDATES 16
typedef struct Search {
    Plan *p;
    const CompileOptions *opt;
    Group tried[MAX_CANDIDATES];
    Price price[MAX_CANDIDATES];
    int n;
} Search;

static Status
consider(Search *s, Group *slot, Group gr)
{
    *slot = gr;
    cut_columns(s->p, slot);
    s->tried[s->n] = *slot;
    return price(s->p, s->opt, &s->price[s->n++]);
}

/* The candidate with the fewest instructions among those about as fast as the fastest. */
static int
choose(const Search *s)
{
    int best = 0;
    double least = -1;
    for (int i = 0; i < s->n; i++)
        if (s->price[i].us >= 0 && (least < 0 || s->price[i].us < least))
            least = s->price[i].us;
    for (int i = 1; i < s->n; i++) {
        const Price *a = &s->price[i], *b = &s->price[best];
        bool good = a->us >= 0 && a->us <= least * ABOUT, worse = b->us < 0 || b->us > least * ABOUT;
        if (good && (worse || a->instr < b->instr || (a->instr == b->instr && a->us < b->us)))
            best = i;
    }
    return best;
}

/* Try the neighbours of a group's decisions: tile size with and without overwriting, then the PSUM window. */
static Status
improve(Plan *p, const CompileOptions *opt, Group *slot)
{
    static const int32_t widths[] = {512, 1024, 2048};
    Search s = {.p = p, .opt = opt};
    int64_t rows = MAX(slot->rows / 128, 1);
    Group first = *slot;
    int32_t per = first.per_tile, pers[] = {per, per > 1 ? per / 2 : 0, per * 2};
    if (is_scattered(p, slot))
        pers[2] = per > 1; /* through a transpose */
    for (int k = 0; k < 6; k++) {
        Group gr = first;
        gr.per_tile = pers[k / 2];
        gr.in_place = k % 2;
        if (gr.per_tile > 0 && gr.per_tile <= rows)
            TRY(consider(&s, slot, gr));
    }
    first = s.tried[choose(&s)];
    for (int k = 0; k < COUNT_OF(widths) && first.has_matmul; k++) {
        Group gr = first;
        gr.psum_width = widths[k];
        if (widths[k] != first.psum_width)
            TRY(consider(&s, slot, gr));
    }
    *slot = s.tried[choose(&s)];
    return ST_OK;
}

static bool
is_worth_trying(const Plan *p)
{
    return p->member.n <= TRY_MEMBERS && p->groups.n <= TRY_GROUPS;
}

/* Which groups have no room, by group. Each has all of it to itself: nothing on chip outlives its group. */
static Status
find_over(const Plan *p, const CompileOptions *opt, bool *over)
{
    Ctx *cx = p->g->cx;
    Graph *code = NULL;
    OpId *first;
    bool *missed;
    NEW(cx, &cx->scratch, first, p->groups.n);
    Status st = pass_lower(p, opt, first, &code);
    bool lowered = st == ST_OK;
    if (lowered)
        st = allocate_misses(code, opt, &cx->scratch, &missed);
    for (uint32_t k = 0; k < p->groups.n; k++) {
        uint32_t end = k + 1 < p->groups.n ? first[k + 1].i : code ? code->ops.n : 0;
        over[k] = !lowered && first[k].i && (k + 1 == p->groups.n || !first[k + 1].i); /* the one that failed */
        for (uint32_t o = first[k].i; st == ST_OK && o < end; o++)
            over[k] |= missed[o];
    }
    if (code)
        graph_free(code);
    return !lowered && st == ST_LIMIT ? ST_OK : st;
}

/* Cut down the groups that do not fit until all do. */
static Status
fit(Plan *p, const CompileOptions *opt, Realized *out)
{
    bool *over;
    NEW(p->g->cx, &p->g->cx->scratch, over, p->groups.n);
    for (;;) {
        Status st = realize(p, opt, out);
        bool smaller = false;
        if (st != ST_LIMIT)
            return st;
        TRY(find_over(p, opt, over));
        for (uint32_t k = 0; k < p->groups.n; k++) {
            if (!over[k])
                continue;
            if (!cut_down(&p->groups.p[k]))
                return st;
            smaller = true;
            cut_columns(p, &p->groups.p[k]);
        }
        if (!smaller)
            return st;
    }
}

/* Why a forced plan does not fit: the first group with which the program up to it has no room. */
static Status
blame(const Plan *p, const CompileOptions *opt)
{
    uint32_t fits = 0, fails = p->groups.n;
    Plan part = *p;
    Realized r;
    Status st = ST_LIMIT;
    while (st == ST_LIMIT && fits + 1 < fails) {
        part.groups.n = fits + (fails - fits) / 2;
        st = realize(&part, opt, &r);
        realized_free(&r);
        if (st == ST_OK)
            fits = part.groups.n;
        else
            fails = part.groups.n;
        st = st == ST_OK ? ST_LIMIT : st;
    }
    TRY(st == ST_LIMIT ? ST_OK : st);
    part.groups.n = fails;
    st = realize(&part, opt, &r); /* says for how many bytes there was no room */
    realized_free(&r);
    if (st != ST_LIMIT || fails == 0)
        return st;
    Ctx *cx = p->g->cx;
    fail(cx, ST_LIMIT, (LocId){0}, "NKI-4020 plan: group %u does not fit: %s", fails - 1, cx->err.msg);
    cx->err.line = p->groups.p[fails - 1].line;
    cx->err.col = p->groups.p[fails - 1].col;
    return ST_LIMIT;
}

/* A plan that somebody wrote is carried out as it stands. */
static Status
force(const Plan *p, const CompileOptions *opt, Realized *out)
{
    Status st = realize(p, opt, out);
    return st == ST_LIMIT ? blame(p, opt) : st;
}

Status
pass_plan(Plan *p, const CompileOptions *opt, Realized *best)
{
    const Hw *hw = hw_get(opt->target);
    if (p->groups.n && is_decided(&p->groups.p[0]))
        return force(p, opt, best);
    for (uint32_t k = 0; k < p->groups.n; k++) {
        TRY(find_columns(p, &p->groups.p[k]));
        first_guess(p, hw, &p->groups.p[k]);
    }
    if (!opt->plan && is_worth_trying(p)) {
        for (uint32_t k = 0; k < p->groups.n; k++)
            if (!p->groups.p[k].moves)
                TRY(improve(p, opt, &p->groups.p[k]));
    }
    return fit(p, opt, best);
}
