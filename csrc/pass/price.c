/* price.c - what a group costs with the decisions that somebody has in mind.
 *
 * in:   a group of a plan, decisions, the SBUF that others hold meanwhile
 * out:  its price: modelled time of the program that would run, or that there is no room
 * rule: the group is lowered, scheduled, allocated and timed alone, so a price takes as long as the group is large and
 *       does not depend on what stands around it. Work is counted, so that whoever searches can bound it.
 */
#include "pass/price.h"
#include "cost/cost.h"

#define DMA_SHARE 0.1 /* what DMA time counts that hides behind compute, */
#define HBM_SHARE 0.4 /* and the time that its bytes take: others need the bandwidth, too */
Status
pricer_init(Pricer *pr, const Plan *p, const CompileOptions *opt)
{
    *pr = (Pricer){.p = p, .opt = *opt};
    pr->opt.quick = true;
    arena_init(&pr->keep, &p->g->cx->mem);
    NEW(p->g->cx, &pr->keep, pr->number, p->g->vals.n);
    return lower_begin(p, &pr->opt, &pr->keep, &pr->low);
}

void
pricer_free(Pricer *pr)
{
    arena_free(&pr->keep);
}

/* ---- prices ---- */
static uint64_t
code_key(const Graph *g)
{
    uint64_t h = g->ops.n;
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        h = hash_int(op->code, hash_int(op->code == K_buffer ? g->vals.p[op->out.i].type.i : op->attr.i, h));
        for (int i = 0; i < op->nin; i++)
            h = hash_int(op_in(g, op, i)->ap.i, hash_int(op_val(g, op, i).i, h));
    }
    return h;
}

static Status
has_room(const Graph *lowered, const CompileOptions *opt, Price *out)
{
    bool *missed;
    TRY(allocate_misses(lowered, opt, &lowered->cx->scratch, &missed));
    *out = (Price){.us = 0};
    for (uint32_t o = 0; o < lowered->ops.n; o++)
        if (missed[o]) {
            out->us = -1;
            out->missing = (Space)val_type(lowered, graph_op(lowered, (OpId){o})->out)->space;
        }
    return ST_OK;
}

/* The share of SBUF that is live at most, each buffer once: what straight order needs for one tile. */
static Status
find_full(const Graph *g, Price *out)
{
    Live *live;
    int64_t *delta, now = 0, most = 0;
    TRY(tile_liveness(g, &g->cx->scratch, &live));
    NEW(g->cx, &g->cx->scratch, delta, g->ops.n + 1);
    for (uint32_t v = 1; v < g->vals.n; v++) {
        const Type *t = val_type(g, (Val){v});
        if (t->kind != TY_buffer || t->space != SP_sbuf || !live[v].first.i)
            continue;
        delta[live[v].first.i] += buffer_bytes(t);
        delta[live[v].last.i + 1] -= buffer_bytes(t);
    }
    for (uint32_t o = 0; o <= g->ops.n; o++) {
        now += delta[o];
        most = MAX(most, now);
    }
    out->full = (double)most / (double)hw_get(g->target)->sbuf_usable;
    return ST_OK;
}

/* When the caller checks everything, candidates are programs like any other. */
static Status
check_candidate(const Pricer *pr, const Graph *g)
{
    if (!pr->opt.verify || tile_verify(g) == ST_OK)
        return ST_OK;
    return fail(g->cx, ST_BUG, g->cx->err.loc, "NKI-9999 plan: a candidate for a group breaks a rule: %s",
                g->cx->err.msg);
}

static Status
timed(const Pricer *pr, const Graph *g, Price *out)
{
    Cost *c;
    TRY(check_candidate(pr, g));
    NEW(g->cx, &g->cx->scratch, c, 1);
    TRY(cost_program(g, c));
    *out = (Price){.time_us = c->time_us, .instr = c->instr_total};
    double bytes_us = (double)(c->hbm_read + c->hbm_write) / cost_dma_bandwidth(hw_get(g->target));
    out->us = c->time_us + INSTR_US * (double)c->instr_total;
    out->us += DMA_SHARE * c->engine_us[EN_dma] + HBM_SHARE * bytes_us;
    for (int e = 0; e < EN_COUNT; e++)
        out->busy_us = MAX(out->busy_us, c->engine_us[e]);
    return ST_OK;
}

/* In straight order, when that is faster. */
static Status
timed_straight(Pricer *pr, const Graph *lowered, const Graph *scheduled, Price *out)
{
    Graph *g;
    Price straight;
    pr->work += order_work(out);
    TRY(pipeline_tile(lowered, scheduled, &pr->opt, &g));
    if (!g)
        return ST_OK;
    Status st = timed(pr, g, &straight);
    graph_free(g);
    straight.full = out->full;
    if (st == ST_OK && straight.time_us < out->time_us)
        *out = straight;
    return st;
}

static Status
timed_in_room(Pricer *pr, const Graph *lowered, PriceKind kind, Price *out)
{
    Graph *scheduled, *placed = NULL;
    TRY(pass_schedule(lowered, &pr->opt, &scheduled));
    Status st = pass_allocate(scheduled, &pr->opt, &placed);
    if (st == ST_OK)
        st = timed(pr, placed, out);
    if (st == ST_OK)
        st = find_full(placed, out);
    if (st == ST_OK && kind == PRICE_straight)
        st = timed_straight(pr, lowered, scheduled, out);
    if (placed)
        graph_free(placed);
    graph_free(scheduled);
    return st;
}

Status
price_group(Pricer *pr, uint32_t k, const Group *gr, int64_t taken, PriceKind kind, Price *out)
{
    Ctx *cx = pr->p->g->cx;
    Graph *lowered;
    *out = (Price){.us = -1};
    pr->opt.sbuf_taken = taken;
    arena_reset(&cx->scratch);
    Status st = lower_alone(pr->low, k, gr, &lowered);
    if (st == ST_OK) {
        pr->work += (kind == PRICE_fit ? FIT_WORK : FIT_WORK + TIME_WORK) * (int64_t)lowered->ops.n;
        st = kind == PRICE_fit ? has_room(lowered, &pr->opt, out) : timed_in_room(pr, lowered, kind, out);
        out->ops = lowered->ops.n;
        out->code = code_key(lowered);
        graph_free(lowered);
    }
    return st == ST_LIMIT ? ST_OK : st;
}

/* ---- keys ---- */
static uint64_t
hash_view(const Type *t, const View *w, uint64_t h)
{
    return hash_bytes(w->stride, sizeof w->stride[0] * t->rank, hash_int((uint64_t)w->off, h));
}

/* Where an operand that the group does not compute comes from. */
static uint64_t
hash_source(const Plan *p, Val v, uint64_t h)
{
    const Graph *g = p->g;
    View w;
    Val base = p->view_base[v.i].i ? p->view_base[v.i] : v;
    const Op *op = val_def(g, base);
    if (op->code == T_const || op->code == T_full)
        h = hash_int(op->attr.i, hash_int(op->code, h));
    h = hash_int(g->vals.p[base.i].type.i, h);
    return view_between(g, base, v, &w) ? hash_view(val_type(g, v), &w, h) : h;
}

static uint64_t
hash_operand(Pricer *pr, uint32_t k, Val v, uint64_t h)
{
    const Graph *g = pr->p->g;
    if (pr->number[v.i] == 0) {
        pr->number[v.i] = ++pr->numbers;
        h = hash_int(g->vals.p[v.i].type.i, h);
        if (pr->p->group_of[g->vals.p[v.i].def.i] != k + 1)
            h = hash_source(pr->p, v, h);
    }
    return hash_int(pr->number[v.i], h);
}

static uint64_t
hash_result(Pricer *pr, const Op *op, uint64_t h)
{
    const Plan *p = pr->p;
    Val v = op->out;
    pr->number[v.i] = ++pr->numbers;
    h = hash_int(op->code, hash_int(op->attr.i, hash_int(p->g->vals.p[v.i].type.i, h)));
    h = hash_int(p->stored[v.i], hash_bytes(&p->span[v.i], sizeof p->span[v.i], h));
    if (p->part_of[v.i].i) {
        View w = view_stored(p, v);
        h = hash_view(val_type(p->g, v), &w, h);
    }
    return h;
}

uint64_t
group_key(Pricer *pr, uint32_t k)
{
    const Plan *p = pr->p;
    const Group *gr = &p->groups.p[k];
    uint64_t h = hash_int((uint64_t)gr->outer, hash_int((uint64_t)gr->rows, gr->n));
    pr->numbers = 0;
    h = hash_int((uint64_t)gr->cols, hash_int(gr->moves, h));
    for (uint32_t m = 0; m < gr->n; m++) {
        const Op *op = graph_op(p->g, p->member.p[gr->first + m]);
        for (int i = 0; i < op->nin; i++)
            h = hash_operand(pr, k, op_val(p->g, op, i), h);
        h = hash_result(pr, op, h);
    }
    for (uint32_t m = 0; m < gr->n; m++) { /* numbers of the next group begin anew */
        const Op *op = graph_op(p->g, p->member.p[gr->first + m]);
        for (int i = 0; i < op->nin; i++)
            pr->number[op_val(p->g, op, i).i] = 0;
        pr->number[op->out.i] = 0;
    }
    return h;
}
