/* choose.c - the decisions of a plan: tile sizes, copies, PSUM windows, what stays on chip.
 *
 * in:   the groups that fuse has formed
 * out:  the decisions of every group; the lowered, scheduled and allocated program for them
 * rule: decisions only change speed, never meaning. A first guess comes from sizes; each group is then searched alone
 *       (search.c), equal groups once. Work is bounded for the program as a whole, and shared by its groups.
 */
#include "pass/pass.h"
#include "pass/search.h"

#define MIN_TILES 4      /* row tiles of a large group, so that loads overlap with compute */
#define SMALL_TILE 2048  /* bytes in a partition: smaller tiles are mostly the start of instructions */
#define WORK_BYTES 53248 /* SBUF left for tiles when full matmul operands stay on chip */
#define LOOP_TRIES 40    /* candidates of a kind of group, as they are lowered */
typedef struct Effort {  /* work of a search, about in microseconds (price.h) */
    int64_t loops;       /* for a kind of group, as it is lowered, */
    int orders;          /* and for so many times of putting it in order */
    int64_t program;     /* all kinds together */
} Effort;
static const Effort efforts[] = {
    [OPT_fast] = {2000, 0, 20000},
    [OPT_default] = {16000, 3, 150000},
    [OPT_search] = {64000, 12, 2000000},
};

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
    int64_t few = MAX(rows / 128 / MIN_TILES, MIN(rows / 128, SMALL_TILE / row_bytes));
    int64_t most = MAX(1, MIN(tile_bytes / row_bytes, few));
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

/* ---- group by group ---- */
typedef struct Known { /* a group that has been searched */
    uint32_t k;        /* the first of its kind */
    int64_t copies;    /* how many are of its kind */
    Group first, gr;   /* as sizes suggest, and as chosen */
    Price price;
    bool fits; /* with gr */
} Known;

typedef struct Choice {
    Plan *p;
    const CompileOptions *opt;
    Pricer pr;
    Map map;          /* keys to places in known */
    VEC(Known) known; /* [0] is none */
    uint32_t *which;  /* by group: its place in known */
    int64_t instr;    /* executed by all of them */
    int64_t ops;      /* of their text */
    int64_t check;    /* work up to which groups are looked at */
    bool complete;    /* all were */
    bool prices;      /* groups are searched, too */
} Choice;

static bool
same_key(const void *env, uint32_t id)
{
    (void)env;
    (void)id;
    return true; /* the hash is the key */
}

/* Decisions with which a group of a new kind fits; what it costs then, as long as the program may be a short one. */
static Status
settle(Choice *c, Known *new)
{
    c->complete = c->complete && c->pr.work <= c->check;
    if (c->pr.work > c->check)
        return ST_OK;
    TRY(fit_group(&c->pr, new->k, new->gr.homes, &new->gr, &new->price));
    new->fits = true;
    if (!efforts[c->opt->optimize].orders || c->ops + new->price.ops > ORDERED_MOST)
        return ST_OK;
    return price_group(&c->pr, new->k, &new->gr, new->gr.homes, PRICE_loops, &new->price);
}

static Status
settle_all(Choice *c)
{
    Arena *a = &c->pr.keep;
    Ctx *cx = c->p->g->cx;
    VEC_PUSH(cx, a, &c->known, (Known){0});
    for (uint32_t k = 0; k < c->p->groups.n; k++) {
        uint64_t key = group_key(&c->pr, k) + (c->p->groups.p[k].homes ? k : 0); /* equal ones have equal homes */
        uint32_t at = map_find(&c->map, key, same_key, NULL);
        if (at == 0) {
            Known new = {.k = k, .first = c->p->groups.p[k], .gr = c->p->groups.p[k]};
            TRY(settle(c, &new));
            VEC_PUSH(cx, a, &c->known, new);
            at = c->known.n - 1;
            TRY(map_insert(cx, a, &c->map, key, at));
        }
        c->which[k] = at;
        c->known.p[at].copies++;
        c->instr += c->known.p[at].price.instr;
        c->ops += c->known.p[at].price.ops;
    }
    return ST_OK;
}

static Status
improve(Choice *c, uint32_t place)
{
    Known *kn = &c->known.p[place];
    int64_t own = kn->copies * kn->price.instr, once = (FIT_WORK + TIME_WORK) * kn->price.ops;
    const Effort *e = &efforts[c->opt->optimize];
    Bounds b = {.copies = kn->copies, .others = c->instr - own, .work = MIN(LOOP_TRIES * once, e->loops)};
    b.taken = kn->gr.homes;
    b.orders = e->orders && c->ops <= ORDERED_MOST;
    if (b.orders)
        b.work += e->orders * order_work(&kn->price);
    b.work = MIN(b.work, (e->program - c->pr.work) / (c->known.n - place));
    if (kn->gr.moves || !kn->fits || b.work < once)
        return ST_OK;
    TRY(search_group(&c->pr, kn->k, &b, &kn->first, &kn->gr, &kn->price));
    c->instr = b.others + kn->copies * kn->price.instr;
    return ST_OK;
}

static Status
choose_all(Choice *c)
{
    NEW(c->p->g->cx, &c->pr.keep, c->which, c->p->groups.n);
    TRY(settle_all(c));
    for (uint32_t i = 1; i < c->known.n && c->prices; i++)
        TRY(improve(c, i));
    for (uint32_t k = 0; k < c->p->groups.n; k++) {
        Group *gr = &c->p->groups.p[k], made = c->known.p[c->which[k]].gr;
        made.first = gr->first;
        *gr = made;
    }
    return ST_OK;
}

/* *complete: every group is known to fit. all: find that out whatever it takes, and nothing else. */
static Status
choose_groups(Plan *p, const CompileOptions *opt, bool all, bool *complete)
{
    Choice c = {.p = p, .opt = opt, .prices = !all, .complete = true};
    c.check = all ? INT64_MAX : efforts[opt->optimize].program;
    Status st = pricer_init(&c.pr, p, opt);
    if (st == ST_OK)
        st = choose_all(&c);
    *complete = c.complete;
    pricer_free(&c.pr);
    arena_reset(&p->g->cx->scratch);
    return st;
}

/* Of very many kinds of groups some are not looked at until the program turns out not to fit. */
static Status
choose_and_realize(Plan *p, const CompileOptions *opt, Realized *out)
{
    bool complete;
    TRY(choose_groups(p, opt, false, &complete));
    Status st = plan_realize(p, opt, out);
    if (st != ST_LIMIT || complete)
        return st;
    TRY(choose_groups(p, opt, true, &complete));
    return plan_realize(p, opt, out);
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
        st = plan_realize(&part, opt, &r);
        realized_free(&r);
        if (st == ST_OK)
            fits = part.groups.n;
        else
            fails = part.groups.n;
        st = st == ST_OK ? ST_LIMIT : st;
    }
    TRY(st == ST_LIMIT ? ST_OK : st);
    part.groups.n = fails;
    st = plan_realize(&part, opt, &r); /* says for how many bytes there was no room */
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
    Status st = plan_realize(p, opt, out);
    return st == ST_LIMIT ? blame(p, opt) : st;
}

Status
pass_plan(Plan *p, const CompileOptions *opt, Realized *best)
{
    const Hw *hw = hw_get(opt->target);
    uint8_t *seen;
    if (p->groups.n && is_decided(&p->groups.p[0]))
        return force(p, opt, best);
    NEW(p->g->cx, &p->g->cx->scratch, seen, p->g->vals.n);
    for (uint32_t k = 0; k < p->groups.n; k++) {
        find_columns(p, &p->groups.p[k], seen);
        first_guess(p, hw, &p->groups.p[k]);
    }
    TRY(choose_and_realize(p, opt, best));
    return p->spot ? ST_OK : plan_keep(p, opt, best); /* a text says where values live */
}
