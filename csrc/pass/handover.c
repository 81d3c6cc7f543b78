/* handover.c - which values live in SBUF between groups.
 *
 * in:   the groups that fuse has formed
 * out:  Plan.home of every value; the SBUF that homes take while a group runs; groups whose rows lie as in homes
 * rule: what groups hand over, and parameters that several of them read, live on chip where there is room for them from
 *       the first group that touches them to the last: those first that save most bytes of HBM per byte and group. The
 *       rows of a value are those of the group that computes it, of a parameter those that most of its readers want.
 *       Whoever cannot be served (lower/home.c) has it in HBM.
 */
#include "lower/lower.h"
#include "pass/pass.h"

#include <stdlib.h>

typedef struct Kept { /* a value that may have a home */
    Val v;
    Range rows;
    Stay life;
    int64_t room;  /* bytes per partition */
    int64_t votes; /* bytes of the readers that its rows suit, less those of others */
    int readers;   /* groups */
    uint32_t seen; /* 1 + the last group that was counted */
    bool written;  /* by a group, which decides its rows */
    bool reshaped; /* written as a value of another shape, whose rows are not its own */
} Kept;

typedef struct Handover {
    Plan *p;
    Kept *kept; /* by val; v 0: not */
} Handover;

/* Dims of t whose flattened index steps by `stride` elements, `count` times or more. */
static bool
find_rows(const Type *t, int64_t stride, int64_t count, Range *out)
{
    int hi = t->rank, lo;
    int64_t n = 1, rows = 1;
    while (hi > 0 && n < stride)
        n *= t->dim[--hi];
    while (hi > 0 && n == stride && t->dim[hi - 1] == 1)
        hi--;
    for (lo = hi; lo > 0 && rows < count;) /* a slice has fewer */
        rows *= t->dim[--lo];
    *out = (Range){(int8_t)lo, (int8_t)hi};
    return n == stride && rows >= count && count > 1;
}

/* The rows that a reader wants to have on the lanes: those of its group, or the contraction of a product. */
static bool
wanted_rows(const Plan *p, const Op *op, int i, Range *out)
{
    const Graph *g = p->g;
    Edge e = operand_edge(g, op, i, p->span[op->out.i]);
    Val u = op_val(g, op, i), root = view_root(p, u);
    const Type *t = val_type(g, u);
    View w;
    int64_t stride, count = range_size(t, e.spine);
    if (e.role == RO_free || e.role == RO_none || !view_between(g, root, u, &w))
        return false;
    view_uniform(t, &w, e.spine, &stride);
    if (op->code == T_matmul) {
        Mat m = mat_of(g, op, p->span[op->out.i].spine);
        stride = w.stride[i == m.full_arg ? m.full_k : m.row_k];
        count = m.k;
    }
    return stride > 0 && find_rows(val_type(g, root), stride, count, out);
}

static void
note_result(Handover *h, const Op *op)
{
    const Plan *p = h->p;
    Val root = view_stored(p, op->out).base;
    Kept *k = &h->kept[root.i];
    Span s = p->span[op->out.i];
    if (!p->stored[op->out.i])
        return;
    k->v = root;
    bool part = root.i == p->part_of[op->out.i].i && val_def(p->g, root)->code == T_concat;
    k->reshaped |= root.i != op->out.i && !part;
    if (!k->written && s.role == RO_row)
        k->rows = s.spine;
    k->written |= s.role == RO_row;
}

/* The majority of the readers of a parameter, by the vote of Boyer and Moore. */
static void
vote(Kept *k, Range rows, int64_t bytes)
{
    bool same = k->rows.lo == rows.lo && k->rows.hi == rows.hi;
    k->votes += same ? bytes : -bytes;
    if (k->votes < 0) {
        k->rows = rows;
        k->votes = -k->votes;
    }
}

static void
note_operand(Handover *h, uint32_t group, const Op *op, int i)
{
    const Plan *p = h->p;
    const Graph *g = p->g;
    Val u = op_val(g, op, i), root = view_root(p, u);
    const Type *t = val_type(g, u);
    Kept *k = &h->kept[root.i];
    Range rows;
    if (p->group_of[g->vals.p[u.i].def.i] == group + 1 && p->span[u.i].role != RO_acc)
        return;
    if (is_source(g, root) && val_def(g, root)->code != T_full)
        k->v = root;
    k->readers += k->seen != group + 1;
    k->seen = group + 1;
    if (is_source(g, root) && wanted_rows(p, op, i, &rows))
        vote(k, rows, type_numel(t) * dtypes[t->dtype].bytes);
}

static Status
note_all(Handover *h)
{
    const Plan *p = h->p;
    NEW(p->g->cx, &p->g->cx->scratch, h->kept, p->g->vals.n + 1);
    for (uint32_t k = 0; k < p->groups.n; k++)
        for (uint32_t m = 0; m < p->groups.p[k].n; m++) {
            const Op *op = graph_op(p->g, p->member.p[p->groups.p[k].first + m]);
            note_result(h, op);
            for (int i = 0; i < op->nin; i++)
                note_operand(h, k, op, i);
        }
    return ST_OK;
}

/* Bytes of HBM saved per byte of SBUF and group; what the caller gets is written in any case, and a parameter read. */
static double
gain_of(const Graph *g, const Kept *k, bool is_output)
{
    const Type *t = val_type(g, k->v);
    int64_t times = k->readers + (is_source(g, k->v) ? -1 : !is_output);
    double bytes = (double)times * (double)type_numel(t) * dtypes[t->dtype].bytes;
    return bytes / (double)k->room / (double)(k->life.last - k->life.first);
}

typedef struct Ranked {
    Val v;
    double gain;
} Ranked;

static int
by_gain(const void *a, const void *b)
{
    const Ranked *x = a, *y = b;
    if (x->gain != y->gain)
        return x->gain > y->gain ? -1 : 1;
    return x->v.i < y->v.i ? -1 : x->v.i > y->v.i;
}

/* All that may have a home and gain by it, best first. */
static Status
rank(Handover *h, Ranked *out, uint32_t *n)
{
    const Graph *g = h->p->g;
    bool *is_output;
    Stay *life;
    NEW(g->cx, &g->cx->scratch, is_output, g->vals.n);
    TRY(home_lives(h->p, &g->cx->scratch, &life));
    for (uint32_t i = 0; i < g->outputs.n; i++)
        is_output[g->outputs.p[i].i] = true;
    *n = 0;
    for (uint32_t v = 1; v < g->vals.n; v++) {
        Kept *k = &h->kept[v];
        if (k->v.i == 0 || k->reshaped || k->readers == 0 || type_numel(val_type(g, k->v)) == 0)
            continue;
        k->room = home_bytes(g, k->v, k->rows);
        k->life = life[v];
        double gain = k->room > 0 ? gain_of(g, k, is_output[v]) : 0;
        if (gain > 0)
            out[(*n)++] = (Ranked){k->v, gain};
    }
    if (*n)
        qsort(out, *n, sizeof(Ranked), by_gain);
    return ST_OK;
}

/* Takes the room for it in all groups that it lives through; false: some has not so much left. */
static bool
take_room(Plan *p, const Kept *k, int64_t most)
{
    for (uint32_t i = k->life.first; i < k->life.last; i++)
        if (p->groups.p[i].homes + k->room > most)
            return false;
    for (uint32_t i = k->life.first; i < k->life.last; i++)
        p->groups.p[i].homes += k->room;
    return true;
}

/* Homes that cannot serve one of their readers or writers are given back. */
static Status
give_back_refused(Plan *p, const CompileOptions *opt)
{
    bool *refused;
    NEW(p->g->cx, &p->g->cx->scratch, refused, p->g->vals.n);
    TRY(homes_settle(p));
    TRY(lower_refusals(p, opt, refused));
    for (uint32_t v = 1; v < p->g->vals.n; v++)
        p->home[v].chip &= !refused[v];
    return homes_settle(p);
}

Status
choose_homes(Plan *p, const CompileOptions *opt, int64_t most, bool *any)
{
    const Graph *g = p->g;
    Handover h = {.p = p};
    Ranked *ranked;
    uint32_t n;
    *any = false;
    NEW(g->cx, &g->cx->scratch, ranked, g->vals.n);
    TRY(note_all(&h));
    TRY(rank(&h, ranked, &n));
    for (uint32_t i = 0; i < n; i++) {
        const Kept *k = &h.kept[ranked[i].v.i];
        if (!take_room(p, k, most))
            continue;
        p->home[k->v.i] = (Home){.chip = true, .rows = k->rows, .gain = ranked[i].gain};
        *any = true;
    }
    return *any ? give_back_refused(p, opt) : ST_OK;
}

Status
drop_home(Plan *p, uint32_t group, bool *dropped)
{
    Stay *life;
    uint32_t least = 0;
    TRY(home_lives(p, &p->g->cx->scratch, &life));
    for (uint32_t v = 1; v < p->g->vals.n; v++) {
        bool here = p->home[v].chip && life[v].first <= group && group < life[v].last;
        if (here && (least == 0 || p->home[v].gain < p->home[least].gain))
            least = v;
    }
    *dropped = least != 0;
    p->home[least].chip = false;
    return homes_settle(p);
}
