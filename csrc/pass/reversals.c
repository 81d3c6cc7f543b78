/* reversals.c - slices with negative steps become what patterns with positive strides can do.
 *
 * in:   a decomposed tensor graph
 * out:  the same function; steps are positive, but for those of a slice that moves long runs, which lower/reverse.c
 *       takes through the lanes of a partition shuffle
 * rule: the axis is read forwards, then turned around. With few enough bytes in a row, on chip: n as a product of
 *       digits, and for each digit a concat of its slices, the last one first. With long runs behind it, in HBM: the
 *       runs are parts of a concat when there are few of them, else they stay such a slice. Any other axis is split
 * into runs, and the slice turns both: the runs among each other, and each within itself.
 */
#include "lower/digits.h"
#include "pass/pass.h"

#define FAR_PARTS 64     /* parts of a concat in HBM, where other dims fill the partitions */
#define NARROW_ROW 8192  /* bytes of a row turned around on chip: whatever the limit of groups, */
#define WIDE_ROW 16384   /* and with rows enough */
#define FAR_BYTES 512    /* of a run that a DMA moves at its full rate, */
#define FEW_RUNS 2048    /* and runs so few that it does not matter, */
#define FEW_BYTES 16     /* with this many bytes */

typedef struct Axis {
    int at;
    int64_t n, before, run; /* its size, elements before it, bytes behind it */
} Axis;

typedef enum Way { W_near, W_parts, W_shuffle, W_split } Way;

static Axis
axis_of(const Graph *g, Val v, int at)
{
    const Type *t = val_type(g, v);
    Axis a = {.at = at, .n = t->dim[at], .before = 1, .run = MAX(dtypes[t->dtype].bytes, 2)};
    for (int i = 0; i < t->rank; i++) {
        a.before *= i < at ? t->dim[i] : 1;
        a.run *= i > at ? t->dim[i] : 1;
    }
    return a;
}

static int64_t
row_limit(const Axis *a)
{
    return a->before >= MANY_ROWS ? WIDE_ROW : NARROW_ROW;
}

static Way
way_of(const Axis *a)
{
    if (a->n * a->run <= row_limit(a))
        return W_near;
    if (a->n <= (a->before >= MANY_ROWS ? FAR_PARTS : DIGIT))
        return W_parts;
    bool few = a->before * a->n <= FEW_RUNS && a->run >= FEW_BYTES;
    return few || a->run >= FAR_BYTES ? W_shuffle : W_split;
}

/* Elements [from, from + n) of an axis. */
static Status
part_of(Graph *g, Val v, int axis, int64_t from, int64_t n, LocId loc, Val *out)
{
    const Type *t = val_type(g, v);
    int64_t start[MAX_RANK] = {0}, step[MAX_RANK], size[MAX_RANK];
    for (int i = 0; i < t->rank; i++) {
        step[i] = 1;
        size[i] = t->dim[i];
    }
    start[axis] = from;
    size[axis] = n;
    return t_slice(g, v, start, step, size, loc, out);
}

/* The axis as a concat of its elements, the last one first. */
static Status
turn_parts(Graph *g, Val v, int axis, LocId loc, Val *out)
{
    Val part[FAR_PARTS];
    int n = (int)val_type(g, v)->dim[axis];
    for (int i = 0; i < n; i++)
        TRY(part_of(g, v, axis, n - 1 - i, 1, loc, &part[i]));
    return t_concat(g, part, n, axis, loc, out);
}

/* v with dims mid[0 .. n) in the place of an axis, and where they begin: the dims around it are one each when there would
 * be too many. */
static Status
split_axis(Graph *g, Val v, int axis, const int64_t *mid, int n, LocId loc, int *at, Val *out)
{
    const Type *t = val_type(g, v);
    int64_t dim[MAX_RANK], before = 1, after = 1;
    int rank = 0;
    bool fits = t->rank - 1 + n <= MAX_RANK;
    for (int i = 0; i < t->rank; i++)
        *(i < axis ? &before : &after) *= i == axis ? 1 : t->dim[i];
    if (!fits)
        dim[rank++] = before;
    for (int i = 0; fits && i < axis; i++)
        dim[rank++] = t->dim[i];
    *at = rank;
    for (int i = 0; i < n; i++)
        dim[rank++] = mid[i];
    if (!fits)
        dim[rank++] = after;
    for (int i = axis + 1; fits && i < t->rank; i++)
        dim[rank++] = t->dim[i];
    return t_reshape(g, v, dim, rank, loc, out);
}

/* An axis of digits: each is turned around by itself. */
static Status
turn_digits(Graph *g, Val v, int axis, LocId loc, Val *out)
{
    const Type *t = val_type(g, v);
    int64_t digit[MAX_DIGITS], before = 1, n = t->dim[axis], dim[MAX_RANK];
    int k = digits_of(n, digit), rank = t->rank, at;
    for (int i = 0; i < rank; i++)
        dim[i] = t->dim[i];
    *out = v;
    for (int i = 0; i < k; i++) {
        int64_t mid[3] = {before, digit[i], n / before / digit[i]};
        TRY(split_axis(g, *out, axis, mid, 3, loc, &at, out));
        TRY(turn_parts(g, *out, at + 1, loc, out));
        TRY(t_reshape(g, *out, dim, rank, loc, out));
        before *= digit[i];
    }
    return ST_OK;
}

/* The largest piece with digits, then what is left of the axis; each is more than half of what there is. */
static Status
turn_near(Graph *g, Val v, int axis, LocId loc, Val *out)
{
    int64_t n = val_type(g, v)->dim[axis];
    Val piece[64];
    int first = COUNT_OF(piece);
    for (int64_t from = 0, size; from < n; from += size) {
        Val *p = &piece[--first];
        size = smooth_below(n - from);
        TRY(part_of(g, v, axis, from, size, loc, p));
        TRY(turn_digits(g, *p, axis, loc, p));
    }
    return t_concat(g, piece + first, COUNT_OF(piece) - first, axis, loc, out);
}

/* The axes of a set, in a slice. */
static Status
turn_runs(Graph *g, Val v, uint32_t axes, LocId loc, Val *out)
{
    const Type *t = val_type(g, v);
    int64_t start[MAX_RANK], step[MAX_RANK], size[MAX_RANK];
    for (int i = 0; i < t->rank; i++) {
        bool turned = axes >> i & 1;
        size[i] = t->dim[i];
        step[i] = turned ? -1 : 1;
        start[i] = turned ? size[i] - 1 : 0;
    }
    return t_slice(g, v, start, step, size, loc, out);
}

/* Whole runs in one move, and what is left by itself. */
static Status
turn_split(Graph *g, Val v, int axis, LocId loc, Val *out)
{
    Axis a = axis_of(g, v, axis);
    int64_t run = run_to_turn(a.n, a.before, a.run), head = a.n / run * run;
    Val part[2]; /* of the result */
    TRY(part_of(g, v, axis, 0, head, loc, &part[1]));
    TRY(turn_runs(g, part[1], 1u << axis, loc, &part[1]));
    *out = part[1];
    if (head == a.n)
        return ST_OK;
    TRY(part_of(g, v, axis, head, a.n - head, loc, &part[0]));
    TRY(turn_near(g, part[0], axis, loc, &part[0]));
    return t_concat(g, part, 2, axis, loc, out);
}

static Status
turn_way(Graph *g, Val v, int axis, Way way, LocId loc, Val *out)
{
    switch (way) {
    case W_parts:
        return turn_parts(g, v, axis, loc, out);
    case W_split:
        return turn_split(g, v, axis, loc, out);
    default:
        return turn_near(g, v, axis, loc, out);
    }
}

/* The axes of a set turned around: what takes parts first, on chip last, so that what is written last has the shape. */
static Status
turn_axes(Graph *g, Val v, uint32_t axes, LocId loc, Val *out)
{
    static const Way order[] = {W_parts, W_shuffle, W_split, W_near};
    int rank = val_type(g, v)->rank;
    uint32_t by_way[W_split + 1] = {0};
    for (int i = 0; i < rank; i++) {
        Axis a = axis_of(g, v, i);
        if (axes >> i & 1)
            by_way[way_of(&a)] |= 1u << i;
    }
    *out = v;
    for (int k = 0; k < COUNT_OF(order); k++) {
        uint32_t now = by_way[order[k]];
        if (order[k] == W_shuffle)
            TRY(turn_runs(g, *out, now, loc, out));
        for (int i = 0; order[k] != W_shuffle && i < rank; i++)
            if (now >> i & 1)
                TRY(turn_way(g, *out, i, order[k], loc, out));
    }
    return ST_OK;
}

static Status
read_forwards(const Rewrite *rw, OpId o, Val *out)
{
    const Graph *in = rw->in;
    const Op *op = graph_op(in, o);
    uint32_t axes = backward_axes(in, op);
    if (!axes)
        return rewrite_clone(rw, o, out);
    const int64_t *start, *step, *size;
    int64_t from[MAX_RANK], by[MAX_RANK];
    attr_ints(in->cx, op->attr, A_start, &start);
    attr_ints(in->cx, op->attr, A_step, &step);
    for (int i = attr_ints(in->cx, op->attr, A_size, &size); i-- > 0;) {
        bool back = axes >> i & 1;
        from[i] = back ? start[i] + step[i] * (size[i] - 1) : start[i];
        by[i] = back ? -step[i] : step[i];
    }
    TRY(t_slice(rw->g, rw->map[op_val(in, op, 0).i], from, by, size, op->loc, out));
    return turn_axes(rw->g, *out, axes, op->loc, out);
}

Status
pass_reversals(const Graph *in, const CompileOptions *opt, Graph **out)
{
    return graph_rewrite(in, opt, read_forwards, NULL, out);
}
