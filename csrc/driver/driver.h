/* driver.h - the pipeline: every arrow of the journey is one row of one table. */
#ifndef NKIGEN_DRIVER_H
#define NKIGEN_DRIVER_H

#include "cost/cost.h"
#include "emit/emit.h"
#include "eval/eval.h"
#include "plan/options.h"
#include "tensor/tensor.h"

#define MAX_STAGES 16
typedef struct Stage {
    const char *name;
    Graph *graph; /* tensor or tile IR; NULL for the plan */
    char *text;   /* the plan's text form */
} Stage;
typedef struct Compiled {
    Stage stage[MAX_STAGES];
    int nstages;
    Cost cost;
} Compiled;

/* Takes a traced tensor graph (verified) through all passes. Owns the graphs of all stages but the first. */
Status compile_graph(Graph *traced, const CompileOptions *opt, Compiled *out);
void compiled_free(Compiled *c);
/* One pass by its name in the tables; fails for a name that is no pass. `in` is verified first. fuse, plan and lower
 * take a tensor program through the tensor passes first; what the first two make is a text. The caller frees the graph.
 */
Status driver_pass(const char *name, Graph *in, const CompileOptions *opt, Stage *out);
/* NKI source of a tile program, see emit_nki; neighbouring copies of the same code are written as loops. */
Status driver_nki(const Graph *g, const Source *user, Text *t);
Status driver_parse(Ctx *cx, const char *text, size_t n, Graph **out); /* either IR */

#endif
