/* pieces.c - rows that are too long for a partition are computed in pieces of columns.
 *
 * in:   a decomposed tensor graph, and the limits that groups are formed under
 * out:  the same function; a long row is some slices of it, and what reads all of it reads their concat
 * rule: values that element-wise ops tie together are cut alike, and only where rows are wanted: one of them is reduced
 *       along its rows, comes from a product, or meets an operand that repeats along the rows or within them. A
 * reduction of the rows is one of each piece, then one of what these left. One piece is computed after the other, up to
 * what is reduced or read whole. Rows that do not fit on chip in all their pieces are read, and computed, once more
 *       behind each reduction, so that no piece waits for it; products are not.
 */
#include "pass/pass.h"

#include <stdlib.h>

#define LEAST_ROWS 64     /* fewer leave most partitions idle: such columns had better be the rows of a group */
#define LONG_ROW 65536    /* bytes; longer ones and their copies leave no room on chip */
#define LONG_COLUMNS 8192 /* elements that rows share and that a group keeps; from twice as many on a row is long */
#define PIECE_BYTES 16384 /* long DMAs, and short enough that engines overlap */
#define MAX_PIECES 64     /* then pieces grow, */
#define MOST_BYTES 49152  /* up to this */

typedef struct Tied { /* values that are cut alike */
    bool wanted;      /* rows are */
    bool product;     /* one of them is a product */
    int64_t width;    /* bytes of an element of the widest */
} Tied;

typedef struct Pieces {
    const Graph *in;
    const Hw *hw;
    uint32_t *group;           /* by value: the first value that it is tied to; 0: its rows are not long */
    Tied *tied;                /* by such a first value */
    uint32_t *level;           /* by value: how many reductions of rows it takes to compute it, one after the other */
    uint32_t *made;            /* by value: 1 + the level that `piece` is for; 0: there is none */
    Val **piece;               /* by value: what it became */
    bool *output;              /* by value: the caller gets it */
    VEC(uint32_t) todo, stack; /* values that are to be computed */
    int64_t least;             /* bytes of a row that is long */
    bool tight;                /* a plan did not fit before */
} Pieces;

/* ---- which ---- */
static int64_t
columns_of(const Type *t)
{
    return t->rank ? t->dim[t->rank - 1] : 1;
}

static bool
is_long(const Pieces *p, const Type *t)
{
    int64_t n = columns_of(t), bytes = MAX(dtypes[t->dtype].bytes, 2);
    return t->rank > 1 && (n > 2 * LONG_COLUMNS || n * bytes > p->least) && type_numel(t) >= n * LEAST_ROWS;
}

static uint32_t
find(Pieces *p, Val v)
{
    uint32_t at = v.i;
    while (p->group[at] != at)
        at = p->group[at] = p->group[p->group[at]];
    return at;
}

static void
tie(Pieces *p, Val a, Val b)
{
    uint32_t x = find(p, a), y = find(p, b), first = MIN(x, y);
    Tied *s = &p->tied[x], *t = &p->tied[y];
    p->group[MAX(x, y)] = first;
    p->tied[first] = (Tied){s->wanted || t->wanted, s->product || t->product, MAX(s->width, t->width)};
}

/* Element-wise: tied to its operands; rows are wanted where not all of them have the same elements. */
static void
tie_operands(Pieces *p, const Op *op)
{
    const Graph *g = p->in;
    const Type *t = val_type(g, op->out);
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(g, op, i);
        const Type *o = val_type(g, u);
        if (p->group[u.i] && columns_of(o) == columns_of(t))
            tie(p, op->out, u);
        bool repeats = type_numel(o) != type_numel(t) && type_numel(o) > 1;
        p->tied[find(p, op->out)].wanted |= repeats || val_def(g, u)->code == T_matmul;
    }
}

static bool
reduces_rows(const Graph *g, const Op *op)
{
    const int64_t *axes;
    if (!(op_def(g, op)->flags & F_REDUCE))
        return false;
    int n = attr_ints(g->cx, op->attr, A_axes, &axes), last = val_type(g, op_val(g, op, 0))->rank - 1;
    return n > 0 && axes[n - 1] == last;
}

static void
look_at(Pieces *p, const Op *op)
{
    const Graph *g = p->in;
    Val v = op->out, u = op->nin ? op_val(g, op, 0) : (Val){0};
    if (is_long(p, val_type(g, v))) {
        p->group[v.i] = v.i;
        p->tied[v.i] = (Tied){false, op->code == T_matmul, MAX(dtypes[val_dtype(g, v)].bytes, 2)};
        if (op_def(g, op)->flags & F_EW)
            tie_operands(p, op);
        if (op->code == T_matmul && p->group[op_val(g, op, 1).i]) /* its columns are the product's */
            tie(p, v, op_val(g, op, 1));
    }
    for (int i = 0; i < op->nin; i++)
        p->level[v.i] = MAX(p->level[v.i], p->level[op_val(g, op, i).i]);
    if (op->nin && p->group[u.i] && reduces_rows(g, op)) {
        p->tied[find(p, u)].wanted = true;
        p->level[v.i]++;
    }
}

static Status
find_long_rows(const CompileOptions *opt, Pieces *p, bool *any)
{
    const Graph *g = p->in;
    Arena *a = &g->cx->scratch;
    NEW(g->cx, a, p->group, g->vals.n);
    NEW(g->cx, a, p->tied, g->vals.n);
    NEW(g->cx, a, p->level, g->vals.n);
    NEW(g->cx, a, p->made, g->vals.n);
    NEW(g->cx, a, p->piece, g->vals.n);
    NEW(g->cx, a, p->output, g->vals.n);
    p->tight = opt->row_bytes > 0;
    p->least = p->tight ? MIN(opt->row_bytes, LONG_ROW) : LONG_ROW;
    for (uint32_t i = 0; i < g->outputs.n; i++)
        p->output[g->outputs.p[i].i] = true;
    FOR_OPS(g, o)
        if (graph_op(g, o)->nout)
            look_at(p, graph_op(g, o));
    for (uint32_t v = 1; v < g->vals.n; v++)
        *any |= p->group[v] && p->tied[find(p, (Val){v})].wanted;
    return ST_OK;
}

/* Has pieces: computed by them, or cut where it is read. */
static bool
is_cut(Pieces *p, Val v)
{
    return p->group[v.i] && p->tied[find(p, v)].wanted;
}

static bool
is_made_of_pieces(Pieces *p, Val v)
{
    const Op *op = val_def(p->in, v);
    return is_cut(p, v) && ((op_def(p->in, op)->flags & F_EW) || op->code == T_matmul);
}

/* ---- what they become ---- */
typedef struct Cut { /* of n columns */
    int64_t n, size, count;
} Cut;

static Cut
cut_of(Pieces *p, Val v)
{
    int64_t n = columns_of(val_type(p->in, v)), bytes = p->tied[find(p, v)].width;
    int64_t most = MIN(MAX(CEIL_DIV(n * bytes, MAX_PIECES), PIECE_BYTES), MIN(MOST_BYTES, p->least));
    Cut c = {.n = n, .count = CEIL_DIV(n * bytes, most)};
    c.size = CEIL_DIV(n, c.count);
    c.count = CEIL_DIV(n, c.size);
    return c;
}

/* Where v is wanted behind so many reductions, pieces made for fewer will not do. */
static uint32_t
stage_of(Pieces *p, Val v, uint32_t level)
{
    const Tied *t = &p->tied[find(p, v)];
    bool fits = !p->tight && columns_of(val_type(p->in, v)) * t->width <= (int64_t)p->hw->sbuf_usable;
    return fits || t->product ? 1 : 1 + level;
}

/* Columns of v, which is one value; not shared with those of another stage. */
static Status
columns(const Rewrite *rw, Val v, Cut c, int64_t i, bool anew, LocId loc, Val *out)
{
    const Type *t = val_type(rw->g, v);
    int64_t start[MAX_RANK] = {0}, step[MAX_RANK], size[MAX_RANK];
    for (int d = 0; d < t->rank; d++) {
        step[d] = 1;
        size[d] = t->dim[d];
    }
    start[t->rank - 1] = i * c.size;
    size[t->rank - 1] = MIN(c.size, c.n - i * c.size);
    TRY(t_slice(rw->g, v, start, step, size, loc, out));
    const Op op = *val_def(rw->g, *out);
    if (!anew || op.code != T_slice)
        return ST_OK;
    OpId again;
    Operand in = {.v = op_val(rw->g, &op, 0)};
    TRY(graph_append(rw->g, op.code, &in, 1, op.attr, loc, &rw->g->vals.p[out->i].type, 1, &again));
    *out = graph_op(rw->g, again)->out;
    return ST_OK;
}

/* Operand k of op, which is computed for piece i. */
static Status
operand_piece(const Rewrite *rw, const Op *op, int k, Cut c, int64_t i, Val *out)
{
    Pieces *p = rw->env;
    Val u = op_val(rw->in, op, k);
    bool whole = op->code == T_matmul && k == 0;
    *out = rw->map[u.i];
    if (!whole && is_cut(p, u) && columns_of(val_type(rw->in, u)) == c.n)
        *out = p->piece[u.i][i];
    else if (!whole && columns_of(val_type(rw->in, u)) == c.n)
        return columns(rw, *out, c, i, false, op->loc, out);
    return ST_OK;
}

static Status
make_piece(const Rewrite *rw, Val v, Cut c, int64_t i, Val *out)
{
    Pieces *p = rw->env;
    const Op *op = val_def(rw->in, v);
    Val in[3];
    if (!is_made_of_pieces(p, v))
        return columns(rw, rw->map[v.i], c, i, p->made[v.i] > 1, op->loc, out);
    for (int k = 0; k < op->nin; k++)
        TRY(operand_piece(rw, op, k, c, i, &in[k]));
    if (op->code == T_matmul)
        return t_matmul(rw->g, in[0], in[1], op->loc, out);
    return t_emit(rw->g, (TOp)op->code, in, op->nin, op->attr, op->loc, out);
}

static int
by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Everything that v is made of and that is not there at this stage, in order. */
static Status
collect(const Rewrite *rw, Val v, uint32_t stage)
{
    Pieces *p = rw->env;
    Ctx *cx = rw->in->cx;
    p->todo.n = p->stack.n = 0;
    VEC_PUSH(cx, &cx->scratch, &p->stack, v.i);
    while (p->stack.n > 0) {
        Val at = {p->stack.p[--p->stack.n]};
        const Op *op = val_def(rw->in, at);
        if (p->made[at.i] == stage)
            continue;
        p->made[at.i] = stage;
        VEC_PUSH(cx, &cx->scratch, &p->todo, at.i);
        for (int k = op->code == T_matmul; is_made_of_pieces(p, at) && k < op->nin; k++) {
            Val u = op_val(rw->in, op, k);
            if (is_cut(p, u) && columns_of(val_type(rw->in, u)) == columns_of(val_type(rw->in, at)))
                VEC_PUSH(cx, &cx->scratch, &p->stack, u.i);
        }
    }
    qsort(p->todo.p, p->todo.n, sizeof *p->todo.p, by_number);
    return ST_OK;
}

static Status
make_pieces(const Rewrite *rw, Val v, uint32_t level)
{
    Pieces *p = rw->env;
    Cut c = cut_of(p, v);
    TRY(collect(rw, v, stage_of(p, v, level)));
    for (uint32_t k = 0; k < p->todo.n; k++)
        if (!p->piece[p->todo.p[k]])
            NEW(rw->in->cx, &rw->in->cx->scratch, p->piece[p->todo.p[k]], (uint32_t)c.count);
    for (int64_t i = 0; i < c.count; i++)
        for (uint32_t k = 0; k < p->todo.n; k++)
            TRY(make_piece(rw, (Val){p->todo.p[k]}, c, i, &p->piece[p->todo.p[k]][i]));
    return ST_OK;
}

static Status
whole_of(const Rewrite *rw, Val v)
{
    Pieces *p = rw->env;
    if (rw->map[v.i].i || !is_made_of_pieces(p, v))
        return ST_OK;
    TRY(make_pieces(rw, v, p->level[v.i]));
    return t_concat(rw->g, p->piece[v.i], (int)cut_of(p, v).count, val_type(rw->in, v)->rank - 1,
                    val_def(rw->in, v)->loc, &rw->map[v.i]);
}

/* Each piece, then what they left: of the rows, the same again, and of other axes the columns of the result. */
static Status
reduce_pieces(const Rewrite *rw, const Op *op, Val *out)
{
    Pieces *p = rw->env;
    const Graph *in = rw->in;
    Val v = op_val(in, op, 0), *part;
    Cut c = cut_of(p, v);
    int64_t last = val_type(in, v)->rank - 1;
    bool rows = reduces_rows(in, op), keep = attr_int(in->cx, op->attr, A_keepdims, 0) != 0;
    DType dt = val_dtype(in, op->out);
    bool wide = rows && op->code == T_reduce_sum && is_float(dt); /* sums round once, at the end */
    const int64_t *axes;
    int n = attr_ints(in->cx, op->attr, A_axes, &axes);
    TRY(make_pieces(rw, v, p->level[v.i]));
    NEW(in->cx, &in->cx->scratch, part, (uint32_t)c.count);
    for (int64_t i = 0; i < c.count; i++) {
        part[i] = p->piece[v.i][i];
        if (wide)
            TRY(t_cast(rw->g, part[i], DT_f32, op->loc, &part[i]));
        TRY(t_reduce_as_is(rw->g, (TOp)op->code, part[i], rows ? &last : axes, rows ? 1 : n, rows || keep, op->loc,
                           &part[i]));
    }
    int64_t axis = rows ? last : val_type(in, op->out)->rank - 1;
    TRY(t_concat(rw->g, part, (int)c.count, axis, op->loc, out));
    if (rows)
        TRY(t_reduce_as_is(rw->g, (TOp)op->code, *out, axes, n, keep, op->loc, out));
    return wide ? t_cast(rw->g, *out, dt, op->loc, out) : ST_OK;
}

/* What pieces are made from and is one value. */
static Status
cut_rows(const Rewrite *rw, OpId o, Val *out)
{
    Pieces *p = rw->env;
    const Graph *in = rw->in;
    const Op *op = graph_op(in, o);
    if (op->nout && is_made_of_pieces(p, op->out)) {
        if (op->code == T_matmul)
            TRY(whole_of(rw, op_val(in, op, 0)));
        return p->output[op->out.i] ? whole_of(rw, op->out) : ST_OK;
    }
    if ((op_def(in, op)->flags & F_REDUCE) && is_cut(p, op_val(in, op, 0)))
        return reduce_pieces(rw, op, out);
    for (int i = 0; i < op->nin; i++)
        TRY(whole_of(rw, op_val(in, op, i)));
    return rewrite_clone(rw, o, out);
}

Status
cut_long_rows(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Pieces p = {.in = in, .hw = hw_get(opt->target)};
    bool any = false;
    *out = NULL;
    TRY(find_long_rows(opt, &p, &any));
    return any ? graph_rewrite(in, opt, cut_rows, &p, out) : ST_OK;
}
