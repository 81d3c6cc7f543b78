/* fuse.c - which ops share a loop nest.
 *
 * in:   a decomposed tensor graph
 * out:  Plan: groups in order of execution, the span of every value in its group, what is stored in HBM between groups
 * rule: ops are visited from the last to the first, so all consumers of a value are placed before its producer. An op
 *       joins the group of its consumers if that is one group, all of them see it through the same span, and every
 *       operand stays row-local; otherwise it founds a group, with the span that a small search finds cheapest. Groups
 *       found later run earlier, so every edge goes from a later group to an earlier one and no cycle can arise.
 *       A layout op or concat that no span suits moves its elements within HBM; of all other ops tilable.c has left
 *       only such as have a span.
 */
#include "pass/pass.h"

#include <string.h>

#define PINNED_NS 1e6             /* a layout op computed for its own sake: some have no tiling at all */
#define TRIAL_OPS 48              /* how far a trial looks for what a span would absorb */
#define COMBINE_NS 6000.0         /* combining the partitions of a reduction over the spine */
#define TAIL_NS 3000.0 /* the last rows of several tiles: DMAs that nothing hides. No reason to scatter rows */
#define FREE_REDUCED 2048         /* elements of them that it may reduce */
#define FREE_ELEMS 8192           /* values without the spine that a group may compute itself */
#define LONG_FREE 2048            /* bytes of a slice that all rows share and that is loaded without the rest */
#define MAT_BYTES (150 * 1024)    /* full operands of one group that walks many row tiles, per partition */

typedef struct Demand { /* what the consumers placed so far want of a value */
    uint32_t group;     /* the earliest to run of them (largest number); 0: none yet */
    Span span;          /* how that group sees it */
    bool split;         /* it must be complete before that group runs */
    bool stored;        /* another group, or the caller, reads it too */
    bool pinned;        /* a layout op that cannot be a view */
    bool output;        /* the caller gets it */
} Demand;

typedef struct Found { /* a group while it is being formed */
    int64_t rows, outer, mat_bytes;
    bool has_matmul, moves;
    uint32_t nops;
} Found;

typedef struct Fuse {
    Ctx *cx;
    const Graph *g;
    Plan *plan;
    Arena *a;
    Demand *d;              /* by val */
    uint32_t *use_at, *use; /* users of a value: use[use_at[v] .. use_at[v + 1]) */
    VEC(Found) found;       /* [0] is none */
    uint32_t *group;        /* by op: number in found */
    int64_t row_bytes;      /* MAX_ROW_BYTES, less after a plan that did not fit */
    uint32_t max_ops;
    bool probes;            /* any span will do: no trials */
} Fuse;

static bool
same_span(Span a, Span b)
{
    return a.role == b.role && a.spine.lo == b.spine.lo && a.spine.hi == b.spine.hi && a.outer.lo == b.outer.lo &&
           a.outer.hi == b.outer.hi;
}

static void
demand(Fuse *f, Val v, uint32_t group, Span s)
{
    Demand *d = &f->d[v.i];
    if (group < d->group) {
        d->stored = true;
    } else if (group == d->group) {
        d->split |= !same_span(d->span, s) || s.role == RO_mat;
    } else {
        d->stored |= d->group != 0;
        d->group = group;
        d->span = s;
        d->split = s.role == RO_mat;
    }
}

static void
demand_before(Fuse *f, Val v, uint32_t group)
{
    demand(f, v, group, (Span){.role = RO_none});
    if (f->d[v.i].group == group)
        f->d[v.i].split = true;
}

/* A product comes in chunks of columns and reads its row operand in steps: its rows may be long. */
static int64_t
row_limit(const Fuse *f, const Op *op)
{
    return op->code == T_matmul ? INT64_MAX : f->row_bytes;
}

/* The row operands of all matrices of a row tile lie on chip together; a single one may come in steps. */
static bool
holds_batch(const Fuse *f, const Op *op, Span s)
{
    const Type *t = val_type(f->g, op->out), *a = val_type(f->g, op_val(f->g, op, 0));
    int64_t n = 1, bytes = dtypes[a->dtype].bytes;
    for (int i = 0; i < t->rank - 2; i++)
        n *= (i >= s.spine.lo && i < s.spine.hi) || (i >= s.outer.lo && i < s.outer.hi) ? 1 : t->dim[i];
    return n == 1 || n * ALIGN_UP(a->dim[a->rank - 1], 128) * bytes <= f->row_bytes;
}

/* Can a group with this span compute op? */
static bool
is_feasible(const Fuse *f, const Op *op, Span s)
{
    const Graph *g = f->g;
    if (span_misfit(f->plan, g, op, s))
        return false;
    if (s.role == RO_free && free_elems(val_type(g, op->out), s) > FREE_ELEMS)
        return false;
    if (s.role == RO_row && row_bytes(g, op->out, s) > row_limit(f, op))
        return false;
    if (op->code == T_matmul && !holds_batch(f, op, s))
        return false;
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(g, op, i);
        Span e = operand_edge(g, op, i, s);
        if (e.role == RO_row && row_bytes(g, u, e) > row_limit(f, op))
            return false;
        bool reduces = (op_def(g, op)->flags & F_REDUCE) != 0; /* in every partition the same */
        if (e.role == RO_free && free_elems(val_type(g, u), e) > (reduces ? FREE_REDUCED : 2 * FREE_ELEMS))
            return false;
    }
    return true;
}

static bool
may_move(const Graph *g, const Op *op)
{
    return op->code == T_concat || (op_def(g, op)->flags & F_LAYOUT);
}

/* ---- trial: what would a span cost? nanoseconds, roughly ---- */
typedef struct Trial {
    Val seen[TRIAL_OPS];
    Span span[TRIAL_OPS];
    int n;
    double ns;
} Trial;

static double
hbm_ns(const Graph *g, Val v)
{
    const Type *t = val_type(g, v);
    return (double)(type_numel(t) * dtypes[t->dtype].bytes) / 300.0;
}

/* What computing op with so few rows costs beyond computing it with all partitions busy. Counted for the founder and
 * for reductions; other ops would meet the same few rows in a group of their own. The tensor engine does not care. */
static double
idle_ns(const Graph *g, const Op *op, bool founder, int64_t rows)
{
    bool reduces = (op_def(g, op)->flags & F_REDUCE) != 0;
    if ((!founder && !reduces) || op->code == T_matmul)
        return 0;
    double n = (double)type_numel(val_type(g, reduces ? op_val(g, op, 0) : op->out));
    return n * (1.0 / (double)MIN(rows, 128) - 1.0 / 128);
}

/* A DMA can turn one free dim against the rows while it loads. */
static bool
is_transposable(const Graph *g, Val v, Span s)
{
    const Type *t = val_type(g, v);
    int dims = 0;
    for (int i = 0; i < t->rank; i++)
        dims += t->dim[i] > 1 && (i < s.spine.lo || i >= s.spine.hi) && (i < s.outer.lo || i >= s.outer.hi);
    return dims == 1 && (dtypes[t->dtype].bytes == 2 || dtypes[t->dtype].bytes == 4);
}

static void
trial_push(Trial *t, Val v, Span s)
{
    for (int i = 0; i < t->n; i++)
        if (t->seen[i].i == v.i)
            return;
    if (t->n < TRIAL_OPS) {
        t->seen[t->n] = v;
        t->span[t->n++] = s;
    }
}

/* What it costs that the layout op which makes u is to be a view for a group: nothing when the runs it loops over have
 * one stride, and are long, in what lies deepest or in a layout op's result on the way, which is then computed for it;
 * else u is moved. */
static double
view_ns(const Fuse *f, Val u, Span e)
{
    const Graph *g = f->g;
    View w;
    const Type *t = val_type(g, u);
    for (Val at = u; is_layout(g, at);) {
        int64_t stride;
        at = op_val(g, val_def(g, at), 0);
        if (!view_between(g, at, u, &w))
            return PINNED_NS + 2 * hbm_ns(g, u);
        if (view_uniform(t, &w, e.spine, &stride) && view_uniform(t, &w, e.outer, &stride))
            return load_excess_ns(f->plan, u, &w, e) > HANDOVER_NS ? HANDOVER_NS + 2 * hbm_ns(g, u) : 0;
    }
    return HANDOVER_NS + 2 * hbm_ns(g, u);
}

static void
trial_operand(const Fuse *f, Trial *t, Val u, Span e)
{
    const Graph *g = f->g;
    bool source = is_source(g, u), leaf = source || !is_feasible(f, val_def(g, u), e);
    if (e.role == RO_row && !leaf) {
        trial_push(t, u, e);
        return;
    }
    if (val_def(g, u)->code == T_full || e.role == RO_mat)
        return; /* a full operand is needed whole, whatever the span */
    if (is_layout(g, u))
        t->ns += view_ns(f, u, e);
    Val base = u; /* parameters are read in any case; what is computed is written and read back */
    while (is_layout(g, base))
        base = op_val(g, val_def(g, base), 0);
    if (!is_source(g, base) && !is_reversal(g, base)) /* nor is a reversal ever read but from HBM */
        t->ns += HANDOVER_NS + 2 * hbm_ns(g, u);
    if (e.role == RO_row && scatters_rows(g, u, NULL, e))
        t->ns += (is_transposable(g, u, e) ? 1 : 15) * hbm_ns(g, u);
}

static void
try_ops(const Fuse *f, const Op *op, Span s, int64_t rows, Trial *t)
{
    const Graph *g = f->g;
    trial_push(t, op->out, s);
    for (int k = 0; k < t->n; k++) {
        const Op *o = val_def(g, t->seen[k]);
        t->ns += idle_ns(g, o, k == 0, rows);
        for (int i = 0; i < o->nin; i++)
            trial_operand(f, t, op_val(g, o, i), operand_edge(g, o, i, t->span[k]));
    }
}

static double
try_span(const Fuse *f, const Op *op, Span s, int64_t rows)
{
    Trial t = {.n = 0};
    if (scatters_rows(f->g, op->out, NULL, s))
        t.ns += 15 * hbm_ns(f->g, op->out) + TAIL_NS;
    try_ops(f, op, s, rows, &t);
    return t.ns;
}

typedef struct Best {
    Span span;
    double ns;
    int64_t rows, outer;
} Best;

static void
consider(const Fuse *f, const Op *op, Span s, const Type *t, Best *best)
{
    s.spine = trim_range(t, s.spine);
    s.outer = trim_range(t, s.outer);
    if ((f->probes && best->ns >= 0) || !is_feasible(f, op, s))
        return;
    if (f->probes) {
        best->ns = 0;
        return;
    }
    int64_t rows = range_size(t, s.spine), outer = range_size(t, s.outer);
    double ns = try_span(f, op, s, rows) + (double)outer * OUTER_NS;
    ns += (s.role == RO_acc ? COMBINE_NS * (double)outer : 0) + (rows > 128 && rows % 128 ? TAIL_NS : 0);
    if (best->ns < 0 || ns < best->ns)
        *best = (Best){s, ns, rows, outer};
}

/* Runs [lo, hi) of t as spine, with nothing or all dims before it as outer loop; longest runs first. */
static void
consider_runs(const Fuse *f, const Op *op, uint8_t role, const Type *t, uint32_t allowed, Best *best)
{
    for (int lo = 0; lo < t->rank; lo++)
        for (int hi = t->rank; hi > lo; hi--) {
            uint32_t run = ((1u << hi) - 1) & ~((1u << lo) - 1);
            if ((run & allowed) != run)
                continue;
            Span s = {.role = role, .spine = {(int8_t)lo, (int8_t)hi}};
            consider(f, op, s, t, best);
            if (lo > 0 && role == RO_row) {
                s.outer = (Range){0, (int8_t)lo};
                consider(f, op, s, t, best);
            }
        }
}

static Best
best_span(const Fuse *f, const Op *op)
{
    Best best = {.ns = -1};
    const Graph *g = f->g;
    const Type *t = val_type(g, op->out);
    consider_runs(f, op, RO_row, t, ~0u, &best);
    if (op_def(g, op)->flags & F_REDUCE) {
        const int64_t *axes;
        uint32_t reduced = 0;
        for (int n = attr_ints(g->cx, op->attr, A_axes, &axes); n-- > 0;)
            reduced |= 1u << axes[n];
        consider_runs(f, op, RO_acc, val_type(g, op_val(g, op, 0)), reduced, &best);
    }
    if (op->code != T_matmul) /* one row: everything in one partition */
        consider(f, op, (Span){.role = RO_row}, t, &best);
    return best;
}

/* ---- placing ---- */
/* In a group with one row tile a full operand may be computed too: along its contraction or its columns it then has
 * the rows of the group. The span that costs less; role mat when neither will do. */
static Span
full_operand_span(const Fuse *f, Val u, const Found *fd, Span mat)
{
    const Graph *g = f->g;
    const Type *t = val_type(g, u);
    Span best = mat;
    double least = -1;
    if (is_source(g, u) || fd->rows > 128 || fd->outer > 1)
        return mat;
    for (int i = t->rank - 2; i < t->rank; i++) {
        Span s = {.role = RO_row, .spine = {(int8_t)i, (int8_t)(i + 1)}};
        if (t->dim[i] != fd->rows || !is_feasible(f, val_def(g, u), s))
            continue;
        double ns = try_span(f, val_def(g, u), s, fd->rows);
        if (least < 0 || ns < least) {
            least = ns;
            best = s;
        }
    }
    return best;
}

static void
place(Fuse *f, OpId o, uint32_t group, Span s)
{
    const Graph *g = f->g;
    const Op *op = graph_op(g, o);
    Found *fd = &f->found.p[group];
    f->group[o.i] = group;
    f->plan->span[op->out.i] = s;
    fd->nops++;
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(g, op, i);
        Span e = operand_edge(g, op, i, s);
        if (val_def(g, u)->code == T_full && e.role != RO_mat)
            continue;
        if (e.role == RO_mat) {
            const Type *t = val_type(g, u);
            fd->has_matmul = true;
            fd->mat_bytes += type_numel(t) / MAX(range_size(t, e.outer), 1) * dtypes[t->dtype].bytes / 128;
            e = full_operand_span(f, u, fd, e);
        }
        if (op->code == T_matmul && row_bytes(g, u, e) > LONG_CONTRACTION && e.role == RO_row && s.role == RO_row)
            demand_before(f, u, group);
        demand(f, u, group, e);
    }
}

/* A second matmul joins a group that walks many row tiles only while both full operands can stay on chip. */
static bool
is_welcome(const Fuse *f, const Op *op, const Found *fd)
{
    if (fd->nops >= f->max_ops)
        return false;
    if (op->code != T_matmul || !fd->has_matmul || fd->rows <= 128)
        return true;
    const Type *b = val_type(f->g, op_val(f->g, op, 1));
    return fd->mat_bytes + type_numel(b) * dtypes[b->dtype].bytes / 128 / fd->outer <= MAT_BYTES;
}

/* Some op of the trial reads a row tile that group h has anyway; not products that it only reads, which have full operands
 * of their own. */
static bool
shares_rows(const Fuse *f, const Trial *t, uint32_t h)
{
    const Graph *g = f->g;
    for (int k = 0; k < t->n; k++) {
        const Op *op = val_def(g, t->seen[k]);
        for (int i = 0; i < op->nin && (k == 0 || op->code != T_matmul); i++) {
            const Demand *d = &f->d[op_val(g, op, i).i];
            Span e = operand_edge(g, op, i, t->span[k]);
            if (d->group == h && e.role == RO_row && same_span(d->span, e))
                return true;
        }
    }
    return false;
}

/* Siblings: the youngest groups that may hold op and already want something that it, or what joins it, is made of in the
 * same way. */
static uint32_t
find_sibling(const Fuse *f, const Op *op, const Best *b, uint32_t after)
{
    Trial t = {.n = 0};
    try_ops(f, op, b->span, b->rows, &t);
    for (uint32_t h = f->found.n; h-- > 1 && h > after && h + 8 > f->found.n;) {
        const Found *fd = &f->found.p[h];
        if (fd->rows == b->rows && fd->outer == b->outer && is_welcome(f, op, fd) && shares_rows(f, &t, h))
            return h;
    }
    return 0;
}

/* Whoever computes u can write it straight into the concat that alone reads it, if some span suits its place there. */
static bool
writes_part(Fuse *f, Val u, Val whole, int64_t at)
{
    const Graph *g = f->g;
    if (is_source(g, u) || is_layout(g, u) || f->d[u.i].output || f->use_at[u.i + 1] - f->use_at[u.i] != 1)
        return false;
    f->plan->part_of[u.i] = whole;
    f->plan->part_at[u.i] = at;
    if (val_def(g, u)->code == T_concat || is_reversal(g, u) || best_span(f, val_def(g, u)).ns >= 0)
        return true;
    f->plan->part_of[u.i] = (Val){0};
    return false;
}

/* A concat with rows too long for a tile exists in HBM only: the ops that compute its parts write them there. Returns
 * whether all of them do. */
static bool
assemble(Fuse *f, const Op *op)
{
    const Graph *g = f->g;
    int64_t axis = attr_int(f->cx, op->attr, A_axis, 0), at = 0;
    View w = view_identity(g, op->out);
    bool all = true;
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(g, op, i);
        if (writes_part(f, u, op->out, at * w.stride[axis])) {
            demand_before(f, u, f->d[op->out.i].group);
            f->d[u.i].stored = true;
        } else {
            all = false;
        }
        at += val_type(g, u)->dim[axis];
    }
    f->plan->stored[op->out.i] = true;
    return all;
}

/* A group that moves the operands of a layout op, or the parts of a concat that are not written in place. */
static Status
found_move(Fuse *f, OpId o)
{
    const Op *op = graph_op(f->g, o);
    if (op->code == T_concat && assemble(f, op))
        return ST_OK;
    VEC_PUSH(f->cx, f->a, &f->found, (Found){.rows = 1, .outer = 1, .moves = true, .nops = 1});
    uint32_t h = f->found.n - 1;
    f->group[o.i] = h;
    f->plan->span[op->out.i] = (Span){.role = RO_move};
    f->d[op->out.i].stored = true;
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(f->g, op, i);
        if (f->plan->part_of[u.i].i != op->out.i)
            demand_before(f, u, h);
    }
    return ST_OK;
}

/* A result that is a reshape of what another group computes is that, in the same order: it is written there. b: what
 * the reshape would do by itself. */
static bool
is_written_reshaped(Fuse *f, const Op *op, const Best *b)
{
    const Graph *g = f->g;
    if (op->code != T_reshape || !f->d[op->out.i].output || f->plan->part_of[op->out.i].i)
        return false;
    Val u = op_val(g, op, 0);
    Span e = operand_edge(g, op, 0, b->span);
    if ((b->ns >= 0 && e.role == RO_row && is_feasible(f, val_def(g, u), e)) || !writes_part(f, u, op->out, 0))
        return false;
    demand_before(f, u, f->d[op->out.i].group);
    f->d[u.i].stored = true;
    f->plan->stored[op->out.i] = true;
    return true;
}

static Status
found_group(Fuse *f, OpId o)
{
    const Op *op = graph_op(f->g, o);
    const Demand *d = &f->d[op->out.i];
    Best b = best_span(f, op);
    if (is_written_reshaped(f, op, &b))
        return ST_OK;
    if (b.ns < 0 ? may_move(f->g, op) : moves_better(f->plan, op, b.span))
        return found_move(f, o);
    if (b.ns < 0)
        return fail(f->cx, ST_BUG, op->loc, "NKI-4010 fuse: %s has no tiling", op_def(f->g, op)->name);
    bool with_readers = d->group > 0 && !d->split && same_span(d->span, b.span); /* else it runs before them */
    uint32_t h = find_sibling(f, op, &b, with_readers ? d->group - 1 : d->group);
    if (h == 0) {
        VEC_PUSH(f->cx, f->a, &f->found, (Found){.rows = b.rows, .outer = b.outer});
        h = f->found.n - 1;
    }
    f->d[op->out.i].stored = true;
    place(f, o, h, b.span);
    return ST_OK;
}

/* Every placed user of v can load it through w: the runs it loops over have one stride each. */
static bool
users_accept(const Fuse *f, Val v, const View *w)
{
    const Graph *g = f->g;
    const Type *t = val_type(g, v);
    for (uint32_t k = f->use_at[v.i]; k < f->use_at[v.i + 1]; k++) {
        const Op *u = &g->ops.p[f->use[k]];
        if (f->group[f->use[k]] == 0)
            continue; /* dead, or itself a view that has been settled through v */
        for (int i = 0; i < u->nin; i++) {
            int64_t s;
            View moved;
            if (op_val(g, u, i).i != v.i)
                continue;
            if (u->code == T_reshape && f->found.p[f->group[f->use[k]]].moves && !view_step(g, u, w, &moved))
                return false;
            Span e = operand_edge(g, u, i, f->plan->span[u->out.i]);
            if (!view_uniform(t, w, e.spine, &s) || !view_uniform(t, w, e.outer, &s))
                return false;
            if (u->code != T_matmul && load_excess_ns(f->plan, v, w, e) > HANDOVER_NS)
                return false;
        }
    }
    return true;
}

/* Let a layout op be a view of the deepest value that all its users can load it from; pin it when there is none. */
static bool
settle_view(Fuse *f, Val v)
{
    const Graph *g = f->g;
    Val base = {0};
    for (Val at = v; is_layout(g, at);) {
        View w;
        Val next = op_val(g, val_def(g, at), 0);
        if (!view_between(g, next, v, &w) || !users_accept(f, v, &w))
            break;
        base = at = next;
    }
    if (base.i == 0)
        return false;
    f->plan->view_base[v.i] = base;
    if (is_layout(g, base))
        f->d[base.i].pinned = true;
    if (!is_source(g, base)) {
        demand_before(f, base, f->d[v.i].group);
        f->d[base.i].stored = true;
    }
    return true;
}

/* A product takes its operand from HBM in either orientation, but would turn what has been computed. */
static bool
only_products_read(const Fuse *f, Val v)
{
    bool all = true;
    for (uint32_t k = f->use_at[v.i]; k < f->use_at[v.i + 1]; k++)
        all = all && f->g->ops.p[f->use[k]].code == T_matmul;
    return all;
}

/* A view costs nothing when several groups read it. A slice of something in HBM is better loaded alone, unless the
 * parts make up the whole. */
static bool
prefers_view(const Fuse *f, const Op *op)
{
    const Graph *g = f->g;
    Val u = op_val(g, op, 0), base = u;
    while (is_layout(g, base))
        base = op_val(g, val_def(g, base), 0);
    if (is_source(g, base) && (f->d[op->out.i].stored || only_products_read(f, op->out)))
        return true;
    if (op->code != T_slice || !is_source(g, u))
        return false;
    if (f->d[op->out.i].span.role == RO_free && row_bytes(g, op->out, f->d[op->out.i].span) >= LONG_FREE)
        return true;
    int64_t sum = 0;
    for (uint32_t k = f->use_at[u.i]; k < f->use_at[u.i + 1]; k++)
        sum += type_numel(val_type(g, g->ops.p[f->use[k]].out));
    return sum < type_numel(val_type(g, u));
}

static bool
joins_consumers(const Fuse *f, const Op *op, const Demand *d)
{
    if (d->group == 0 || d->split || d->pinned || !is_welcome(f, op, &f->found.p[d->group]))
        return false;
    if (d->span.role == RO_free && d->stored)
        return false;
    return d->span.role != RO_none && is_feasible(f, op, d->span);
}

static Status
visit(Fuse *f, OpId o)
{
    const Graph *g = f->g;
    const Op *op = graph_op(g, o);
    if (op->nout == 0 || is_source(g, op->out))
        return ST_OK;
    const Demand *d = &f->d[op->out.i];
    if ((d->group == 0 && !d->stored) || type_numel(val_type(g, op->out)) == 0)
        return ST_OK; /* nobody wants it, or there is nothing to compute */
    bool may_view = is_layout(g, op->out) && !d->pinned && !d->output;
    if (may_view && op->code != T_cast && prefers_view(f, op) && settle_view(f, op->out))
        return ST_OK;
    if (joins_consumers(f, op, d)) {
        place(f, o, d->group, d->span);
        return ST_OK;
    }
    if (may_view && settle_view(f, op->out))
        return ST_OK;
    return found_group(f, o);
}

static Status
collect_uses(Fuse *f)
{
    const Graph *g = f->g;
    NEW(f->cx, f->a, f->use_at, g->vals.n + 2);
    NEW(f->cx, f->a, f->use, g->operands.n + 1);
    FOR_OPS(g, o)
        for (int i = 0; i < graph_op(g, o)->nin; i++)
            f->use_at[op_val(g, graph_op(g, o), i).i + 2]++;
    for (uint32_t v = 2; v < g->vals.n + 2; v++)
        f->use_at[v] += f->use_at[v - 1];
    FOR_OPS(g, o)
        for (int i = 0; i < graph_op(g, o)->nin; i++)
            f->use[f->use_at[op_val(g, graph_op(g, o), i).i + 1]++] = o.i;
    return ST_OK;
}

/* Number the groups in order of execution and list their members. */
static Status
finish(Fuse *f)
{
    Plan *p = f->plan;
    uint32_t n = f->found.n - 1;
    TRY(vec_reserve(f->cx, f->a, &p->groups, n + 1, sizeof(Group)));
    p->groups.n = n;
    for (uint32_t h = 1; h <= n; h++) {
        const Found *fd = &f->found.p[h];
        p->groups.p[n - h] =
            (Group){.rows = fd->rows, .outer = fd->outer, .has_matmul = fd->has_matmul, .moves = fd->moves};
    }
    TRY(vec_reserve(f->cx, f->a, &p->member, f->g->ops.n + 1, sizeof(OpId)));
    uint32_t at = 0;
    for (uint32_t k = 0; k < n; k++) {
        p->groups.p[k].first = at;
        at += f->found.p[n - k].nops;
    }
    p->member.n = at;
    FOR_OPS(f->g, o) {
        if (f->group[o.i] == 0)
            continue;
        uint32_t k = n - f->group[o.i];
        Group *gr = &p->groups.p[k];
        p->group_of[o.i] = k + 1;
        p->member.p[gr->first + gr->n++] = o;
    }
    for (uint32_t v = 1; v < f->g->vals.n; v++)
        p->stored[v] |= f->d[v].stored && f->group[f->g->vals.p[v].def.i] != 0;
    return ST_OK;
}

bool
has_tiling(const Graph *g, const Op *op, int64_t row_bytes)
{
    Fuse f = {.g = g, .row_bytes = row_bytes > 0 ? row_bytes : MAX_ROW_BYTES, .probes = true};
    return may_move(g, op) || is_source(g, op->out) || best_span(&f, op).ns >= 0;
}

Status
pass_fuse(const Graph *g, const CompileOptions *opt, Arena *a, Plan *out)
{
    Fuse f = {.cx = g->cx, .g = g, .plan = out, .a = a, .row_bytes = MAX_ROW_BYTES, .max_ops = UINT32_MAX};
    if (opt->row_bytes > 0)
        f.row_bytes = opt->row_bytes;
    if (opt->max_ops > 0)
        f.max_ops = (uint32_t)opt->max_ops;
    *out = (Plan){.g = g, .target = opt->target, .row_bytes = opt->row_bytes, .max_ops = opt->max_ops};
    NEW(f.cx, a, f.d, g->vals.n);
    NEW(f.cx, a, f.group, g->ops.n);
    TRY(plan_alloc(g, a, out));
    TRY(collect_uses(&f));
    VEC_PUSH(f.cx, a, &f.found, (Found){0});
    for (uint32_t i = 0; i < g->outputs.n; i++)
        f.d[g->outputs.p[i].i].stored = f.d[g->outputs.p[i].i].output = true;
    for (OpId o = {g->ops.n - 1}; o.i >= 1; o.i--)
        TRY(visit(&f, o));
    return finish(&f);
}
