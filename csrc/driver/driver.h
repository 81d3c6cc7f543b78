/* driver.h - the pipeline: every arrow of the journey is one row of one table. */
#ifndef NKIGEN_DRIVER_H
#define NKIGEN_DRIVER_H

#include "cost/cost.h"
#include "emit/emit.h"
#include "eval/eval.h"
#include "plan/options.h"
#include "tensor/tensor.h"

typedef struct Plan Plan; /* plan/plan.h */
#define MAX_STAGES 16
typedef struct Stage {
    const char *name;
    Graph *graph; /* tensor or tile IR; of a plan NULL, or its program when that is the stage's own */
    Plan *plan;   /* in the memory of its program */
} Stage;
typedef struct Compiled {
    Stage stage[MAX_STAGES];
    int nstages;
    Cost cost;
} Compiled;

/* Takes a traced tensor graph (verified) through all passes. Owns the graphs of all stages but the first. */
Status compile_graph(Graph *traced, const CompileOptions *opt, Compiled *out);
void compiled_free(Compiled *c);
/* One pass by its name in the table; fails for a name that is no pass of what `in` is. `in` is verified first. A tensor
 * program goes through the rows that come before fuse, plan or lower. The caller frees out->graph; a plan may be
 * in->plan.
 */
Status driver_pass(const char *name, const Stage *in, const CompileOptions *opt, Stage *out);
/* What a stage is about: its graph, or that of its plan. */
const Graph *driver_program(const Stage *s);
/* The text of a program, or of a plan for it: of each at most max lines. Briefly: without the bytes of constants. */
Status driver_print(const Graph *g, const Plan *plan, uint32_t max, bool brief, Text *t);
Status driver_check(Plan *plan); /* against its program, which is verified */
/* NKI source of a tile program, see emit_nki; neighbouring copies of the same code are written as loops. */
Status driver_nki(const Graph *g, const Source *user, Text *t);
/* Either IR, or a plan, which is checked, with the program that it begins with. */
Status driver_parse(Ctx *cx, const char *text, size_t n, Stage *out);

#endif
