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
typedef struct Pass {
    const char *name;
    PassFn *run;
} Pass;

static const Pass tensor_passes[] = {
    {"canonicalize", pass_canonicalize}, {"narrow", pass_narrow},     {"idiom", pass_idiom},
    {"decompose", pass_decompose},       {"guard", pass_guard},       {"reversals", pass_reversals},
    {"outputs", pass_outputs},           {"sequence", pass_sequence}, {"tilable", pass_tilable},
};

static const Pass tile_passes[] = {
    {"schedule", pass_schedule},
    {"pipeline", pass_pipeline},
    {"allocate", pass_allocate},
    {"reroll", pass_reroll}, /* of emitted source only */
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
    for (int i = 0; i < COUNT_OF(tensor_passes); i++) {
        Graph *next = NULL;
        Status st = tensor_passes[i].run(g, opt, &next);
        arena_reset(&g->cx->scratch);
        TRY(st);
        add_stage(c, tensor_passes[i].name, g = next);
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

/* Fuse and plan; smaller and smaller groups until the program fits. */
static Status
make_plan(Compiled *c, const CompileOptions *opt, Arena *a, Plan *plan, Realized *done)
{
    static const struct { int64_t row_bytes, max_ops; } limits[] = {
        {0, 0}, {49152, 0}, {32768, 64}, {32768, 16}, {32768, 4}, {32768, 1}, {16384, 4}, {16384, 1}, {8192, 1},
    };
    Status st = ST_LIMIT;
    for (int i = 0; i < COUNT_OF(limits) && st == ST_LIMIT; i++) {
        CompileOptions o = *opt;
        if (!o.row_bytes && !o.max_ops) {
            o.row_bytes = limits[i].row_bytes;
            o.max_ops = limits[i].max_ops;
        }
        if (o.plan)
            TRY(plan_limits(c->stage[0].graph->cx, o.plan, &o));
        if (o.row_bytes)
            TRY(retile(c, &o));
        st = pass_fuse(c->stage[c->nstages - 1].graph, &o, a, plan);
        if (st == ST_OK)
            st = pass_plan(plan, &o, done);
        if (o.plan)
            break; /* its groups are what it is about */
    }
    return st;
}

static Status
plan_text(const Plan *plan, char **out)
{
    Text t;
    Ctx *cx = plan->g->cx;
    text_init(&t, cx, &cx->arena);
    TRY(plan_print(plan, &t));
    *out = t.p;
    return ST_OK;
}

static Status
add_plan(Compiled *c, const Plan *plan)
{
    Stage s = {.name = "plan"};
    TRY(plan_text(plan, &s.text));
    c->stage[c->nstages++] = s;
    return ST_OK;
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
    Ctx *cx = traced->cx;
    Arena a;
    Plan plan;
    Realized done = {{0}};
    TRY(tensor_verify(traced));
    TRY(run_tensor_passes(traced, opt, c));
    arena_init(&a, &cx->mem);
    Status st = make_plan(c, opt, &a, &plan, &done);
    if (st == ST_OK) {
        st = add_plan(c, &plan);
        Status tile = add_tile_stages(c, &done, opt); /* takes the graphs over, whatever happens */
        st = st == ST_OK ? tile : st;
    }
    arena_free(&a);
    arena_reset(&cx->scratch);
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

static PassFn *
find_pass(const Pass *passes, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(passes[i].name, name) == 0)
            return passes[i].run;
    return NULL;
}

/* ---- from the last tensor stage to the first tile stage, one step at a time ---- */
static Status
show_groups(Compiled *c, const CompileOptions *opt, Arena *a, Stage *out)
{
    Plan p;
    TRY(pass_fuse(c->stage[c->nstages - 1].graph, opt, a, &p));
    return plan_text(&p, &out->text);
}

static Status
show_plan(Compiled *c, const CompileOptions *opt, Arena *a, Stage *out)
{
    Plan p;
    Realized done = {{0}};
    TRY(make_plan(c, opt, a, &p, &done));
    realized_free(&done);
    return plan_text(&p, &out->text);
}

static Status
show_lowered(Compiled *c, const CompileOptions *opt, Arena *a, Stage *out)
{
    Plan p;
    Realized done = {{0}};
    TRY(make_plan(c, opt, a, &p, &done));
    out->graph = done.stage[0];
    done.stage[0] = NULL;
    realized_free(&done);
    return ST_OK;
}

typedef Status PlanPassFn(Compiled *c, const CompileOptions *opt, Arena *a, Stage *out);
static const struct {
    const char *name;
    PlanPassFn *run;
} plan_passes[] = {{"fuse", show_groups}, {"plan", show_plan}, {"lower", show_lowered}};

static PlanPassFn *
find_plan_pass(const char *name)
{
    for (int i = 0; i < COUNT_OF(plan_passes); i++)
        if (strcmp(plan_passes[i].name, name) == 0)
            return plan_passes[i].run;
    return NULL;
}

/* Any tensor program: the tensor passes come first. */
static Status
run_plan_pass(PlanPassFn *run, Graph *in, const CompileOptions *opt, Stage *out)
{
    Compiled c = {0};
    Arena a;
    arena_init(&a, &in->cx->mem);
    Status st = run_tensor_passes(in, opt, &c);
    if (st == ST_OK)
        st = run(&c, opt, &a, out);
    arena_free(&a);
    compiled_free(&c);
    return st;
}

Status
driver_pass(const char *name, Graph *in, const CompileOptions *opt, Stage *out)
{
    bool tile = in->dialect == &tile_dialect;
    PassFn *run = tile ? find_pass(tile_passes, COUNT_OF(tile_passes), name)
                       : find_pass(tensor_passes, COUNT_OF(tensor_passes), name);
    PlanPassFn *plan = tile ? NULL : find_plan_pass(name);
    *out = (Stage){.name = name};
    if (!run && !plan)
        return fail(in->cx, ST_USER, (LocId){0}, "NKI-7001 %s IR has no pass '%s'", in->dialect->name, name);
    TRY(tile ? tile_verify(in) : tensor_verify(in));
    Status st = plan ? run_plan_pass(plan, in, opt, out) : run(in, opt, &out->graph);
    arena_reset(&in->cx->scratch);
    return st;
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

Status
driver_parse(Ctx *cx, const char *text, size_t n, Graph **out)
{
    static const Dialect *const dialects[] = {&tensor_dialect, &tile_dialect};
    return graph_parse(cx, text, n, dialects, COUNT_OF(dialects), out);
}
