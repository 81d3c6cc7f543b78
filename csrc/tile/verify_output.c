/* verify_output.c - the program's interface: inputs and outputs complete, every output written in full.
 *
 * A write under loops is a lattice of elements: (count, stride) per dim and per loop. When it is a box in the output's
 * own axes, the boxes of all writes are laid on the grid of their edges, and an empty cell is a gap. When one of them
 * is no box, the set of what was written (cover.c) says what is missing, as long as it is small enough to be exact.
 */
#include "tile/verify.h"

#include <stdlib.h>

enum { MAX_AXES = MAX_RANK };

typedef struct Axes { /* outermost first; no axis of size 1 */
    int64_t size[MAX_AXES], stride[MAX_AXES];
    int n;
} Axes;

typedef struct Box {
    int64_t lo[MAX_AXES], hi[MAX_AXES];
} Box;

/* ---- interface ---- */

/* That the indices are 0 to n - 1, each once, is graph_check's rule. */
void
check_interface(Check *c)
{
    const Graph *g = c->g;
    for (uint32_t k = 0; k < g->outputs.n && !is_full(c); k++) {
        const VInfo *v = &c->val[g->outputs.p[k].i];
        const Op *decl = graph_op(g, (OpId){v->decl});
        if (v->is != V_BUFFER || v->kind != BK_output || attr_int(c->cx, decl->attr, A_index, -1) != k)
            report_at(c, (OpId){v->decl}, "interface",
                      "NKI-3071 returned as output %u, but it is not the output with index=%u", k, k);
    }
}

/* ---- from a write to a box ---- */

static Axes
axes_of(const Type *t)
{
    Axes x = {.n = 0};
    int64_t stride = 1;
    for (int i = 0; i < t->rank; i++)
        x.n += t->dim[i] != 1;
    for (int i = t->rank - 1, k = x.n; i >= 0; i--) {
        if (t->dim[i] == 1)
            continue;
        x.size[--k] = t->dim[i];
        x.stride[k] = stride;
        stride *= t->dim[i];
    }
    return x;
}

/* The axis on which a step of `stride` stays; -1: none. */
static int
axis_of(const Axes *x, int64_t stride)
{
    for (int i = 0; i < x->n; i++) {
        if (stride % x->stride[i] == 0 && stride / x->stride[i] < x->size[i])
            return i;
    }
    return -1;
}

/* Splits axes so that each stride of the lattice is the stride of an axis, where it divides. */
static void
refine_axes(Axes *x, const Lattice *l)
{
    for (int d = 0; d < l->n; d++) {
        int i = axis_of(x, l->stride[d]);
        int64_t step = i < 0 ? 1 : l->stride[d] / x->stride[i];
        if (step == 1 || x->size[i] % step != 0 || x->n == MAX_AXES || l->count[d] * step < x->size[i])
            continue;
        for (int k = x->n++; k > i; k--) {
            x->size[k] = x->size[k - 1];
            x->stride[k] = x->stride[k - 1];
        }
        x->size[i] /= step;
        x->stride[i] *= step;
        x->size[i + 1] = step;
    }
}

/* Widens the box from axis i outwards by `count` steps; false: that is no box. */
static bool
extend(const Axes *x, Box *b, int i, int64_t count)
{
    for (; i >= 0; i--) {
        if (b->hi[i] - b->lo[i] != 1)
            return false;
        if (b->lo[i] + count <= x->size[i]) {
            b->hi[i] = b->lo[i] + count;
            return true;
        }
        if (b->lo[i] != 0 || count % x->size[i] != 0)
            return false;
        b->hi[i] = x->size[i];
        count /= x->size[i];
    }
    return count == 1;
}

static bool
box_of(const Axes *x, const Lattice *l, Box *b)
{
    int64_t rest = l->base;
    for (int i = 0; i < x->n; i++) {
        b->lo[i] = rest / x->stride[i];
        b->hi[i] = b->lo[i] + 1;
        rest %= x->stride[i];
    }
    for (int d = 0; d < l->n; d++) {
        int i = axis_of(x, l->stride[d]);
        if (i < 0 || x->stride[i] != l->stride[d] || !extend(x, b, i, l->count[d]))
            return false;
    }
    return true;
}

/* ---- coverage ---- */

static int
by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

typedef struct Grid {
    int64_t *cut[MAX_AXES];
    int64_t ncell[MAX_AXES], step[MAX_AXES]; /* cells per axis; cells to the next along it */
    int64_t cells;
    uint8_t *full;
} Grid;

/* Drops what equals its neighbour or the one before that: starts and ends of tiles alternate. */
static int64_t
unique(int64_t *p, int64_t n)
{
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++) {
        if ((k < 1 || p[k - 1] != p[i]) && (k < 2 || p[k - 2] != p[i]))
            p[k++] = p[i];
    }
    return k;
}

static Status
cut_axis(Check *c, const Axes *x, int axis, const Box *box, uint32_t nbox, Grid *grid)
{
    int64_t *p, n;
    NEW(c->cx, &c->work, p, 2 * (size_t)nbox + 2);
    for (uint32_t i = 0; i < nbox; i++) {
        p[2 * i] = box[i].lo[axis];
        p[2 * i + 1] = box[i].hi[axis];
    }
    p[2 * nbox] = 0;
    p[2 * nbox + 1] = x->size[axis];
    n = unique(p, 2 * (int64_t)nbox + 2); /* most repeat their neighbours: less to sort */
    qsort(p, (size_t)n, sizeof(*p), by_value);
    grid->cut[axis] = p;
    grid->ncell[axis] = unique(p, n) - 1;
    return ST_OK;
}

static int64_t
find_cut(const int64_t *cut, int64_t n, int64_t v)
{
    int64_t l = 0, r = n;
    while (l < r) {
        int64_t m = (l + r) / 2;
        if (cut[m] < v)
            l = m + 1;
        else
            r = m;
    }
    return l;
}

/* Marks the cells of a box; returns how many it looked at. */
static int64_t
fill(Grid *grid, int naxes, const Box *b)
{
    int64_t lo[MAX_AXES], hi[MAX_AXES], at[MAX_AXES], cell = 0, n = 0;
    for (int i = 0; i < naxes; i++) {
        lo[i] = at[i] = find_cut(grid->cut[i], grid->ncell[i], b->lo[i]);
        hi[i] = find_cut(grid->cut[i], grid->ncell[i], b->hi[i]);
        cell += lo[i] * grid->step[i];
    }
    for (;;) {
        int i = naxes - 1;
        grid->full[cell] = 1;
        n++;
        for (; i >= 0 && ++at[i] == hi[i]; i--) {
            cell -= (hi[i] - 1 - lo[i]) * grid->step[i];
            at[i] = lo[i];
        }
        if (i < 0)
            return n;
        cell += grid->step[i];
    }
}

static void
report_missing(Check *c, const VInfo *v, int64_t element)
{
    report_at(c, (OpId){v->decl}, "output-gap", "NKI-3072 no op writes element %lld (in C order) of its %lld",
              (long long)element, (long long)v->row);
}

static void
report_gap(Check *c, const VInfo *v, const Axes *x, const Grid *grid, int64_t cell)
{
    int64_t element = 0;
    for (int i = 0; i < x->n; i++)
        element += grid->cut[i][cell / grid->step[i] % grid->ncell[i]] * x->stride[i];
    report_missing(c, v, element);
}

/* Gives up, *done false, when the boxes make too fine a grid for time linear in their number. */
static Status
cover(Check *c, const VInfo *v, const Axes *x, const Box *box, uint32_t nbox, bool *done)
{
    Grid grid = {.cells = 1};
    int64_t budget = 64 * (int64_t)nbox + (1 << 16);
    for (int i = 0; i < x->n; i++)
        TRY(cut_axis(c, x, i, box, nbox, &grid));
    for (int i = x->n - 1; i >= 0; i--) {
        grid.step[i] = grid.cells;
        grid.cells *= grid.ncell[i];
        if (grid.cells > budget)
            return ST_OK;
    }
    NEW(c->cx, &c->work, grid.full, grid.cells);
    for (uint32_t i = 0; i < nbox && budget >= 0; i++)
        budget -= fill(&grid, x->n, &box[i]);
    *done = budget >= 0;
    for (int64_t i = 0; i < grid.cells && budget >= 0; i++) {
        if (!grid.full[i]) {
            report_gap(c, v, x, &grid, i);
            return ST_OK;
        }
    }
    return ST_OK;
}

typedef struct Reach {        /* of all writes */
    int64_t elements, lo, hi; /* at most how many; [lo, hi) */
} Reach;

/* Boxes of all writes on axes that fit them. False: some write is no box. */
static bool
collect_boxes(const Check *c, const VInfo *v, Axes *axes, Box *box, Reach *reach)
{
    bool boxes;
    int before;
    do {
        uint32_t k = 0;
        before = axes->n;
        boxes = true;
        *reach = (Reach){.lo = v->row};
        for (uint32_t w = v->writes; w != 0; w = c->writes.p[w].next) {
            Lattice l = swath_of(c, c->writes.p[w].ap, (When){0}).at;
            int64_t distinct = 1;
            for (int d = 0; d < l.n; d++)
                distinct = l.count[d] > v->row / distinct ? v->row : distinct * l.count[d];
            reach->elements = MIN(reach->elements + distinct, v->row);
            reach->lo = MIN(reach->lo, l.base);
            reach->hi = MAX(reach->hi, lattice_last(&l) + 1);
            refine_axes(axes, &l);
            boxes &= box_of(axes, &l, &box[k++]);
        }
    } while (axes->n != before); /* at most MAX_AXES times */
    return boxes;
}

static Status
check_output(Check *c, Val val)
{
    const VInfo *v = &c->val[val.i];
    Axes axes = axes_of(val_type(c->g, val));
    Swath all = {.parts = 1};
    Reach reach;
    Hole hole;
    Box *box;
    NEW(c->cx, &c->work, box, v->nwrites + 1);
    bool done = false, boxes = collect_boxes(c, v, &axes, box, &reach);
    if (reach.elements < v->row || reach.lo > 0 || reach.hi < v->row) {
        report_at(c, (OpId){v->decl}, "output-gap",
                  "NKI-3073 of its %lld elements at most %lld are written, between %lld and %lld", (long long)v->row,
                  (long long)reach.elements, (long long)reach.lo, (long long)reach.hi - 1);
        return c->st;
    }
    if (boxes)
        TRY(cover(c, v, &axes, box, v->nwrites, &done));
    lattice_add(&all.at, v->row, 1);
    if (!done && cover_misses(&c->covers, &v->written, &all, &hole))
        report_missing(c, v, hole.element);
    return ST_OK;
}

/* Such an output may be read at once and written in part. */
bool
is_update(const Check *c, const VInfo *v)
{
    if (v->kind != BK_output)
        return false;
    int64_t k = attr_int(c->cx, graph_op(c->g, (OpId){v->decl})->attr, A_index, -1);
    return k >= 0 && k < c->g->aliases.n && c->g->aliases.p[k] >= 0;
}

void
check_outputs(Check *c)
{
    for (uint32_t i = 0; i < c->io.n && !is_full(c); i++) {
        const VInfo *v = &c->val[c->io.p[i].i];
        if (v->kind != BK_output || v->initialised || type_numel(val_type(c->g, c->io.p[i])) == 0)
            continue;
        Status st = check_output(c, c->io.p[i]);
        c->st = c->st != ST_OK ? c->st : st;
    }
}
