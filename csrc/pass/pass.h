/* pass.h - one file, one pass. A pass reads one graph and builds another. */
#ifndef NKIGEN_PASS_H
#define NKIGEN_PASS_H

#include "cost/cost.h"
#include "tensor/tensor.h"
#include "tile/tile.h"

typedef enum NarrowPolicy { NARROW_warn, NARROW_error } NarrowPolicy;
typedef struct CompileOptions {
    int target; /* Target */
    NarrowPolicy narrow;
    const char *plan; /* forced plan text, or NULL */
    int64_t row_bytes; /* fuse: at most so many bytes of a value's row in a partition; 0: the default */
    int64_t max_ops;   /* fuse: at most so many ops in a group; 0: no limit */
} CompileOptions;

/* tensor IR -> tensor IR; *out is a new graph */
/* canonicalize.c: fold, share, resolve updates, drop what nobody uses */
Status pass_canonicalize(const Graph *in, const CompileOptions *opt, Graph **out);
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
bool is_reversal(const Graph *g, Val v); /* a slice with a negative step: no view */
/* outputs.c: every output an op of its own */
Status pass_outputs(const Graph *in, const CompileOptions *opt, Graph **out);
/* tilable.c: every op in a form that some tiling fits on chip, under the limits in opt */
Status pass_tilable(const Graph *in, const CompileOptions *opt, Graph **out);

/* canonicalize.c - what tensor passes share: one walk over the ops that an output needs */
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
Status graph_sweep(Graph *g, const CompileOptions *opt, Graph **out); /* takes g; drops what no output needs */
/* updates.c - the part of canonicalize that is about updates; live: by op */
Status resolve_updates(const Graph *in, const bool *live, const CompileOptions *opt, Graph **out);
/* order.c - the end of decompose */
Status order_words(Graph *g, const CompileOptions *opt, Graph **out); /* takes g; exact order of i32 and u32 */
Status graph_end(Status st, Graph **out); /* frees *out on failure; returns st */
Status rewrite_shaped(const Rewrite *rw, const Op *op, Val v, Val *out); /* v broadcast to the shape of op's result */

/* interval.c - what each value may be */
typedef struct Interval {
    double lo, hi; /* no element that is a number is outside */
    bool nan;      /* an element may be NaN */
    bool moment;   /* a sum of squares, maybe scaled and shifted up */
} Interval;
Status intervals(const Graph *g, Arena *a, Interval **by_val);

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

/* Not computed: a parameter or a constant. */
static inline bool
is_source(const Graph *g, Val v)
{
    int code = val_def(g, v)->code;
    return code == T_input || code == T_const || code == T_full;
}

/* integers.c - rewriters of decompose for 32-bit integers */
Val expand_int_power(Expr *e, Val x, Val n);
Val wrapped(Expr *e, Val x, DType to); /* of any integer dtype: its lowest bits */
void divmod_unsigned(Expr *e, Val a, Val b, Val *quotient, Val *rest);

#endif
