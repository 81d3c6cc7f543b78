/* plan.c - the decisions of a plan: tile sizes, copies, PSUM windows, what stays on chip; and its text form.
 *
 * in:   the groups that fuse has formed
 * out:  the decisions of every group; the lowered, scheduled and allocated program for them
 * rule: decisions only change speed, never meaning. A first guess comes from sizes; while the program is small enough
 *       to try, candidates are lowered and priced, group by group; of the about fastest the one with the fewest
 *       instructions is kept. A plan that does not fit is cut down until it does: smaller tiles, single copies, then
 *       smaller groups (in the driver).
 */
#include "pass/plan.h"

#include <stdio.h>
#include <string.h>

#define TILE_BYTES 32768 /* of the widest value of a group: long DMAs, room for several values and copies */
#define MIN_TILES 4      /* row tiles of a large group, so that loads overlap with compute */
#define WORK_BYTES 53248 /* SBUF left for tiles when full matmul operands stay on chip */
#define TRY_MEMBERS 400  /* trying is for programs up to this size: each try costs about 0.3 us per op and member */
#define TRY_GROUPS 8
#define LISTED 200u /* members of a group that the text names */
#define DMA_SHARE 0.1
#define RUN_BYTES 256 /* of neighbouring f32 rows in one partition: from here on a DMA moves them as runs */
#define ABOUT 1.03    /* as fast as the fastest: the model is no more exact than that */
#define INSTR_US 0.04 /* what an instruction is worth avoiding: its fetch, and its share of the instruction memory */

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
            int64_t stride;
            if (e.role != RO_row || home == (uint32_t)(gr - p->groups.p) + 1 || !view_between(g, base, v, &w))
                continue;
            if (view_uniform(val_type(g, v), &w, e.spine, &stride) && stride == 1 &&
                value_bytes(g, v, e) > dtypes[val_dtype(g, v)].bytes)
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

/* ---- columns ---- */
typedef struct Columns {
    Plan *p;
    uint8_t *seen; /* by val: 1 without columns, 2 with */
    int64_t size;
} Columns;

static bool
agree(Columns *c, Val v, uint8_t state, Range col)
{
    uint8_t *seen = &c->seen[v.i];
    if (state == 2) {
        const Type *t = val_type(c->p->g, v);
        Range *own = &c->p->span[v.i].col;
        bool same = *seen == 0 || (own->lo == col.lo && own->hi == col.hi);
        if (!same || range_size(t, col) != c->size || col.hi != col.lo + 1)
            return false;
        *own = col;
    }
    bool ok = *seen == 0 || *seen == state;
    *seen = state;
    return ok;
}

/* A group's last result may be walked column by column if everything in the group that has those columns allows it. */
static bool
root_columns(const Columns *c, Val v, Range *col)
{
    const Type *t = val_type(c->p->g, v);
    Span s = c->p->span[v.i];
    int last = t->rank - 1;
    bool is_free =
        last >= 0 && !(last >= s.spine.lo && last < s.spine.hi) && !(last >= s.outer.lo && last < s.outer.hi);
    *col = (Range){(int8_t)last, (int8_t)(last + 1)};
    if (is_free)
        return true;
    *col = (Range){0, 1}; /* columns of the full operand lie first when the spine is last */
    return t->rank == 2 && s.spine.lo == 1;
}

static bool
spread_columns(Columns *c, const Group *gr, const Op *op)
{
    const Graph *g = c->p->g;
    Span *s = &c->p->span[op->out.i];
    Range col;
    if (s->role != RO_row && s->role != RO_free)
        return false;
    if (c->seen[op->out.i] == 0) {
        bool has = root_columns(c, op->out, &col);
        if (has && c->size == 0)
            c->size = val_type(g, op->out)->dim[col.lo];
        if (!has || !agree(c, op->out, 2, col))
            return false;
    }
    bool with = c->seen[op->out.i] == 2;
    if (with && op->code == T_matmul &&
        s->col.lo != val_type(g, op->out)->rank - (s->spine.hi == val_type(g, op->out)->rank ? 2 : 1))
        return false;
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(g, op, i);
        int d = with ? operand_dims(g, op, i, s->col, &col) : 0;
        bool full = op->code == T_matmul && operand_edge(g, op, i, *s).role == RO_mat;
        bool computed = c->p->group_of[g->vals.p[u.i].def.i] == (uint32_t)(gr - c->p->groups.p) + 1;
        if (d < 0 || (computed && full) || (computed && !agree(c, u, d == 1 ? 2 : 1, col)))
            return false;
    }
    return true;
}

/* Only for matmul groups: their results are wide and their full operands large. */
static Status
find_columns(Plan *p, Group *gr)
{
    Columns c = {.p = p};
    gr->cols = 0;
    if (!gr->has_matmul)
        return ST_OK;
    NEW(p->g->cx, &p->g->cx->scratch, c.seen, p->g->vals.n);
    bool ok = true;
    for (uint32_t k = gr->n; ok && k-- > 0;)
        ok = spread_columns(&c, gr, graph_op(p->g, p->member.p[gr->first + k]));
    if (ok) {
        gr->cols = c.size;
        return ST_OK;
    }
    for (uint32_t k = 0; k < gr->n; k++)
        p->span[graph_op(p->g, p->member.p[gr->first + k])->out.i].col = (Range){0, 0};
    return ST_OK;
}

/* Bytes per partition and column of the full operands that have the group's columns. */
static int64_t
column_bytes(const Plan *p, const Group *gr)
{
    const Graph *g = p->g;
    int64_t n = 0;
    for (uint32_t k = 0; k < gr->n; k++) {
        const Op *op = graph_op(g, p->member.p[gr->first + k]);
        Span s = p->span[op->out.i];
        if (op->code != T_matmul || s.col.lo == s.col.hi)
            continue;
        const Type *a = val_type(g, op_val(g, op, 0));
        n += CEIL_DIV(a->dim[a->rank - (s.spine.hi == val_type(g, op->out)->rank ? 2 : 1)], 128) *
             dtypes[a->dtype].bytes;
    }
    return n;
}

static void
cut_columns(const Plan *p, Group *gr)
{
    int64_t room = gr->resident / MAX(column_bytes(p, gr), 1);
    gr->chunk = gr->psum_width;
    gr->panel = gr->cols;
    if (gr->cols == 0 || room >= gr->cols || gr->rows <= 128 * gr->per_tile)
        return; /* one row tile streams its operands anyway */
    int64_t panel = MAX(room / gr->chunk, 1) * gr->chunk, count = CEIL_DIV(gr->cols, panel);
    gr->panel = ALIGN_UP(CEIL_DIV(gr->cols, count), gr->chunk);
}

static void
first_guess(const Plan *p, const Hw *hw, Group *gr)
{
    gr->bufs = 2;
    gr->psum_width = 1024;
    gr->psum_bufs = 2;
    gr->resident = gr->has_matmul ? (int64_t)hw->sbuf_usable - WORK_BYTES : 0;
    cut_columns(p, gr);
    int64_t per = gr->has_matmul ? 1 : rows_for(gr->rows, widest_row(p, gr), TILE_BYTES);
    gr->per_tile = is_scattered(p, gr) && per * 4 < RUN_BYTES ? 1 : (int32_t)per;
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

static void
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
    Status st = pass_lower(p, opt, &out->stage[0]);
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

/* Cut the groups down until the program fits. All step together: which of them is to blame is not known. */
static Status
fit(Plan *p, const CompileOptions *opt, Realized *out)
{
    for (;;) {
        Status st = realize(p, opt, out);
        bool smaller = false;
        if (st != ST_LIMIT)
            return st;
        for (uint32_t k = 0; k < p->groups.n; k++) {
            smaller |= cut_down(&p->groups.p[k]);
            cut_columns(p, &p->groups.p[k]);
        }
        if (!smaller)
            return st;
    }
}

Status
pass_plan(Plan *p, const CompileOptions *opt, Realized *best)
{
    const Hw *hw = hw_get(opt->target);
    for (uint32_t k = 0; k < p->groups.n; k++) {
        TRY(find_columns(p, &p->groups.p[k]));
        first_guess(p, hw, &p->groups.p[k]);
    }
    if (opt->plan)
        TRY(plan_apply(p, opt->plan));
    if (!opt->plan && is_worth_trying(p)) {
        for (uint32_t k = 0; k < p->groups.n; k++)
            if (!p->groups.p[k].moves)
                TRY(improve(p, opt, &p->groups.p[k]));
    }
    return fit(p, opt, best);
}

/* ---- text ---- */
static void
print_range(Text *t, const char *what, Range r)
{
    if (r.lo < r.hi)
        text_put(t, " %s=[%d, %d)", what, r.lo, r.hi);
}

static void
print_member(const Plan *p, OpId o, Text *t)
{
    static const char *const roles[] = {"none", "row", "free", "mat", "acc", "move"};
    const Op *op = graph_op(p->g, o);
    Span s = p->span[op->out.i];
    text_put(t, "    # %s", roles[s.role]);
    print_range(t, "spine", s.spine);
    print_range(t, "outer", s.outer);
    text_put(t, "%s: %s ", p->stored[op->out.i] ? " stored" : "", op_def(p->g, op)->name);
    print_type(val_type(p->g, op->out), t);
    text_puts(t, "\n");
}

/* Decisions are lines that plan_apply reads back; what they are about stands in comments. */
Status
plan_print(const Plan *p, Text *t)
{
    text_put(t, "plan %s", target_names[p->target]);
    if (p->row_bytes > 0 || p->max_ops > 0)
        text_put(t, " row_bytes=%lld max_ops=%lld", (long long)p->row_bytes, (long long)p->max_ops);
    text_puts(t, " {\n");
    for (uint32_t k = 0; k < p->groups.n; k++) {
        const Group *gr = &p->groups.p[k];
        text_put(t,
                 "  group %u rows=%lld outer=%lld per_tile=%d in_place=%d bufs=%d psum_width=%d psum_bufs=%d "
                 "resident=%lld\n",
                 k, (long long)gr->rows, (long long)gr->outer, gr->per_tile, gr->in_place, gr->bufs, gr->psum_width,
                 gr->psum_bufs, (long long)gr->resident);
        for (uint32_t m = 0; m < MIN(gr->n, LISTED); m++)
            print_member(p, p->member.p[gr->first + m], t);
        if (gr->n > LISTED)
            text_put(t, "    # and %u more\n", gr->n - LISTED);
    }
    text_puts(t, "}\n");
    return t->st;
}

static Status
apply_line(Plan *p, const char *line, int number)
{
    unsigned k;
    long long rows, outer, per, place, bufs, width, psum, resident;
    int n = sscanf(line,
                   " group %u rows=%lld outer=%lld per_tile=%lld in_place=%lld bufs=%lld psum_width=%lld "
                   "psum_bufs=%lld resident=%lld",
                   &k, &rows, &outer, &per, &place, &bufs, &width, &psum, &resident);
    if (n != 9)
        return fail_at(p->g->cx, number, 1,
                       "NKI-4011 plan: expected `group K rows= outer= per_tile= in_place= bufs= psum_width= psum_bufs= "
                       "resident=`");
    if (k >= p->groups.n)
        return fail_at(p->g->cx, number, 1, "NKI-4012 plan: group %u of a plan with %u groups", k, p->groups.n);
    Group *gr = &p->groups.p[k];
    if (rows != gr->rows || outer != gr->outer)
        return fail_at(p->g->cx, number, 1,
                       "NKI-4013 plan: group %u has rows=%lld outer=%lld here, not rows=%lld outer=%lld", k,
                       (long long)gr->rows, (long long)gr->outer, rows, outer);
    bool ok = per >= 1 && per <= MAX(gr->rows / 128, 1) && bufs >= 1 && bufs <= 8 && width >= 512 && width <= 4096 &&
              width % 512 == 0 && psum >= 1 && psum <= 8 && resident >= 0 && resident <= 1 << 20;
    if (!ok)
        return fail_at(p->g->cx, number, 1,
                       "NKI-4014 plan: group %u: per_tile in 1..%lld, bufs and psum_bufs in 1..8, psum_width a "
                       "multiple of 512 up to 4096, resident up to 1048576",
                       k, (long long)MAX(gr->rows / 128, 1));
    gr->per_tile = (int32_t)per;
    gr->in_place = place != 0;
    gr->bufs = (int32_t)bufs;
    gr->psum_width = (int32_t)width;
    gr->psum_bufs = (int32_t)psum;
    gr->resident = resident;
    cut_columns(p, gr);
    return ST_OK;
}

void
plan_limits(const char *text, CompileOptions *opt)
{
    long long bytes = 0, ops = 0;
    if (sscanf(text, " plan %*s row_bytes=%lld max_ops=%lld", &bytes, &ops) == 2) {
        opt->row_bytes = MAX(bytes, 0);
        opt->max_ops = MAX(ops, 0);
    }
}

static Status
check_header(const Plan *p, const char *text)
{
    char target[16] = "";
    sscanf(text, " plan %15s", target);
    if (strcmp(target, target_names[p->target]) == 0 && strchr(text, '}'))
        return ST_OK;
    return fail_at(p->g->cx, 1, 1, "NKI-4015 plan: expected `plan %s {` ... `}`, got `%.24s`", target_names[p->target],
                   text);
}

Status
plan_apply(Plan *p, const char *text)
{
    int number = 1;
    TRY(check_header(p, text));
    for (const char *at = text; *at; number++) {
        const char *end = strchr(at, '\n');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        char line[400];
        if (n >= sizeof line)
            n = sizeof line - 1;
        memcpy(line, at, n);
        line[n] = 0;
        const char *word = line + strspn(line, " \t");
        if (strncmp(word, "group", 5) == 0)
            TRY(apply_line(p, line, number));
        else if (*word && *word != '#' && *word != '}' && strncmp(word, "plan", 4) != 0)
            return fail_at(p->g->cx, number, 1, "NKI-4016 plan: cannot read `%.40s`", word);
        at = end ? end + 1 : at + n + strlen(at + n);
    }
    return ST_OK;
}
