/* pass.h - one file, one pass. A pass reads one graph and builds another. */
#ifndef NKIGEN_PASS_H
#define NKIGEN_PASS_H

#include "pass/interval.h"
#include "plan/plan.h"

/* tensor IR -> tensor IR; *out is a new graph */
/* canonicalize.c: fold, share, resolve updates, drop what nobody uses */
Status pass_canonicalize(const Graph *in, const CompileOptions *opt, Graph **out);
Status graph_sweep(Graph *g, const CompileOptions *opt, Graph **out); /* takes g; drops what no output needs */
/* narrow.c: f64 i64 u64 -> f32 i32 u32 */
Status pass_narrow(const Graph *in, const CompileOptions *opt, Graph **out);
/* idiom.c: sigmoid, silu, gelu, rsqrt, square */
Status pass_idiom(const Graph *in, const CompileOptions *opt, Graph **out);
/* decompose.c: only F_CORE ops remain */
Status pass_decompose(const Graph *in, const CompileOptions *opt, Graph **out);
/* guard.c: activation functions see what they are defined for */
Status pass_guard(const Graph *in, const CompileOptions *opt, Graph **out);
/* reversals.c: no negative steps, but of slices that move long runs */
Status pass_reversals(const Graph *in, const CompileOptions *opt, Graph **out);
/* outputs.c: every output an op of its own */
Status pass_outputs(const Graph *in, const CompileOptions *opt, Graph **out);
/* sequence.c: of what does not fit on chip at once, as little as possible is alive */
Status pass_sequence(const Graph *in, const CompileOptions *opt, Graph **out);
/* tilable.c: every op in a form that some tiling fits on chip, under the limits in opt */
Status pass_tilable(const Graph *in, const CompileOptions *opt, Graph **out);
/* pieces.c - the first step of tilable: rows too long for a partition; *out: NULL when there are none */
Status cut_long_rows(const Graph *in, const CompileOptions *opt, Graph **out);

/* rewrite.c - what tensor passes share: one walk over the ops that an output needs */
typedef struct Rewrite {
    const Graph *in;
    Graph *g; /* built from it */
    const CompileOptions *opt;
    void *env;
    Val *map; /* by value of `in`: what it became */
} Rewrite;
typedef Status RewriteOp(const Rewrite *rw, OpId o, Val *out);
RewriteOp rewrite_clone; /* the op as it is */
Status graph_rewrite(const Graph *in, const CompileOptions *opt, RewriteOp *rewrite, void *env, Graph **out);
/* The same ops in another order, which has each after its operands; what it leaves out is gone. */
Status graph_reorder(const Graph *in, const CompileOptions *opt, const OpId *order, uint32_t n, Graph **out);
Status rewrite_shaped(const Rewrite *rw, const Op *op, Val v, Val *out); /* v broadcast to the shape of op's result */
Status graph_live(const Graph *g, bool **live); /* by op, in scratch: an output needs it, or it is an input */
/* updates.c - the part of canonicalize that is about updates; live: by op */
Status resolve_updates(const Graph *in, const bool *live, const CompileOptions *opt, Graph **out);
/* order.c - the end of decompose */
Status order_words(Graph *g, const CompileOptions *opt, Graph **out); /* takes g; exact order of i32 and u32 */

/* expr.c - expressions; the first failure sticks, later calls do nothing. At most one argument of a call makes ops, so
 * that the order of ops does not depend on the C compiler. */
typedef struct Expr {
    Graph *g;
    LocId loc;
    DType dt;      /* for the pass to use, as are these: */
    Interval a, b; /* what the operands of the op may be */
    Status st;
} Expr;
Val x_unary(Expr *e, TOp op, Val a);
Val x_binary(Expr *e, TOp op, Val a, Val b);
Val x_number(Expr *e, DType dt, double c);
Val x_with(Expr *e, TOp op, Val a, DType dt, double c); /* a op the number c, which is made after a */
Val x_cast(Expr *e, Val a, DType dt);
Val x_rcast(Expr *e, Val a, DType dt); /* to the nearest integer, saturating */
Val x_where(Expr *e, Val c, Val a, Val b);

/* known.c - certain from the few ops that made a value */
bool is_never_negative(const Graph *g, Val v); /* v >= 0 or nan, and not -0 */
bool is_exponential(const Graph *g, Val v);    /* e**x, as rounded */
bool has_no_subnormals(const Graph *g, Val v); /* |v| is 0, infinite, nan or from 2**-126 on */

/* integers.c - rewriters of decompose for 32-bit integers */
Val expand_int_power(Expr *e, Val x, Val n);
Val wrapped(Expr *e, Val x, DType to); /* of any integer dtype: its lowest bits */
void divmod_unsigned(Expr *e, Val a, Val b, Val *quotient, Val *rest);

/* what fuse.c expects of the tiles that choose.c cuts */
#define TILE_BYTES 32768   /* of the widest value of a group: long DMAs, room for several values and copies */
#define INSIDE_ROWS 64     /* neighbouring rows in one partition: from here on a DMA moves them as runs */
#define OUTER_NS 2000.0    /* an outer iteration fills and drains the engines */
#define HANDOVER_NS 8000.0 /* a value written by one group and read by another: two DMAs that nothing hides */

/* fuse.c */
bool has_tiling(const Graph *g, const Op *op, int64_t row_bytes); /* under the limits of CompileOptions */
Status pass_fuse(const Graph *g, const CompileOptions *opt, Arena *a, Plan *out);
/* moves.c */
bool moves_better(const Plan *p, const Op *op, Span s); /* by itself than as a group with that span */
/* what a group with that span loses when it loads v through w as it is; less than 0: nothing */
double load_excess_ns(const Plan *p, Val v, const View *w, Span s);
/* handover.c: what lives in SBUF between groups, `most` bytes per partition of it at a time */
Status choose_homes(Plan *p, const CompileOptions *opt, int64_t most, bool *any);
Status drop_home(Plan *p, uint32_t group, bool *dropped); /* that of least gain in a group which has no room */
/* choose.c: fills the decisions; lowers and prices a few candidates when the program is small enough to try */
typedef struct Realized {
    Graph *stage[3];
} Realized; /* a plan carried out: lowered, scheduled, allocated */
Status pass_plan(Plan *p, const CompileOptions *opt, Realized *best);
Status plan_realize(const Plan *p, const CompileOptions *opt,
                    Realized *out); /* as it stands; on failure nothing is left */
/* keep.c: the same with what groups hand over in SBUF, when that is about as fast */
Status plan_keep(Plan *p, const CompileOptions *opt, Realized *best);
void realized_free(Realized *r); /* all stages that are there */

/* reroll.c - for emitted source: neighbouring copies of the same code become loops; buffers lose their addresses */
Status pass_reroll(const Graph *in, const CompileOptions *opt, Graph **out);

#endif
