/* tilable.c - every op gets a form that some tiling fits on chip.
 *
 * in:   a decomposed tensor graph, and the limits that groups are formed under
 * out:  the same function; of ops that no spine suits only layout ops and concats remain, which fuse moves within HBM
 * rule: element-wise ops and products get operands of their own shape, then any run of dims will do as rows.
 *       Reductions go axis by axis, the last first, and a long axis in two steps: runs of it, then what they left.
 *       Rows that are too long are cut first (pieces.c). Products of many small matrices, or of many rows with one,
 *       are sums of element-wise products, in each partition those of a matrix or of a row.
 */
#include "pass/pass.h"

#define MATRICES 128     /* as many keep all partitions busy, where the tensor engine would take them one by one */
#define MATRIX_WORK 4096 /* multiplications of one: 64 ns of the vector engine, where the tensor engine needs 1000 */
#define THIN_ROWS 1024   /* of a product with one matrix, as thin as this: */
#define THIN_WORK 64     /* multiplications of a row; 128 rows of it take the tensor engine 450 ns */
#define RUN_BYTES 8192   /* of a long axis that is reduced at once: the shortest row limit of groups */

/* ---- operands of their own shape ---- */
static Status
widen(const Rewrite *rw, const Op *op, const int64_t *dim, int rank, int fixed, Val *v)
{
    const Type *t = val_type(rw->g, *v);
    int64_t to[MAX_RANK];
    bool same = t->rank == rank;
    for (int i = 0; i < rank; i++) { /* the last `fixed` dims are the operand's own */
        to[i] = i < rank - fixed ? dim[i] : t->dim[i - rank + t->rank];
        same = same && t->dim[i] == to[i];
    }
    bool batch = fixed == 0; /* of a product: one matrix serves all of it as it is */
    for (int i = 0; i < t->rank - fixed; i++)
        batch = batch || t->dim[i] != 1;
    if (same || !batch || type_numel(t) == 1)
        return ST_OK;
    return t_broadcast_to(rw->g, *v, to, rank, op->loc, v);
}

/* op on operands that have all dims of its result, but for the last `fixed`. */
static Status
widened(const Rewrite *rw, OpId o, int fixed, Val *out)
{
    const Op *op = graph_op(rw->in, o);
    const Type *t = val_type(rw->in, op->out);
    Operand in[3];
    OpId made;
    for (int i = 0; i < op->nin; i++) {
        in[i] = (Operand){.v = rw->map[op_val(rw->in, op, i).i]};
        TRY(widen(rw, op, t->dim, t->rank, fixed, &in[i].v));
    }
    TRY(graph_append(rw->g, op->code, in, op->nin, op->attr, op->loc, &rw->in->vals.p[op->out.i].type, 1, &made));
    *out = graph_op(rw->g, made)->out;
    return ST_OK;
}

/* ---- reductions ---- */
typedef struct Reduction {
    TOp op;
    bool axis[MAX_RANK]; /* to be reduced */
    int64_t bytes;       /* of a long axis at once */
    LocId loc;
} Reduction;

static Status
cut(Graph *g, Val v, int64_t from, int64_t size, LocId loc, Val *out) /* of the middle of three dims */
{
    const Type *t = val_type(g, v);
    int64_t start[3] = {0, from, 0}, step[3] = {1, 1, 1}, dim[3] = {t->dim[0], size, t->dim[2]};
    return t_slice(g, v, start, step, dim, loc, out);
}

/* [outer, n, inner] to fewer along the middle: runs of it are reduced, and what is left over as one more. */
static Status
reduce_runs(Graph *g, const Reduction *r, int64_t run, Val *v)
{
    const Type *t = val_type(g, *v);
    int64_t axis = 2, middle = 1, n = t->dim[1], k = n / run, dim[4] = {t->dim[0], k, run, t->dim[2]};
    Val part[2];
    TRY(cut(g, *v, 0, k * run, r->loc, &part[0]));
    TRY(t_reshape(g, part[0], dim, 4, r->loc, &part[0]));
    TRY(t_reduce_as_is(g, r->op, part[0], &axis, 1, false, r->loc, &part[0]));
    if (k * run == n) {
        *v = part[0];
        return ST_OK;
    }
    TRY(cut(g, *v, k * run, n - k * run, r->loc, &part[1]));
    TRY(t_reduce_as_is(g, r->op, part[1], &middle, 1, true, r->loc, &part[1]));
    return t_concat(g, part, 2, 1, r->loc, v);
}

/* Dims [lo, hi) of v, all of them reduced, become dims of size 1, but for the first: what is left of a long run. */
static Status
shorten(Graph *g, const Reduction *r, int lo, int hi, Val *v)
{
    const Type *t = val_type(g, *v);
    int64_t n = range_size(t, (Range){(int8_t)lo, (int8_t)hi}), most;
    most = MAX(r->bytes / MAX(dtypes[t->dtype].bytes, 2), 2);
    int64_t flat[3] = {range_size(t, (Range){0, (int8_t)lo}), n, range_size(t, (Range){(int8_t)hi, (int8_t)t->rank})};
    if (n <= most || flat[0] * flat[2] <= most)
        return ST_OK;
    int64_t dim[MAX_RANK];
    for (int i = 0; i < t->rank; i++)
        dim[i] = i >= lo && i < hi ? 1 : t->dim[i];
    int rank = t->rank;
    TRY(t_reshape(g, *v, flat, 3, r->loc, v));
    while (val_type(g, *v)->dim[1] > most)
        TRY(reduce_runs(g, r, most, v));
    dim[lo] = val_type(g, *v)->dim[1];
    return t_reshape(g, *v, dim, rank, r->loc, v);
}

/* Neighbouring axes together, the last of them first; the result of the last step has the shape that op's has. */
static Status
reduce_in_turn(Graph *g, const Reduction *r, const int64_t *axes, int n, bool keep, Val *v)
{
    int rank = val_type(g, *v)->rank, first = 0;
    while (!r->axis[first])
        first++;
    for (int hi = rank, lo; hi > 0; hi = lo) {
        lo = hi - 1;
        if (!r->axis[lo])
            continue;
        while (lo > 0 && r->axis[lo - 1])
            lo--;
        TRY(shorten(g, r, lo, hi, v));
        int64_t run[MAX_RANK];
        for (int i = lo; i < hi; i++)
            run[i - lo] = i;
        if (lo == first)
            break;
        TRY(t_reduce_as_is(g, r->op, *v, run, hi - lo, true, r->loc, v));
    }
    return t_reduce_as_is(g, r->op, *v, axes, n, keep, r->loc, v);
}

static Status
stepwise(const Rewrite *rw, OpId o, Val *out)
{
    const Op *op = graph_op(rw->in, o);
    DType dt = val_dtype(rw->in, op->out);
    bool wide = is_float(dt) && op->code == T_reduce_sum; /* sums round once, at the end */
    int64_t limit = rw->opt->row_bytes > 0 ? rw->opt->row_bytes : RUN_BYTES;
    Reduction r = {.op = (TOp)op->code, .bytes = MIN(limit, RUN_BYTES), .loc = op->loc};
    const int64_t *axes;
    int n = attr_ints(rw->in->cx, op->attr, A_axes, &axes);
    for (int i = 0; i < n; i++)
        r.axis[axes[i]] = true;
    *out = rw->map[op_val(rw->in, op, 0).i];
    if (wide)
        TRY(t_cast(rw->g, *out, DT_f32, op->loc, out));
    TRY(reduce_in_turn(rw->g, &r, axes, n, attr_int(rw->in->cx, op->attr, A_keepdims, 0) != 0, out));
    return wide ? t_cast(rw->g, *out, dt, op->loc, out) : ST_OK;
}

/* The op as it is; columns that are read twice stay two slices (pieces.c). */
static Status
keep(const Rewrite *rw, OpId o, Val *out)
{
    const Op *op = graph_op(rw->in, o);
    OpId made;
    if (op->code != T_slice)
        return rewrite_clone(rw, o, out);
    Operand in = {.v = rw->map[op_val(rw->in, op, 0).i]};
    TRY(graph_append(rw->g, op->code, &in, 1, op->attr, op->loc, &rw->in->vals.p[op->out.i].type, 1, &made));
    *out = graph_op(rw->g, made)->out;
    return ST_OK;
}

/* ---- products of many small matrices ---- */
/* How many matrices of operand 1 a product meets one after the other: dims of the batch next to the rows along which it
 * has one matrix are rows as well. */
static int64_t
matrices(const Type *res, const Type *b)
{
    int i = res->rank - 3, shift = res->rank - b->rank;
    int64_t n = 1;
    while (i >= 0 && (i < shift || b->dim[i - shift] == 1))
        i--;
    for (; i >= 0; i--)
        n *= res->dim[i];
    return n;
}

static bool
has_small_matrices(const Graph *g, const Op *op)
{
    if (op->code != T_matmul || !is_float(val_dtype(g, op->out)))
        return false;
    const Type *t = val_type(g, op->out), *a = val_type(g, op_val(g, op, 0)), *b = val_type(g, op_val(g, op, 1));
    int64_t m = t->dim[t->rank - 2], n = t->dim[t->rank - 1], k = a->dim[a->rank - 1];
    bool small = m <= MATRIX_WORK && n <= MATRIX_WORK && k <= MATRIX_WORK && m * n * k <= MATRIX_WORK;
    bool thin = matrices(t, b) == 1 && type_numel(t) / n >= THIN_ROWS && n <= THIN_WORK && k <= THIN_WORK / n;
    return k > 0 && t->rank < MAX_RANK && (thin || (small && matrices(t, b) >= MATRICES));
}

/* v in f32, with a dim of size 1 before dim `at` from the end. */
static Status
with_dim(Graph *g, Val v, int at, LocId loc, Val *out)
{
    int64_t dim[MAX_RANK];
    TRY(t_cast(g, v, DT_f32, loc, out));
    const Type *t = val_type(g, *out);
    for (int i = 0; i <= t->rank; i++)
        dim[i] = i < t->rank - at ? t->dim[i] : i == t->rank - at ? 1 : t->dim[i - 1];
    return t_reshape(g, *out, dim, t->rank + 1, loc, out);
}

/* [m, k, 1] times [1, k, n], summed over k. */
static Status
multiply_and_sum(const Rewrite *rw, OpId o, Val *out)
{
    const Op *op = graph_op(rw->in, o);
    int64_t axis = val_type(rw->in, op->out)->rank - 1;
    Val a, b;
    TRY(with_dim(rw->g, rw->map[op_val(rw->in, op, 0).i], 0, op->loc, &a));
    TRY(with_dim(rw->g, rw->map[op_val(rw->in, op, 1).i], 2, op->loc, &b));
    TRY(t_binary(rw->g, T_mul, a, b, op->loc, out));
    TRY(t_reduce_as_is(rw->g, T_reduce_sum, *out, &axis, 1, false, op->loc, out));
    return t_cast(rw->g, *out, val_dtype(rw->in, op->out), op->loc, out);
}

static Status
spread_matrices(const Rewrite *rw, OpId o, Val *out)
{
    return has_small_matrices(rw->in, graph_op(rw->in, o)) ? multiply_and_sum(rw, o, out) : keep(rw, o, out);
}

static Status
make_tilable(const Rewrite *rw, OpId o, Val *out)
{
    const Op *op = graph_op(rw->in, o);
    uint16_t flags = op_def(rw->in, op)->flags;
    if (op->nout == 0 || type_numel(val_type(rw->in, op->out)) == 0 || has_tiling(rw->in, op, rw->opt->row_bytes))
        return keep(rw, o, out);
    return flags & F_REDUCE ? stepwise(rw, o, out) : widened(rw, o, op->code == T_matmul ? 2 : 0, out);
}

static Status
tile_all(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Graph *spread;
    bool any = false;
    FOR_OPS(in, o)
        any = any || has_small_matrices(in, graph_op(in, o));
    if (!any)
        return graph_rewrite(in, opt, make_tilable, NULL, out);
    TRY(graph_rewrite(in, opt, spread_matrices, NULL, &spread));
    Status st = graph_rewrite(spread, opt, make_tilable, NULL, out);
    graph_free(spread);
    return st;
}

Status
pass_tilable(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Graph *cut;
    TRY(cut_long_rows(in, opt, &cut));
    Status st = tile_all(cut ? cut : in, opt, out);
    if (cut)
        graph_free(cut);
    return st;
}
