/* check.c - whether a plan can be carried out.
 *
 * in:   a plan that somebody wrote, of a verified tensor program
 * out:  ST_OK; or why not, at the line and column of its text
 * rule: decided from the tensor program alone. Each op is in one group, or is a view or a concat in HBM; what it reads
 *       has been computed: in this group, where both see it in the same way, or before, with a home. Spans are what
 *       operand_edge makes of them. What passes is lowered as it stands, and computes what its program says.
 */
#include "plan/plan.h"

typedef struct Check {
    Ctx *cx;
    Plan *p;
    const Graph *g;
    uint32_t *ready; /* by val: it is complete when so many groups are done; 0: before all of them */
    uint32_t *uses;  /* by val: operands and outputs that it is */
    uint32_t *place; /* by op: its number among the members */
    bool *output;    /* by val */
    const Slice *names;
    uint8_t *seen;   /* by val, for find_columns */
} Check;

#define REFUSE(c, o, where, ...)                                                                                       \
    ((c)->p->spot ? fail_at((c)->cx, (c)->p->spot[(o).i].line, (c)->p->spot[(o).i].where, __VA_ARGS__)                 \
                  : fail((c)->cx, ST_BUG, graph_op((c)->g, o)->loc, __VA_ARGS__))
#define REFUSE_GROUP(c, gr, ...)                                                                                       \
    ((gr)->line ? fail_at((c)->cx, (gr)->line, (gr)->col, __VA_ARGS__) : fail((c)->cx, ST_BUG, (LocId){0}, __VA_ARGS__))

static const char *
name_of(const Check *c, Val v)
{
    Text t;
    text_init(&t, c->cx, &c->cx->scratch);
    if (c->names)
        text_put(&t, "%%%.*s", shown(c->names[v.i]), c->names[v.i].p);
    else
        (void)print_val(c->g, v, &t);
    return t.st == ST_OK && t.n ? t.p : "?";
}

static const Op *
member(const Plan *p, const Group *gr, uint32_t m)
{
    return graph_op(p->g, p->member.p[gr->first + m]);
}

static uint32_t
group_of(const Check *c, Val v)
{
    return c->p->group_of[c->g->vals.p[v.i].def.i];
}

static bool
same_range(Range a, Range b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static bool
overlap(Range a, Range b)
{
    return a.lo < b.hi && b.lo < a.hi;
}

/* ---- the program ---- */

/* The forms that the tensor passes leave; of a plan that comes as text nobody has seen to it. */
static const char *
op_misfit(const Graph *g, const Op *op)
{
    DType dt = val_dtype(g, op->out);
    if (!(op_def(g, op)->flags & F_CORE))
        return "no instructions are known for it; the tensor passes come first";
    if (dt == DT_f64 || dt == DT_i64 || dt == DT_u64)
        return "the hardware has no 64-bit dtypes; the tensor passes come first";
    for (int i = 0; i < op->nin; i++) {
        const Type *t = val_type(g, op_val(g, op, i));
        if (type_numel(t) == 0 && type_numel(val_type(g, op->out)) > 0 && op->code != T_concat)
            return "an operand without elements is no operand; the tensor passes come first";
        if (op->code == T_matmul && t->rank < 2)
            return "operands of products have rows and columns; the tensor passes come first";
    }
    return NULL;
}

static Status
check_outputs(Check *c)
{
    const Graph *g = c->g;
    for (uint32_t i = 0; i < g->outputs.n; i++) {
        Val v = g->outputs.p[i];
        if (type_numel(val_type(g, v)) == 0)
            continue;
        if (c->output[v.i] || is_source(g, v))
            return fail_at(c->cx, c->p->line, 1,
                           "NKI-4514 plan: output %u, %s, is not computed for itself; the tensor "
                           "passes come first",
                           i, name_of(c, v));
        c->output[v.i] = true;
        c->uses[v.i]++;
    }
    return ST_OK;
}

static Status
check_program(Check *c)
{
    const Graph *g = c->g;
    TRY(check_outputs(c));
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        for (int i = 0; i < op->nin; i++)
            c->uses[op_val(g, op, i).i]++;
        const char *why = op->nout ? op_misfit(g, op) : NULL;
        if (why && (c->p->group_of[o.i] || is_source(g, op->out)))
            return fail_at(c->cx, loc_get(c->cx, op->loc)->line, loc_get(c->cx, op->loc)->offset,
                           "NKI-4515 plan: %s: %s", op_def(g, op)->name, why);
    }
    return ST_OK;
}

/* ---- homes ---- */

/* v lies in HBM by itself, so that others can be views of it. */
static bool
has_buffer(const Check *c, Val v)
{
    int code = val_def(c->g, v)->code;
    return code == T_input || code == T_const || (c->p->stored[v.i] && c->p->part_of[v.i].i == 0);
}

static Status
check_view(Check *c, OpId o)
{
    const Plan *p = c->p;
    Val v = graph_op(c->g, o)->out, base = p->view_base[v.i];
    View w;
    if (c->output[v.i])
        return REFUSE(c, o, home, "NKI-4516 plan: %s is an output, which has a buffer of its own: home=hbm",
                      name_of(c, v));
    if (!has_buffer(c, base))
        return REFUSE(c, o, home, "NKI-4517 plan: %s is no view of %s, which does not lie in HBM by itself",
                      name_of(c, v), name_of(c, base));
    if (base.i >= v.i || !view_between(c->g, base, v, &w))
        return REFUSE(c, o, home, "NKI-4518 plan: %s is no view of %s: the ops between them have no strided form",
                      name_of(c, v), name_of(c, base));
    c->ready[v.i] = c->ready[base.i];
    return ST_OK;
}

static Status
check_part(const Check *c, OpId o)
{
    const Plan *p = c->p;
    Val v = graph_op(c->g, o)->out, whole = p->part_of[v.i];
    OpId def = c->g->vals.p[whole.i].def;
    const Op *op = graph_op(c->g, def);
    View w = view_identity(c->g, whole);
    int64_t axis = attr_int(c->cx, op->attr, A_axis, 0), at = 0;
    int i = 0;
    if (op->code == T_concat)
        for (; i < op->nin && op_val(c->g, op, i).i != v.i; i++)
            at += val_type(c->g, op_val(c->g, op, i))->dim[axis] * w.stride[axis];
    bool reshaped = op->code == T_reshape && op_val(c->g, op, 0).i == v.i && p->part_of[whole.i].i == 0;
    if ((op->code != T_concat && !reshaped) || i == op->nin || c->uses[v.i] != 1)
        return REFUSE(c, o, home,
                      "NKI-4519 plan: %s is written into %s only when that is a concat or a reshape of it that alone "
                      "reads it",
                      name_of(c, v), name_of(c, whole));
    if (at != p->part_at[v.i])
        return REFUSE(c, o, home, "NKI-4520 plan: %s begins %lld elements into %s, not %lld", name_of(c, v),
                      (long long)at, name_of(c, whole), (long long)p->part_at[v.i]);
    bool assembled = p->stored[whole.i] && (p->group_of[def.i] == 0 || p->span[whole.i].role == RO_move);
    if (!assembled)
        return REFUSE(c, o, home, "NKI-4521 plan: %s is not put together in HBM, so %s cannot be written into it",
                      name_of(c, whole), name_of(c, v));
    return ST_OK;
}

/* A concat, or a reshape, that no group computes: all its parts are written in place. */
static Status
check_assembled(const Check *c, OpId o)
{
    const Op *op = graph_op(c->g, o);
    bool reshaped = op->code == T_reshape && c->p->part_of[op_val(c->g, op, 0).i].i == op->out.i;
    if (op->code != T_concat && !reshaped)
        return REFUSE(c, o, home, "NKI-4522 plan: %s is computed by no group", name_of(c, op->out));
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(c->g, op, i);
        if (c->p->part_of[u.i].i != op->out.i && type_numel(val_type(c->g, u)) > 0)
            return REFUSE(c, o, home, "NKI-4523 plan: no group moves %s, and %s is not written into it",
                          name_of(c, op->out), name_of(c, u));
    }
    return ST_OK;
}

static Status
check_member_home(const Check *c, OpId o)
{
    const Plan *p = c->p;
    Val v = graph_op(c->g, o)->out;
    uint8_t role = p->span[v.i].role;
    if (p->view_base[v.i].i)
        return REFUSE(c, o, home, "NKI-4524 plan: no group computes a view: its line stands before the groups");
    if (p->stored[v.i] && role == RO_free)
        return REFUSE(c, o, home, "NKI-4525 plan: %s is the same for all rows: it lives on chip only", name_of(c, v));
    if (!p->stored[v.i] && (role == RO_move || role == RO_acc || c->output[v.i]))
        return REFUSE(c, o, home, "NKI-4526 plan: %s needs a home: %s", name_of(c, v),
                      c->output[v.i] ? "it is an output" : "it is complete only when its group is done");
    return ST_OK;
}

/* Rows of a home are dims of its value. */
static Status
check_chip(const Check *c, OpId o)
{
    Val v = graph_op(c->g, o)->out;
    if (c->p->home[v.i].chip && (home_bytes(c->g, v, c->p->home[v.i].rows) < 0 || val_def(c->g, v)->code == T_full))
        return REFUSE(c, o, home,
                      "NKI-4553 plan: %s does not live in SBUF with these rows: one has up to %d elements, "
                      "and numbers are not stored",
                      name_of(c, v), HOME_SLOT);
    return ST_OK;
}

/* When each value is there, and whether what is said of where it lives can be. */
static Status
check_homes(Check *c)
{
    const Plan *p = c->p;
    FOR_OPS(c->g, o) {
        const Op *op = graph_op(c->g, o);
        if (op->nout)
            TRY(check_chip(c, o));
        if (op->nout == 0 || is_source(c->g, op->out))
            continue;
        Val v = op->out;
        uint32_t *ready = &c->ready[v.i];
        *ready = p->group_of[o.i];
        if (*ready)
            TRY(check_member_home(c, o));
        else if (p->view_base[v.i].i)
            TRY(check_view(c, o));
        else if (p->stored[v.i])
            TRY(check_assembled(c, o));
        if (p->part_of[v.i].i)
            TRY(check_part(c, o));
        for (int i = 0; i < op->nin; i++) /* a concat is complete with the last of its parts */
            if (p->part_of[op_val(c->g, op, i).i].i == v.i)
                *ready = MAX(*ready, c->ready[op_val(c->g, op, i).i]);
    }
    for (uint32_t i = 0; i < c->g->outputs.n; i++) {
        Val v = c->g->outputs.p[i];
        if (c->output[v.i] && !has_buffer(c, v))
            return fail_at(c->cx, p->line, 1, "NKI-4527 plan: output %u, %s, is not written to HBM", i, name_of(c, v));
    }
    return ST_OK;
}

/* ---- spans ---- */

/* The rows and the outer iterations of a member are those of its group. */
static Status
check_sizes(const Check *c, OpId o, const Group *gr)
{
    const Op *op = graph_op(c->g, o);
    Span s = c->p->span[op->out.i];
    const Type *t = val_type(c->g, s.role == RO_acc ? op_val(c->g, op, 0) : op->out);
    int64_t rows = range_size(t, s.spine), outer = range_size(t, s.outer);
    if (!same_range(s.spine, trim_range(t, s.spine)) || overlap(s.spine, s.outer) || overlap(s.col, s.spine) ||
        overlap(s.col, s.outer))
        return REFUSE(c, o, span,
                      "NKI-4528 plan: %s: dims of the spine, the outer loop and the columns are different "
                      "ones, and no spine of several dims begins or ends with one of size 1",
                      name_of(c, op->out));
    if (s.role == RO_free ? s.spine.lo < s.spine.hi : rows != gr->rows)
        return REFUSE(c, o, span, "NKI-4529 plan: %s has %lld rows there, its group has %lld", name_of(c, op->out),
                      (long long)rows, (long long)gr->rows);
    if (s.outer.lo < s.outer.hi && outer != gr->outer)
        return REFUSE(c, o, span, "NKI-4530 plan: the outer loop over %s has %lld iterations, that of its group %lld",
                      name_of(c, op->out), (long long)outer, (long long)gr->outer);
    if (s.role == RO_acc && gr->outer != 1)
        return REFUSE(c, o, span, "NKI-4531 plan: %s is summed up over all rows, so its group has no outer loop",
                      name_of(c, op->out));
    return ST_OK;
}

static Status
check_span(const Check *c, OpId o, const Group *gr)
{
    const Op *op = graph_op(c->g, o);
    Span s = c->p->span[op->out.i];
    TRY(check_sizes(c, o, gr));
    const char *why = s.role == RO_acc ? acc_misfit(c->g, op, s) : span_misfit(c->p, c->g, op, s);
    if (why)
        return REFUSE(c, o, span, "NKI-4532 plan: no group computes %s like this: %s", name_of(c, op->out), why);
    if (type_numel(val_type(c->g, op->out)) == 0)
        return REFUSE(c, o, at, "NKI-4533 plan: %s has no elements, so no group computes it", name_of(c, op->out));
    if (op->code == T_matmul)
        return ST_OK; /* comes in chunks of columns, its operands in steps */
    int64_t most = s.role == RO_acc ? 0 : row_bytes(c->g, op->out, s);
    for (int i = 0; i < op->nin; i++) {
        Span e = operand_edge(c->g, op, i, s);
        most = MAX(most, e.role == RO_row ? row_bytes(c->g, op_val(c->g, op, i), e) : 0);
    }
    if (most > MAX_ROW_BYTES)
        return REFUSE(c, o, span,
                      "NKI-4534 plan: a row of %s, or of what it reads, takes %lld bytes in a partition, at "
                      "most %d fit",
                      name_of(c, op->out), (long long)most, MAX_ROW_BYTES);
    return ST_OK;
}

static Status
check_move(const Check *c, const Group *gr)
{
    OpId o = c->p->member.p[gr->first];
    const Op *op = graph_op(c->g, o);
    Span s = c->p->span[op->out.i];
    bool moves = op->code == T_concat || op->code == T_copy || (op_def(c->g, op)->flags & F_LAYOUT);
    if (gr->n != 1 || s.role != RO_move || !moves || type_numel(val_type(c->g, op->out)) == 0)
        return REFUSE(c, o, span, "NKI-4535 plan: a layout op, a copy or a concat moves, in a group of its own");
    if (gr->rows != 1 || gr->outer != 1 || s.spine.hi || s.outer.hi || s.col.hi)
        return REFUSE(c, o, span, "NKI-4536 plan: a group that moves a value has rows=1 outer=1, and no dims");
    return ST_OK;
}

static Status
check_group(const Check *c, const Group *gr)
{
    int64_t outer = 1;
    bool has_rows = false;
    if (gr->n == 0)
        return REFUSE_GROUP(c, gr, "NKI-4537 plan: a group computes something");
    if (is_decided(gr) != is_decided(&c->p->groups.p[0]))
        return REFUSE_GROUP(c, gr, "NKI-4538 plan: all groups have numbers (per_tile= and so on), or none has");
    if (gr->moves)
        return check_move(c, gr);
    for (uint32_t m = 0; m < gr->n; m++) {
        Span s = c->p->span[member(c->p, gr, m)->out.i];
        TRY(check_span(c, c->p->member.p[gr->first + m], gr));
        outer = s.outer.lo < s.outer.hi ? gr->outer : outer;
        has_rows |= s.role != RO_free;
    }
    if (!has_rows || outer != gr->outer)
        return REFUSE_GROUP(c, gr, "NKI-4539 plan: no member of this group has its %s",
                            has_rows ? "outer loop" : "rows");
    return ST_OK;
}

/* ---- what members read ---- */

static bool
same_span(Span a, Span b)
{
    return a.role == b.role && same_range(a.spine, b.spine) && same_range(a.outer, b.outer);
}

/* Operand u of o, which the same group computes. */
static Status
check_inside(const Check *c, OpId o, Val u, Span e)
{
    const Plan *p = c->p;
    const Group *gr = &p->groups.p[p->group_of[o.i] - 1];
    Span s = p->span[u.i];
    const Type *t = val_type(c->g, u);
    if (c->place[c->g->vals.p[u.i].def.i] > c->place[o.i])
        return REFUSE(c, o, at, "NKI-4540 plan: %s reads %s, which its group computes further down",
                      name_of(c, graph_op(c->g, o)->out), name_of(c, u));
    if (s.role == RO_acc)
        return REFUSE(c, o, at,
                      "NKI-4541 plan: %s is complete only when this group is done: its readers are in later "
                      "ones",
                      name_of(c, u));
    if (e.role != RO_mat && !same_span(s, e))
        return REFUSE(c, o, span, "NKI-4542 plan: %s reads %s in another way than this group computes it",
                      name_of(c, graph_op(c->g, o)->out), name_of(c, u));
    bool one_tile = gr->rows <= 128 && gr->outer == 1;
    bool one_dim = s.role == RO_row && s.spine.hi == s.spine.lo + 1 && s.spine.hi >= t->rank - 1;
    if (e.role == RO_mat && !(one_tile && one_dim))
        return REFUSE(c, o, at,
                      "NKI-4543 plan: all of %s is needed for any row of the product: it is computed by an "
                      "earlier group, or by this one when that has up to 128 rows, its contraction or its columns",
                      name_of(c, u));
    return ST_OK;
}

/* u is there, in HBM, when the group of o begins. */
static Status
check_there(const Check *c, OpId o, Val u)
{
    const Plan *p = c->p;
    uint32_t from = group_of(c, u), group = p->group_of[o.i];
    if (from == 0 && p->view_base[u.i].i == 0 && !p->stored[u.i])
        return REFUSE(c, o, at, "NKI-4544 plan: %s reads %s, which no group computes",
                      name_of(c, graph_op(c->g, o)->out), name_of(c, u));
    if (from && !p->stored[u.i])
        return REFUSE(c, o, at, "NKI-4545 plan: %s reads %s, which has no home: group %u keeps it to itself",
                      name_of(c, graph_op(c->g, o)->out), name_of(c, u), from - 1);
    if (c->ready[u.i] >= group)
        return REFUSE(c, o, at, "NKI-4546 plan: %s reads %s, which is complete only when group %u is done",
                      name_of(c, graph_op(c->g, o)->out), name_of(c, u), c->ready[u.i] - 1);
    return ST_OK;
}

/* Operand u of o comes from HBM: what the nest loops over has one stride in it. */
static Status
check_outside(const Check *c, OpId o, Val u, Span e)
{
    const Op *op = graph_op(c->g, o);
    View w, moved;
    int64_t stride;
    bool moves = c->p->span[op->out.i].role == RO_move;
    if (!is_source(c->g, u))
        TRY(check_there(c, o, u));
    else if (val_def(c->g, u)->code == T_full)
        return moves && op->code != T_concat
                   ? REFUSE(c, o, span, "NKI-4547 plan: %s is a number everywhere and is not moved", name_of(c, u))
                   : ST_OK;
    Val base = c->p->view_base[u.i].i ? c->p->view_base[u.i] : u;
    const Type *t = val_type(c->g, u);
    bool even = view_between(c->g, base, u, &w) && view_uniform(t, &w, e.spine, &stride) &&
                view_uniform(t, &w, e.outer, &stride);
    if (even && moves && op->code != T_concat)
        even = view_step(c->g, op, &w, &moved);
    if (!even)
        return REFUSE(c, o, span, "NKI-4548 plan: the rows of %s do not lie evenly in %s, which it is a view of",
                      name_of(c, u), name_of(c, base));
    return ST_OK;
}

static Status
check_member(const Check *c, OpId o)
{
    const Op *op = graph_op(c->g, o);
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(c->g, op, i);
        Span e = operand_edge(c->g, op, i, c->p->span[op->out.i]);
        if (type_numel(val_type(c->g, u)) == 0 || c->p->part_of[u.i].i == op->out.i)
            continue;
        if (!is_source(c->g, u) && group_of(c, u) == c->p->group_of[o.i])
            TRY(check_inside(c, o, u, e));
        else
            TRY(check_outside(c, o, u, e));
    }
    return ST_OK;
}

/* ---- columns ---- */

/* A group has the columns that columns.c finds in it, or none. */
static Status
check_columns(Check *c, Group *gr)
{
    Plan *p = c->p;
    int64_t cols = gr->cols;
    Range *said;
    bool any = cols > 0;
    NEW(c->cx, &c->cx->scratch, said, gr->n);
    for (uint32_t m = 0; m < gr->n; m++) {
        Range *col = &p->span[member(p, gr, m)->out.i].col;
        said[m] = *col;
        *col = (Range){0, 0};
        any |= said[m].hi > 0;
    }
    if (!any)
        return ST_OK;
    if (cols > 0)
        find_columns(p, gr, c->seen);
    if (gr->cols != cols)
        return REFUSE_GROUP(c, gr, "NKI-4549 plan: cols=%lld, but this group has %lld columns", (long long)cols,
                            (long long)gr->cols);
    for (uint32_t m = 0; m < gr->n; m++) {
        OpId o = p->member.p[gr->first + m];
        Range col = p->span[graph_op(c->g, o)->out.i].col;
        if (!same_range(col, said[m]))
            return REFUSE(c, o, span, "NKI-4550 plan: the columns of %s are [%d,%d), the dims [0,0) being none",
                          name_of(c, graph_op(c->g, o)->out), col.lo, col.hi);
    }
    return ST_OK;
}

static Status
check_alloc(Check *c)
{
    Arena *a = &c->cx->scratch;
    NEW(c->cx, a, c->ready, c->g->vals.n);
    NEW(c->cx, a, c->uses, c->g->vals.n);
    NEW(c->cx, a, c->output, c->g->vals.n);
    NEW(c->cx, a, c->seen, c->g->vals.n);
    NEW(c->cx, a, c->place, c->g->ops.n);
    for (uint32_t m = 0; m < c->p->member.n; m++)
        c->place[c->p->member.p[m].i] = m;
    return ST_OK;
}

Status
plan_check(Plan *p, const Slice *names)
{
    Check c = {.cx = p->g->cx, .p = p, .g = p->g, .names = names};
    TRY(check_alloc(&c));
    TRY(check_program(&c));
    TRY(check_homes(&c));
    for (uint32_t k = 0; k < p->groups.n; k++)
        TRY(check_group(&c, &p->groups.p[k]));
    for (uint32_t m = 0; m < p->member.n; m++)
        TRY(check_member(&c, p->member.p[m]));
    for (uint32_t k = 0; k < p->groups.n; k++)
        TRY(check_columns(&c, &p->groups.p[k]));
    return homes_settle(p);
}
