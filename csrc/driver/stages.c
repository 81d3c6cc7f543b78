/* stages.c - the journey of a kernel: one table, one row per stage.
 *
 * in:   a traced tensor graph
 * out:  every stage of it; the last is a program that fits its NeuronCore, and its cost
 * rule: a pass is a row here and nowhere else. What does not fit is planned again with smaller groups.
 */
#include "driver/driver.h"
#include "lower/lower.h"
#include "pass/pass.h"

#include <string.h>

typedef Status PassFn(const Graph *in, const CompileOptions *opt, Graph **out);
typedef Status PlanPassFn(const Stage *in, const CompileOptions *opt, Stage *out); /* a plan on one side, or on both */
typedef enum Kind { IR_tensor, IR_plan, IR_tile } Kind;
static const char *const kinds[] = {"tensor IR", "a plan", "tile IR"};
typedef struct Pass {
    const char *name;
    Kind takes;
    PassFn *run;
    PlanPassFn *plan;
} Pass;

static Status run_fuse(const Stage *in, const CompileOptions *opt, Stage *out);
static Status run_plan(const Stage *in, const CompileOptions *opt, Stage *out);
static Status run_lower(const Stage *in, const CompileOptions *opt, Stage *out);

static const Pass passes[] = {
    {"canonicalize", IR_tensor, .run = pass_canonicalize},
    {"narrow", IR_tensor, .run = pass_narrow},
    {"idiom", IR_tensor, .run = pass_idiom},
    {"decompose", IR_tensor, .run = pass_decompose},
    {"guard", IR_tensor, .run = pass_guard},
    {"reversals", IR_tensor, .run = pass_reversals},
    {"outputs", IR_tensor, .run = pass_outputs},
    {"sequence", IR_tensor, .run = pass_sequence},
    {"tilable", IR_tensor, .run = pass_tilable},
    {"fuse", IR_tensor, .plan = run_fuse},
    {"plan", IR_plan, .plan = run_plan},
    {"lower", IR_plan, .plan = run_lower},
    {"schedule", IR_tile, .run = pass_schedule},
    {"pipeline", IR_tile, .run = pass_pipeline},
    {"allocate", IR_tile, .run = pass_allocate},
    {"reroll", IR_tile, .run = pass_reroll}, /* of emitted source only */
};

static const char *const tile_stages[] = {"lower", "schedule", "allocate"}; /* of Realized, in order */

static void
add_stage(Compiled *c, const char *name, Graph *g)
{
    c->stage[c->nstages++] = (Stage){.name = name, .graph = g};
}

static const Graph *
find_stage(const Compiled *c, const char *name)
{
    int i = 0;
    while (i + 1 < c->nstages && strcmp(c->stage[i].name, name) != 0)
        i++;
    return c->stage[i].graph;
}

static Status
run_tensor_passes(Graph *g, const CompileOptions *opt, Compiled *c)
{
    add_stage(c, "trace", g);
    for (const Pass *p = passes; p->run != NULL; p++) { /* up to fuse */
        Graph *next = NULL;
        Status st = p->run(g, opt, &next);
        arena_reset(&g->cx->scratch);
        TRY(st);
        add_stage(c, p->name, g = next);
    }
    return ST_OK;
}

/* The last stage again, under other limits. */
static Status
retile(Compiled *c, const CompileOptions *opt)
{
    Stage *s = &c->stage[c->nstages - 1];
    Graph *next = NULL;
    Status st = pass_tilable(s[-1].graph, opt, &next);
    arena_reset(&s->graph->cx->scratch);
    TRY(st);
    graph_free(s->graph);
    s->graph = next;
    return ST_OK;
}

/* ---- the plan ---- */

static Status
new_plan(Graph *g, Plan **out)
{
    NEW(g->cx, &g->arena, *out, 1);
    return ST_OK;
}

static Status
fuse_last(Compiled *c, const CompileOptions *opt, Plan **out)
{
    Graph *g = c->stage[c->nstages - 1].graph;
    TRY(new_plan(g, out));
    return pass_fuse(g, opt, &g->arena, *out);
}

/* Fuse and plan; smaller and smaller groups until the program fits. */
static Status
make_plan(Compiled *c, const CompileOptions *opt, Plan **plan, Realized *done)
{
    static const struct { int64_t row_bytes, max_ops;
    } limits[] = {
        {0, 0}, {49152, 0}, {32768, 64}, {32768, 16}, {32768, 4}, {32768, 1}, /* one op: four rows at most, which fit */
    };
    Status st = ST_LIMIT;
    for (int i = 0; i < COUNT_OF(limits) && st == ST_LIMIT; i++) {
        CompileOptions o = *opt;
        if (!o.row_bytes && !o.max_ops) {
            o.row_bytes = limits[i].row_bytes;
            o.max_ops = limits[i].max_ops;
        }
        if (o.row_bytes)
            TRY(retile(c, &o));
        st = fuse_last(c, &o, plan);
        if (st == ST_OK)
            st = pass_plan(*plan, &o, done);
        if (o.plan)
            break; /* its limits are what it is about */
    }
    return st;
}

/* The groups of the text, for the program that the tensor passes have made under its limits. */
static Status
read_plan(Compiled *c, PlanText *pt, const CompileOptions *opt, Plan **plan)
{
    if (opt->row_bytes)
        TRY(retile(c, opt));
    Graph *g = c->stage[c->nstages - 1].graph;
    TRY(plan_of_program(pt, g));
    TRY(new_plan(g, plan));
    TRY(plan_read(pt, g, &g->arena, *plan));
    return plan_check(*plan, pt->names);
}

/* A plan that somebody wrote: groups and all, without the numbers, or limits only. */
static Status
force_plan(Compiled *c, PlanText *pt, const CompileOptions *opt, Plan **plan, Realized *done)
{
    CompileOptions o = *opt;
    if (pt->target != opt->target)
        return fail_at(c->stage[0].graph->cx, pt->line, 6,
                       "NKI-4551 plan: expected `plan %s {`, the target that is compiled for, not %s",
                       target_names[opt->target], target_names[pt->target]);
    o.row_bytes = pt->row_bytes;
    o.max_ops = pt->max_ops;
    if (!pt->g)
        return make_plan(c, &o, plan, done);
    o.plan = NULL;
    TRY(read_plan(c, pt, &o, plan));
    return pass_plan(*plan, &o, done);
}

static Status
find_plan(Compiled *c, const CompileOptions *opt, Plan **plan, Realized *done)
{
    PlanText pt;
    if (!opt->plan)
        return make_plan(c, opt, plan, done);
    TRY(plan_open(c->stage[0].graph->cx, opt->plan, strlen(opt->plan), &pt));
    Status st = force_plan(c, &pt, opt, plan, done);
    if (pt.g)
        graph_free(pt.g);
    return st;
}

/* The program in straight form, when that is faster. */
static Status
add_pipelined(Compiled *c, const Realized *done, const CompileOptions *opt)
{
    Graph *g;
    Cost cost = c->cost;
    TRY(pipeline_tile(done->stage[0], done->stage[1], opt, &g));
    if (!g)
        return ST_OK;
    Status st = tile_verify(g);
    if (st == ST_OK)
        st = cost_program(g, &cost);
    if (st == ST_OK && cost.time_us < c->cost.time_us) {
        c->cost = cost;
        add_stage(c, "pipeline", g);
        return ST_OK;
    }
    graph_free(g);
    return st;
}

static Status
add_tile_stages(Compiled *c, const Realized *done, const CompileOptions *opt)
{
    for (int i = 0; i < COUNT_OF(tile_stages); i++)
        add_stage(c, tile_stages[i], done->stage[i]);
    const Graph *last = done->stage[COUNT_OF(tile_stages) - 1];
    TRY(tile_verify(last));
    TRY(cost_program(last, &c->cost));
    TRY(add_pipelined(c, done, opt));
    return cost_floor(find_stage(c, "idiom"), last, &c->cost);
}

static Status
compile_stages(Graph *traced, const CompileOptions *opt, Compiled *c)
{
    Realized done = {{0}};
    Plan *plan;
    TRY(tensor_verify(traced));
    TRY(run_tensor_passes(traced, opt, c));
    Status st = find_plan(c, opt, &plan, &done);
    if (st == ST_OK) {
        c->stage[c->nstages++] = (Stage){.name = "plan", .plan = plan};
        st = add_tile_stages(c, &done, opt); /* takes the graphs over, whatever happens */
    }
    arena_reset(&traced->cx->scratch);
    return st;
}

Status
compile_graph(Graph *traced, const CompileOptions *opt, Compiled *out)
{
    memset(out, 0, sizeof *out);
    Status st = compile_stages(traced, opt, out);
    if (st != ST_OK)
        compiled_free(out);
    return st;
}

void
compiled_free(Compiled *c)
{
    for (int i = 1; i < c->nstages; i++) /* the first belongs to the caller */
        if (c->stage[i].graph)
            graph_free(c->stage[i].graph);
    c->nstages = 0;
}

/* ---- one pass ---- */

/* The last stage leaves *c. */
static Stage
take_last(Compiled *c)
{
    return c->stage[--c->nstages];
}

/* From a tensor program, through the rows before it; `out` gets the program that the plan is about. */
static Status
plan_tensors(Graph *in, const CompileOptions *opt, bool decide, Stage *out)
{
    Compiled c = {0};
    Realized done = {{0}};
    Status st = run_tensor_passes(in, opt, &c);
    if (st == ST_OK)
        st = decide ? make_plan(&c, opt, &out->plan, &done) : fuse_last(&c, opt, &out->plan);
    realized_free(&done);
    if (st == ST_OK)
        out->graph = take_last(&c).graph;
    else
        out->plan = NULL;
    compiled_free(&c);
    return st;
}

static Status
run_fuse(const Stage *in, const CompileOptions *opt, Stage *out)
{
    return plan_tensors(in->graph, opt, false, out);
}

static Status
run_plan(const Stage *in, const CompileOptions *opt, Stage *out)
{
    Realized done = {{0}};
    if (!in->plan)
        return plan_tensors(in->graph, opt, true, out);
    Status st = pass_plan(in->plan, opt, &done);
    realized_free(&done);
    out->plan = in->plan;
    return st;
}

static Status
run_lower(const Stage *in, const CompileOptions *opt, Stage *out)
{
    Stage planned = *in;
    if (!in->plan)
        TRY(plan_tensors(in->graph, opt, true, &planned));
    const Plan *p = planned.plan;
    Status st = ST_OK;
    if (p->groups.n && !is_decided(&p->groups.p[0]))
        st = fail_at(p->g->cx, p->groups.p[0].line, p->groups.p[0].col,
                     "NKI-4552 lower: this group has no numbers (per_tile= and so on); the pass plan finds them");
    if (st == ST_OK)
        st = graph_end(pass_lower(p, opt, NULL, &out->graph), &out->graph);
    if (planned.graph != in->graph)
        graph_free(planned.graph);
    return st;
}

static const Pass *
find_pass(const char *name, Kind kind)
{
    for (int i = 0; i < COUNT_OF(passes); i++)
        if (strcmp(passes[i].name, name) == 0 && (passes[i].takes == kind || (kind == IR_tensor && passes[i].plan)))
            return &passes[i];
    return NULL;
}

Status
driver_pass(const char *name, const Stage *in, const CompileOptions *opt, Stage *out)
{
    Graph *g = in->graph;
    Kind kind = in->plan ? IR_plan : g->dialect == &tile_dialect ? IR_tile : IR_tensor;
    const Pass *pass = find_pass(name, kind);
    CompileOptions o = *opt;
    *out = (Stage){.name = name};
    if (!pass)
        return fail(g->cx, ST_USER, (LocId){0}, "NKI-7001 %s has no pass '%s'", kinds[kind], name);
    if (in->plan)
        o.target = in->plan->target;
    TRY(kind == IR_tile ? tile_verify(g) : tensor_verify(g));
    Status st = pass->plan ? pass->plan(in, &o, out) : pass->run(g, &o, &out->graph);
    arena_reset(&g->cx->scratch);
    return st;
}

const Graph *
driver_program(const Stage *s)
{
    return s->graph ? s->graph : s->plan->g;
}

Status
driver_print(const Graph *g, const Plan *plan, uint32_t max, bool brief, Text *t)
{
    if (plan)
        return plan_print(plan, max, brief, t);
    return brief ? graph_print_brief(g, max, t) : graph_print(g, t);
}

Status
driver_check(Plan *plan)
{
    return plan_check(plan, NULL);
}

Status
driver_nki(const Graph *g, const Source *user, Text *t)
{
    CompileOptions none = {.target = g->target};
    Graph *rolled;
    TRY(pass_reroll(g, &none, &rolled));
    Status st = emit_nki(rolled, user, t);
    graph_free(rolled);
    return st;
}

/* An error in the program of a plan, at its line in the text. */
static Status
placed(const Scan *sc, Status st)
{
    ErrorInfo *err = &sc->cx->err;
    if (st == ST_OK || st == ST_NOMEM || err->line)
        return st;
    const Loc *loc = loc_get(sc->cx, err->loc);
    err->line = loc->line ? loc->line : sc->line;
    err->col = loc->line ? loc->offset : 1;
    err->st = st == ST_BUG || st == ST_TYPE ? ST_USER : st;
    return err->st;
}

/* What stands behind a tensor program: the plan for it. */
static Status
parse_plan(PlanText *pt, Stage *out)
{
    TRY(plan_begin(pt));
    TRY(placed(&pt->body, tensor_verify(pt->g)));
    TRY(new_plan(pt->g, &out->plan));
    TRY(plan_read(pt, pt->g, &pt->g->arena, out->plan));
    return plan_check(out->plan, pt->names);
}

Status
driver_parse(Ctx *cx, const char *text, size_t n, Stage *out)
{
    static const Dialect *const dialects[] = {&tensor_dialect, &tile_dialect};
    PlanText pt = {.body = scan_text(cx, text, n)};
    *out = (Stage){.name = "parsed"};
    TRY(graph_scan(&pt.body, dialects, COUNT_OF(dialects), &pt.return_line, &pt.names, &pt.g));
    scan_lines(&pt.body);
    bool plan = pt.g->dialect == &tensor_dialect && scan_peek(&pt.body, 'p');
    Status st = plan ? parse_plan(&pt, out) : scan_end(&pt.body);
    arena_reset(&cx->scratch);
    out->graph = pt.g;
    return graph_end(st, &out->graph);
}
