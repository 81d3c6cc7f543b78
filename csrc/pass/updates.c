/* updates.c - chains of updates become concatenations.
 *
 * in:   a tensor graph, what it needs only
 * out:  the same function without the op update
 * rule: one walk in program order. Of each array under change it keeps a tree of parts: a leaf is a value, a split is
 *       parts one after the other along an axis, a grid sees an axis of n as n / k rows of k, which is where steps of
 *       k write. An update goes into the tree of its base when nothing else will read the base; whoever reads more
 *       than a few parts gets the whole, made of one concat. So n writes of a row are one concat of n rows, and every
 *       update costs at most MANY parts on average.
 */
#include "pass/pass.h"

#include <string.h>

#define MANY 16        /* parts that a read or a write may touch before they are joined */
#define MAX_JOIN 16384 /* operands of one concat */

typedef enum NodeKind { N_leaf, N_split, N_grid } NodeKind;
typedef struct Node Node;
typedef struct Part {
    int64_t at; /* along the axis of the split */
    Node *node;
} Part;
struct Node {
    NodeKind kind;
    Type type;      /* shape and dtype of what it holds */
    Val val;        /* leaf */
    int axis;       /* split, grid */
    int64_t k;      /* grid: columns */
    VEC(Part) part; /* split: in order, without gaps; grid: one, whose type has the axis in two */
};

typedef struct Updates {
    uint32_t *uses; /* by value of the graph that is read: reads to come, outputs included */
    Node **tree;    /* by value: what an update that is not written out yet holds */
    bool *kept;     /* by value: an output */
} Updates;

typedef struct Site { /* where ops are made, and for which op */
    Graph *g;
    Arena *arena;
    LocId loc;
} Site;

/* ---- nodes ---- */

static Status
leaf(const Site *s, Val v, Node **out)
{
    NEW(s->g->cx, s->arena, *out, 1);
    (*out)->type = *val_type(s->g, v);
    (*out)->val = v;
    return ST_OK;
}

static int64_t
part_end(const Node *n, uint32_t i)
{
    return i + 1 < n->part.n ? n->part.p[i + 1].at : n->type.dim[n->axis];
}

/* The part that holds index x of the axis. */
static uint32_t
part_at(const Node *n, int64_t x)
{
    uint32_t lo = 0, hi = n->part.n;
    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;
        if (n->part.p[mid].at <= x)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static Status
take(const Site *s, Val x, const Box *b, Val *out)
{
    return t_slice(s->g, x, b->start, b->step, b->size, s->loc, out);
}

/* Elements [from, to) of an axis of v. */
static Status
range(const Site *s, Val v, int axis, int64_t from, int64_t to, Val *out)
{
    Box b = box_whole(val_type(s->g, v));
    b.start[axis] = from;
    b.size[axis] = to - from;
    return take(s, v, &b, out);
}

/* One concat, or a concat of some when there are too many operands for one. */
static Status
join(const Site *s, Val *v, uint32_t n, int axis, Val *out)
{
    while (n > MAX_JOIN) {
        uint32_t m = 0;
        for (uint32_t i = 0; i < n; i += MAX_JOIN)
            TRY(t_concat(s->g, v + i, (int)MIN(n - i, MAX_JOIN), axis, s->loc, &v[m++]));
        n = m;
    }
    return t_concat(s->g, v, (int)n, axis, s->loc, out);
}

/* Makes n a leaf. Trees are as deep as an array has axes. */
static Status
flatten(const Site *s, Node *n)
{
    Val *v;
    if (n->kind == N_leaf)
        return ST_OK;
    for (uint32_t i = 0; i < n->part.n; i++)
        TRY(flatten(s, n->part.p[i].node));
    if (n->kind == N_grid) {
        TRY(t_reshape(s->g, n->part.p[0].node->val, n->type.dim, n->type.rank, s->loc, &n->val));
    } else {
        NEW(s->g->cx, s->arena, v, n->part.n);
        for (uint32_t i = 0; i < n->part.n; i++)
            v[i] = n->part.p[i].node->val;
        TRY(join(s, v, n->part.n, n->axis, &n->val));
    }
    n->kind = N_leaf;
    n->part.n = 0;
    return ST_OK;
}

static Status
insert_part(const Site *s, Node *n, uint32_t i, int64_t at, Node *node)
{
    VEC_PUSH(s->g->cx, s->arena, &n->part, (Part){0});
    memmove(&n->part.p[i + 1], &n->part.p[i], sizeof(Part) * (n->part.n - 1 - i));
    n->part.p[i] = (Part){at, node};
    return ST_OK;
}

/* Makes a part begin at index x of a split's axis. */
static Status
cut(const Site *s, Node *n, int64_t x)
{
    uint32_t i = part_at(n, x);
    int64_t from = n->part.p[i].at, to = part_end(n, i);
    Node *head = n->part.p[i].node, *tail;
    Val v;
    if (from == x || x >= to)
        return ST_OK;
    TRY(flatten(s, head));
    TRY(range(s, head->val, n->axis, x - from, to - from, &v));
    TRY(leaf(s, v, &tail));
    TRY(range(s, head->val, n->axis, 0, x - from, &v));
    TRY(leaf(s, v, &n->part.p[i].node));
    return insert_part(s, n, i + 1, x, tail);
}

/* A leaf becomes a split of one part. */
static Status
split(const Site *s, Node *n, int axis)
{
    Node *only;
    TRY(leaf(s, n->val, &only));
    n->kind = N_split;
    n->axis = axis;
    n->part.n = 0;
    return insert_part(s, n, 0, 0, only);
}

/* ---- boxes ---- */

/* The part of box b that lies in [from, to) of an axis: in coordinates that begin there, and which of its elements. */
static bool
clip(const Box *b, int axis, int64_t from, int64_t to, Box *in, int64_t *first)
{
    int64_t start = b->start[axis], step = b->step[axis], size = b->size[axis];
    int64_t lo = start >= from ? 0 : (from - start + step - 1) / step;
    int64_t hi = to > start ? MIN(size, (to - start + step - 1) / step) : 0;
    *in = *b;
    *first = lo;
    in->start[axis] = start + lo * step - from;
    in->size[axis] = MAX(hi - lo, 0);
    return hi > lo;
}

/* Box b in the coordinates of a grid; false when it is no box there. */
static bool
on_grid(const Node *n, const Box *b, Box *out)
{
    int a = n->axis;
    int64_t k = n->k, start = b->start[a], step = b->step[a], size = b->size[a], row = start / k, col = start % k;
    int64_t rows, cols, by = 1;
    if (size == 1) {
        rows = cols = 1;
    } else if (step % k == 0) {
        rows = size;
        by = step / k;
        cols = 1;
    } else if (step == 1 && col == 0 && size % k == 0) {
        rows = size / k;
        cols = k;
    } else if (step == 1 && col + size <= k) {
        rows = 1;
        cols = size;
    } else {
        return false;
    }
    *out = (Box){.rank = b->rank + 1};
    for (int i = 0; i < b->rank; i++) {
        int to = i + (i > a);
        out->start[to] = b->start[i];
        out->step[to] = b->step[i];
        out->size[to] = b->size[i];
    }
    out->start[a] = row;
    out->step[a] = rows > 1 ? by : 1;
    out->size[a] = rows;
    out->start[a + 1] = col;
    out->step[a + 1] = 1;
    out->size[a + 1] = cols;
    return true;
}

/* A leaf of rows of k becomes a grid. */
static Status
make_grid(const Site *s, Node *n, int axis, int64_t k)
{
    int64_t dim[MAX_RANK];
    Node *cells;
    Val v;
    for (int i = 0; i <= n->type.rank; i++)
        dim[i] = i < axis ? n->type.dim[i] : i > axis + 1 ? n->type.dim[i - 1] : i == axis ? n->type.dim[axis] / k : k;
    TRY(t_reshape(s->g, n->val, dim, n->type.rank + 1, s->loc, &v));
    TRY(leaf(s, v, &cells));
    n->kind = N_grid;
    n->axis = axis;
    n->k = k;
    n->part.n = 0;
    return insert_part(s, n, 0, 0, cells);
}

/* ---- writing ---- */

static Status put(const Site *s, Node *n, const Box *b, Val v);

static int
first_partial(const Node *n, const Box *b, int from)
{
    for (int i = from; i < n->type.rank; i++)
        if (!box_covers(b, i, n->type.dim[i]))
            return i;
    return -1;
}

/* One value instead of the parts [from, to). */
static Status
replace(const Site *s, Node *n, uint32_t from, uint32_t to, Val v)
{
    TRY(leaf(s, v, &n->part.p[from].node));
    memmove(&n->part.p[from + 1], &n->part.p[to], sizeof(Part) * (n->part.n - to));
    n->part.n -= to - from - 1;
    return ST_OK;
}

static Status
put_parts(const Site *s, Node *n, uint32_t from, uint32_t to, const Box *b, Val v)
{
    for (uint32_t i = from; i < to; i++) {
        Box in;
        int64_t first;
        Val part;
        if (!clip(b, n->axis, n->part.p[i].at, part_end(n, i), &in, &first))
            continue;
        TRY(range(s, v, n->axis, first, first + in.size[n->axis], &part));
        TRY(put(s, n->part.p[i].node, &in, part));
    }
    return ST_OK;
}

static Status
put_split(const Site *s, Node *n, const Box *b, Val v)
{
    int a = n->axis;
    int64_t lo = b->start[a], end = lo + b->step[a] * (b->size[a] - 1) + 1;
    bool dense = b->step[a] == 1 || b->size[a] == 1;
    if (dense) {
        TRY(cut(s, n, lo));
        TRY(cut(s, n, end));
    }
    uint32_t from = part_at(n, lo), to = part_at(n, end - 1) + 1;
    Box rest = *b;
    rest.start[a] = 0;
    rest.size[a] = n->type.dim[a];
    rest.step[a] = 1;
    if (dense && first_partial(n, &rest, 0) < 0)
        return replace(s, n, from, to, v);
    if (to - from <= MANY)
        return put_parts(s, n, from, to, b, v);
    TRY(flatten(s, n));
    return put(s, n, b, v);
}

/* Element by element of an axis, where there is no room for the axis of a grid. */
static Status
put_singly(const Site *s, Node *n, int axis, const Box *b, Val v)
{
    Box one = *b;
    one.size[axis] = one.step[axis] = 1;
    for (int64_t i = 0; i < b->size[axis]; i++, one.start[axis] += b->step[axis]) {
        Val part;
        TRY(range(s, v, axis, i, i + 1, &part));
        TRY(put(s, n, &one, part));
    }
    return ST_OK;
}

static Status
put_leaf(const Site *s, Node *n, const Box *b, Val v)
{
    int a = first_partial(n, b, 0);
    int64_t k = b->size[a] > 1 ? b->step[a] : 1, tail = n->type.dim[a] % k;
    if (k == 1 || tail) { /* the rows of a grid are whole */
        TRY(split(s, n, a));
        TRY(cut(s, n, n->type.dim[a] - tail));
        return put_split(s, n, b, v);
    }
    if (n->type.rank == MAX_RANK)
        return put_singly(s, n, a, b, v);
    TRY(make_grid(s, n, a, k));
    return put(s, n, b, v);
}

/* Writes v, of the shape of b, at b. */
static Status
put(const Site *s, Node *n, const Box *b, Val v)
{
    Box cells;
    if (first_partial(n, b, 0) < 0) {
        n->kind = N_leaf;
        n->part.n = 0;
        n->val = v;
        return ST_OK;
    }
    if (n->kind == N_split)
        return put_split(s, n, b, v);
    if (n->kind == N_grid && on_grid(n, b, &cells)) {
        TRY(t_reshape(s->g, v, cells.size, cells.rank, s->loc, &v));
        return put(s, n->part.p[0].node, &cells, v);
    }
    TRY(flatten(s, n));
    return put_leaf(s, n, b, v);
}

/* ---- reading ---- */

static Status get(const Site *s, Node *n, const Box *b, Val *out);

static Status
get_split(const Site *s, Node *n, const Box *b, Val *out)
{
    int a = n->axis;
    uint32_t from = part_at(n, b->start[a]), to = part_at(n, b->start[a] + b->step[a] * (b->size[a] - 1)) + 1;
    Val v[MANY];
    uint32_t m = 0;
    if (to - from > MANY) {
        TRY(flatten(s, n));
        return take(s, n->val, b, out);
    }
    for (uint32_t i = from; i < to; i++) {
        Box in;
        int64_t first;
        if (clip(b, a, n->part.p[i].at, part_end(n, i), &in, &first))
            TRY(get(s, n->part.p[i].node, &in, &v[m++]));
    }
    return t_concat(s->g, v, (int)m, a, s->loc, out);
}

/* Reads b, whose steps are positive. */
static Status
get(const Site *s, Node *n, const Box *b, Val *out)
{
    Box cells;
    bool all = first_partial(n, b, 0) < 0;
    if (!all && n->kind == N_split)
        return get_split(s, n, b, out);
    if (!all && n->kind == N_grid && on_grid(n, b, &cells)) {
        TRY(get(s, n->part.p[0].node, &cells, out));
        return t_reshape(s->g, *out, b->size, b->rank, s->loc, out);
    }
    TRY(flatten(s, n));
    return take(s, n->val, b, out);
}

static Status
get_any(const Site *s, Node *n, Box b, Val *out)
{
    Box flip = {.rank = b.rank};
    for (int i = 0; i < b.rank; i++) {
        flip.size[i] = b.size[i];
        flip.step[i] = 1;
        if (b.size[i] > 1 && b.step[i] < 0) {
            b.start[i] += b.step[i] * (b.size[i] - 1);
            b.step[i] = -b.step[i];
            flip.start[i] = b.size[i] - 1;
            flip.step[i] = -1;
        }
    }
    TRY(get(s, n, &b, out));
    return take(s, *out, &flip, out);
}

/* ---- the walk ---- */

static Status
write_out(const Rewrite *rw, const Site *s, Val v)
{
    const Updates *u = rw->env;
    if (rw->map[v.i].i || !u->tree[v.i])
        return ST_OK;
    TRY(flatten(s, u->tree[v.i]));
    rw->map[v.i] = u->tree[v.i]->val;
    return ST_OK;
}

static Status
resolve_update(const Rewrite *rw, const Site *s, const Op *op)
{
    Updates *u = rw->env;
    Val base = op_val(rw->in, op, 0), value = op_val(rw->in, op, 1);
    bool last = u->uses[base.i] == 1 && !rw->map[base.i].i;
    Node *n = u->tree[base.i];
    Box b = box_of(rw->in, op);
    TRY(write_out(rw, s, value));
    if (type_numel(val_type(rw->in, value)) == 0) {
        TRY(write_out(rw, s, base));
        rw->map[op->out.i] = rw->map[base.i];
        return ST_OK;
    }
    if (!n || !last) {
        TRY(write_out(rw, s, base));
        TRY(leaf(s, rw->map[base.i], &n));
    }
    u->tree[op->out.i] = n;
    return put(s, n, &b, rw->map[value.i]);
}

static Status
resolve(const Rewrite *rw, OpId o, Val *out)
{
    Updates *u = rw->env;
    const Op *op = graph_op(rw->in, o);
    const Site s = {rw->g, &rw->in->cx->scratch, op->loc};
    Val x = op->nin ? op_val(rw->in, op, 0) : (Val){0};
    if (op->code == T_update) {
        TRY(resolve_update(rw, &s, op));
        if (u->kept[op->out.i])
            TRY(write_out(rw, &s, op->out));
    } else if (op->code == T_slice && u->tree[x.i] && !rw->map[x.i].i && type_numel(val_type(rw->in, op->out))) {
        TRY(get_any(&s, u->tree[x.i], box_of(rw->in, op), out));
    } else {
        for (int i = 0; i < op->nin; i++)
            TRY(write_out(rw, &s, op_val(rw->in, op, i)));
        TRY(rewrite_clone(rw, o, out));
    }
    for (int i = 0; i < op->nin; i++)
        u->uses[op_val(rw->in, op, i).i]--;
    return ST_OK;
}

Status
resolve_updates(const Graph *in, const bool *live, const CompileOptions *opt, Graph **out)
{
    Updates u;
    NEW(in->cx, &in->cx->scratch, u.uses, in->vals.n);
    NEW(in->cx, &in->cx->scratch, u.tree, in->vals.n);
    NEW(in->cx, &in->cx->scratch, u.kept, in->vals.n);
    FOR_OPS(in, o)
        for (int i = 0; live[o.i] && i < graph_op(in, o)->nin; i++)
            u.uses[op_val(in, graph_op(in, o), i).i]++;
    for (uint32_t i = 0; i < in->outputs.n; i++) {
        u.uses[in->outputs.p[i].i]++;
        u.kept[in->outputs.p[i].i] = true;
    }
    return graph_rewrite(in, opt, resolve, &u, out);
}
