/* lower.h - from a plan to a program with engines and addresses. */
#ifndef NKIGEN_LOWER_LOWER_H
#define NKIGEN_LOWER_LOWER_H

#include "cost/cost.h"
#include "plan/plan.h"

#define INSTR_US 0.04  /* what an instruction is worth avoiding: its fetch, and its share of the instruction memory */
#define PLACE_ALIGN 64 /* bytes: where buffers in SBUF start; those in PSUM take whole banks */

/* lower.c: tile program without addresses. schedule.c, allocate.c: tile -> tile
 * first, by group, when it is wanted: the op that its code begins with; 0: it was not come to. */
Status pass_lower(const Plan *p, const CompileOptions *opt, OpId *first, Graph **out);
/* alone.c: group after group, each a program of its own. Tables are in a, the rest in scratch memory, which may be
 * taken back between two groups; gr: its decisions, instead of the plan's */
typedef struct Lower Lower;
Status lower_begin(const Plan *p, const CompileOptions *opt, Arena *a, Lower **out);
Status lower_alone(Lower *l, uint32_t k, const Group *gr, Graph **out);
/* by val: its home in SBUF cannot serve somebody who reads or writes it there */
Status lower_refusals(const Plan *p, const CompileOptions *opt, bool *refused);
Status pass_schedule(const Graph *in, const CompileOptions *opt, Graph **out);
/* ST_LIMIT when it does not fit; the caller plans again with smaller tiles */
Status pass_allocate(const Graph *in, const CompileOptions *opt, Graph **out);
/* by op: it declares a buffer for which there is no room where the others have theirs */
Status allocate_misses(const Graph *in, const CompileOptions *opt, Arena *a, bool **out);

/* pipeline.c: tile -> tile, with addresses */
#define STRAIGHT_MOST 2000 /* instructions of a program that becomes straight code as a whole */
#define ORDERED_MOST 8000  /* ops of a text that is put in order at all */
Status pass_pipeline(const Graph *in, const CompileOptions *opt, Graph **out);
/* `scheduled` is `lowered` with engines. *out: straight code in a better order; NULL: there is none */
Status pipeline_tile(const Graph *lowered, const Graph *scheduled, const CompileOptions *opt, Graph **out);

/* retag.c - the same program with other attributes; *attr is op's own to begin with */
typedef Status Retag(void *env, const Op *op, AttrId *attr);
Status program_retag(const Graph *in, Retag *retag, void *env, Graph **out);

#endif
