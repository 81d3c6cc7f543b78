/* tensor.h - tensor IR: whole tensors, SSA, static shapes, NumPy semantics.
 *
 * The builder (t_*) is the only way to make ops: it infers types, inserts promotion casts, folds and shares pure ops.
 * Canonical form is what the builder gives.
 */
#ifndef NKIGEN_TENSOR_H
#define NKIGEN_TENSOR_H

#include "ir/ir.h"

typedef enum TOp {
    T_none,
#define OP(id, ...) T_##id,
#include "tensor/ops.def"
#undef OP
    T_COUNT
} TOp;
extern const Dialect tensor_dialect;
#define MAX_SHAPE_TEXT 200 /* "(a, b, ...)" of MAX_RANK dims */
#define MAX_NUMEL ((int64_t)1 << 48)

/* What NumPy calls the op of a row. */
static inline const char *
np_name(const OpDef *d)
{
    if (d->np == NULL)
        return d->name;
    return d->np[0] == '.' ? d->np + 1 : d->np;
}

/* dialect.c */
const char *t_np_name(TOp op);
TOp t_from_np_ufunc(const char *name); /* T_none: no such op. "true_divide", "absolute" and other aliases included */

/* infer.c */
Status infer_same(Ctx *, const Graph *, const Op *, TyId *);      /* unary: the operand's type */
Status infer_broadcast(Ctx *, const Graph *, const Op *, TyId *); /* binary: equal dtypes, broadcast shapes */
Status infer_compare(Ctx *, const Graph *, const Op *, TyId *);   /* the same, bool result */
Status infer_where(Ctx *, const Graph *, const Op *, TyId *);
Status infer_reduce(Ctx *, const Graph *, const Op *, TyId *);
Status infer_matmul(Ctx *, const Graph *, const Op *, TyId *);    /* NumPy's rules, 1-d operands included */
Status infer_layout(Ctx *, const Graph *, const Op *, TyId *);    /* reshape transpose broadcast_to slice concat update */
Status infer_attr(Ctx *, const Graph *, const Op *, TyId *);      /* full, const, input, cast: from attributes */
const char *shape_text(char buf[MAX_SHAPE_TEXT], int rank, const int64_t *dim); /* returns buf */
bool is_too_large(int rank, const int64_t *dim); /* more than MAX_NUMEL elements; type_make bounds the other dims of none */
Status broadcast_dims(Ctx *, LocId loc, const char *what, const Type *a, const Type *b, int *rank, int64_t *dim);

/* number.c - single numbers */
typedef struct Num { /* the value of a full op */
    bool real;       /* f counts, otherwise i */
    double f;
    int64_t i;
} Num;
int64_t wrap_int(DType dt, int64_t v); /* to the range of an integer dtype; a u64 keeps its bits */
int64_t wrap_float(DType dt, double v); /* truncates, as NumPy's astype where that is defined; else saturates */
bool full_num(const Graph *g, Val v, Num *num); /* v is a full op (through layout ops) */
double num_double(const Num *n, DType dt);
bool is_splat(const Graph *g, Val v, double *value); /* the same as a double; value may be NULL */
/* NumPy's loops on f64, and on i64 that wrap; false: not an op on numbers, or undefined */
bool eval_unary(TOp op, double x, double *y);
bool eval_unary_int(TOp op, int64_t x, bool is_unsigned, int64_t *y);
bool eval_binary(TOp op, double a, double b, double *y);
bool eval_binary_int(TOp op, int64_t a, int64_t b, bool is_unsigned, int64_t *y);

/* promote.c - NumPy 2's promotion. weak: a Python scalar, 'b', 'i', 'f' or 0 for an array.
 * ml_dtypes' formats make two rules out of one: promote is what the loops of a ufunc take (bf16 + i32 is f64,
 * bf16 + 2.0 is f32), promote_common is np.result_type, which where and concatenate use (bf16 with i32 is a
 * TypeError). */
Status promote(Ctx *cx, LocId loc, DType a, char weak_a, DType b, char weak_b, DType *out);
Status promote_common(Ctx *cx, LocId loc, DType a, char weak_a, DType b, char weak_b, DType *out);
DType promote_unary(TOp op, DType a); /* exp(i32) is f64, negative(bool) fails as DT_none, ... as NumPy's loops do */

/* box.c - the part of an array that a slice reads or an update writes: per axis start + step * i for i < size */
typedef struct Box {
    int rank;
    int64_t start[MAX_RANK], step[MAX_RANK], size[MAX_RANK];
} Box;
Box box_of(const Graph *g, const Op *op); /* of a slice or an update */
Box box_whole(const Type *t);
bool box_covers(const Box *b, int axis, int64_t dim); /* all of an axis, in order */
bool box_covers_all(const Box *b, const Type *t);
int64_t box_last(const Box *b, int axis); /* the last index on an axis */
bool box_is_disjoint(const Box *a, const Box *b);
bool box_is_within(const Box *outer, const Box *inner, Box *rel); /* rel: inner in the coordinates of outer */

/* strides.c - NumPy's memory layouts, in elements */
typedef struct Laid {
    const Type *type;
    const int64_t *stride;
} Laid;
void strides_c(const Type *t, int64_t *stride);
bool strides_are_c(const Type *t, const int64_t *stride);
/* The strides of a view of another shape with as many elements; false when only a copy has it. */
bool strides_reshape(const Type *t, const int64_t *stride, const Type *to, int64_t *out);
void strides_keep(const Laid *in, int n, int rank, const int64_t *dim, int64_t *out); /* a ufunc's result, order 'K' */
void strides_copy(const Laid *a, int64_t *out);                                       /* a copy of one, order 'K' */

/* build.c - ops with inference, folding and sharing */
/* Any op but input from its parts. */
Status t_emit(Graph *g, TOp op, const Val *in, int nin, AttrId attr, LocId loc, Val *out);
Status t_input(Graph *g, const char *name, DType dt, int rank, const int64_t *dim, LocId loc, Val *out);
/* C order; all-equal becomes full. */
Status t_const(Graph *g, DType dt, int rank, const int64_t *dim, const void *p, LocId loc, Val *out);
Status t_full(Graph *g, DType dt, int rank, const int64_t *dim, double v, LocId loc, Val *out);
Status t_full_int(Graph *g, DType dt, int rank, const int64_t *dim, int64_t v, LocId loc, Val *out);
Status t_unary(Graph *g, TOp op, Val a, LocId loc, Val *out);          /* casts to the loop dtype first */
Status t_binary(Graph *g, TOp op, Val a, Val b, LocId loc, Val *out);  /* operands of equal dtype */
Status t_binary_np(Graph *g, TOp op, Val a, char weak_a, Val b, char weak_b, LocId loc, Val *out); /* promotes first */
Status t_where(Graph *g, Val c, Val a, Val b, LocId loc, Val *out);
Status t_where_np(Graph *g, Val c, Val a, char weak_a, Val b, char weak_b, LocId loc, Val *out); /* promotes first */
Status t_cast(Graph *g, Val a, DType dt, LocId loc, Val *out);
/* In place; a weak Python integer that the dtype cannot hold is an error. */
Status t_convert(Graph *g, const char *what, Val *v, char weak, DType dt, LocId loc);
/* Axes may be negative, in any order; n < 0: all axes. */
Status t_reduce(Graph *g, TOp op, Val a, const int64_t *axes, int n, bool keepdims, LocId loc, Val *out);
Status t_reduce_as_is(Graph *g, TOp op, Val a, const int64_t *axes, int n, bool keepdims, LocId loc,
                      Val *out); /* a sum in the operand's dtype */
/* Axes (n < 0: all) as a sorted list of non-negative ones, each once. */
Status t_axes(Graph *g, const char *what, int rank, const int64_t *axes, int n, LocId loc, int64_t *out, int *nout);
/* Equal dtypes; bf16 and fp8 give f32, as NumPy does; reshapes 1-d operands. */
Status t_matmul(Graph *g, Val a, Val b, LocId loc, Val *out);
Status t_matmul_np(Graph *g, Val a, Val b, LocId loc, Val *out); /* promotes first */
Status t_transpose(Graph *g, Val a, const int64_t *perm, int n, LocId loc, Val *out); /* n 0: reverse all */
Status t_reshape(Graph *g, Val a, const int64_t *dim, int n, LocId loc, Val *out);    /* one -1 allowed */
Status t_broadcast_to(Graph *g, Val a, const int64_t *dim, int n, LocId loc, Val *out);
Status t_slice(Graph *g, Val a, const int64_t *start, const int64_t *step, const int64_t *size, LocId loc, Val *out);
/* base with value, of the box's shape, at the box; steps may be negative. An update has positive steps. */
Status t_update(Graph *g, Val base, Val value, const Box *box, LocId loc, Val *out);
/* Promotes first; axis may be negative. */
Status t_concat(Graph *g, const Val *v, int n, int64_t axis, LocId loc, Val *out);
Status t_output(Graph *g, Val v); /* alias -1 */
/* Rebuild one op in another graph (operands already mapped): the way passes copy. Goes through fold and sharing. */
Status t_clone(Graph *out, const Graph *in, OpId o, const Val *map, Val *result);

/* stats.c - what NumPy computes from sums; dtype DT_none is NumPy's default */
typedef struct Over {
    const int64_t *axes;
    int n; /* < 0: all */
    bool keepdims;
    DType dtype;
} Over;
Status t_mean(Graph *g, Val a, const Over *over, LocId loc, Val *out);
Status t_var(Graph *g, Val a, const Over *over, double ddof, LocId loc, Val *out);
Status t_std(Graph *g, Val a, const Over *over, double ddof, LocId loc, Val *out);

/* exponents.c */
Status t_exponents(const Graph *g, Arena *a, bool **by_input); /* which inputs an integer power takes as exponents */

/* fold.c - called by the builder for every pure op; *out stays 0 when there is nothing to fold */
Status t_fold(Graph *g, TOp op, const Val *in, int nin, AttrId attr, TyId type, LocId loc, Val *out);

/* verify.c */
Status tensor_verify(const Graph *g);

#endif
