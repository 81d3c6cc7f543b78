/* text.c - the text of a plan.
 *
 * in:   a plan
 * out:  its text: the tensor program that it is about, what lives in HBM outside of the groups, then group by group the
 *       decisions and the members with what the group sees of them and where they live
 * rule: the text is all of the plan: read.c makes the same plan of it.
 */
#include "plan/text.h"

/* ---- knobs ---- */
const Knob knobs[KB_COUNT] = {
    [KB_per_tile] = {"per_tile", 1, 0, 1}, /* up to all rows, see knob_most */
    [KB_in_place] = {"in_place", 0, 1, 1},   [KB_scalar_sums] = {"scalar_sums", 0, 1, 1},
    [KB_bufs] = {"bufs", 1, 8, 1},           [KB_psum_width] = {"psum_width", 512, 4096, 512},
    [KB_psum_bufs] = {"psum_bufs", 1, 8, 1}, [KB_resident] = {"resident", 0, 1 << 20, 1},
    [KB_panel] = {"panel", 1, INT32_MAX, 1},
};

int64_t
knob_most(const Group *gr, int k)
{
    return k == KB_per_tile ? MIN(MAX(gr->rows / 128, 1), INT32_MAX) : knobs[k].hi;
}

bool
has_knob(const Group *gr, int k)
{
    return k != KB_panel || gr->cols > 0;
}

static void
get_knobs(const Group *gr, int64_t value[KB_COUNT])
{
    value[KB_per_tile] = gr->per_tile;
    value[KB_in_place] = gr->in_place;
    value[KB_scalar_sums] = gr->scalar_sums;
    value[KB_bufs] = gr->bufs;
    value[KB_psum_width] = gr->psum_width;
    value[KB_psum_bufs] = gr->psum_bufs;
    value[KB_resident] = gr->resident;
    value[KB_panel] = gr->panel;
}

void
set_knobs(Group *gr, const int64_t value[KB_COUNT])
{
    gr->per_tile = (int32_t)value[KB_per_tile];
    gr->in_place = value[KB_in_place] != 0;
    gr->scalar_sums = value[KB_scalar_sums] != 0;
    gr->bufs = (int32_t)value[KB_bufs];
    gr->psum_width = (int32_t)value[KB_psum_width];
    gr->psum_bufs = (int32_t)value[KB_psum_bufs];
    gr->resident = value[KB_resident];
    gr->panel = value[KB_panel];
    gr->chunk = gr->psum_width;
}

/* ---- lines ---- */
const char *const role_words[RO_COUNT] = {"", "row", "free", "mat", "acc", "move"};

typedef struct Lines {
    const Plan *p;
    uint32_t *number; /* of values, as the program's own text has them */
    Text *t;
} Lines;

static void
put_val(const Lines *l, Val v)
{
    print_numbered(l->p->g, l->number, v, l->t);
}

static void
put_definition(const Lines *l, const Op *op)
{
    put_val(l, op->out);
    text_put(l->t, " = %s", op_def(l->p->g, op)->name);
    for (int i = 0; i < op->nin; i++) {
        text_puts(l->t, i ? ", " : " ");
        put_val(l, op_val(l->p->g, op, i));
    }
}

static void
put_range(const Lines *l, const char *what, Range r)
{
    if (r.lo < r.hi)
        text_put(l->t, "%s [%d,%d)", what, r.lo, r.hi);
}

/* Where a value lives when its group is done; nothing for one that stays within the group. */
static void
put_home(const Lines *l, Val v)
{
    const Plan *p = l->p;
    if (p->home[v.i].chip) {
        text_puts(l->t, "  home=sbuf");
        put_range(l, "", p->home[v.i].rows);
    } else if (p->view_base[v.i].i) {
        text_puts(l->t, "  home=view ");
        put_val(l, p->view_base[v.i]);
    } else if (p->part_of[v.i].i) {
        text_puts(l->t, "  home=part ");
        put_val(l, p->part_of[v.i]);
        text_put(l->t, " + %lld", (long long)p->part_at[v.i]);
    } else if (p->stored[v.i]) {
        text_puts(l->t, "  home=hbm");
    }
}

/* `%3 = matmul %x, %w    row [0,1) cols [1,2)  home=hbm` */
static void
put_op(const Lines *l, OpId o)
{
    Val v = graph_op(l->p->g, o)->out;
    Span s = l->p->span[v.i];
    put_definition(l, graph_op(l->p->g, o));
    if (s.role != RO_none)
        text_put(l->t, "    %s", role_words[s.role]);
    put_range(l, "", s.spine);
    put_range(l, " outer", s.outer);
    put_range(l, " cols", s.col);
    put_home(l, v);
    text_puts(l->t, "\n");
}

bool
is_loose(const Plan *p, OpId o)
{
    const Op *op = graph_op(p->g, o);
    if (op->nout == 0 || p->group_of[o.i])
        return false;
    return p->view_base[op->out.i].i || p->stored[op->out.i] || p->home[op->out.i].chip;
}

/* At most *left lines. */
static void
print_loose(const Lines *l, uint32_t *left)
{
    FOR_OPS(l->p->g, o) {
        if (!is_loose(l->p, o))
            continue;
        if (*left == 0)
            return;
        text_puts(l->t, "  ");
        put_op(l, o);
        --*left;
    }
}

static void
print_group(const Lines *l, uint32_t k, uint32_t *left)
{
    const Group *gr = &l->p->groups.p[k];
    int64_t value[KB_COUNT];
    get_knobs(gr, value);
    text_put(l->t, "  group %u rows=%lld outer=%lld", k, (long long)gr->rows, (long long)gr->outer);
    if (gr->cols > 0)
        text_put(l->t, " cols=%lld", (long long)gr->cols);
    for (int i = 0; i < KB_COUNT && is_decided(gr); i++)
        if (has_knob(gr, i))
            text_put(l->t, " %s=%lld", knobs[i].name, (long long)value[i]);
    text_puts(l->t, " {\n");
    for (uint32_t m = 0; m < gr->n && *left > 0; m++, --*left) {
        text_puts(l->t, "    ");
        put_op(l, l->p->member.p[gr->first + m]);
    }
    text_puts(l->t, *left > 0 ? "  }\n" : "    ...\n");
}

Status
plan_print(const Plan *p, uint32_t max, bool brief, Text *t)
{
    Lines l = {.p = p, .t = t};
    Arena a;
    arena_init(&a, &p->g->cx->mem);
    Status st = brief ? graph_print_brief(p->g, max, t) : graph_print(p->g, t);
    if (st == ST_OK)
        st = val_numbers(p->g, &a, &l.number);
    if (st == ST_OK) {
        text_put(t, "plan %s", target_names[p->target]);
        if (p->row_bytes > 0 || p->max_ops > 0)
            text_put(t, " row_bytes=%lld max_ops=%lld", (long long)p->row_bytes, (long long)p->max_ops);
        text_puts(t, " {\n");
        print_loose(&l, &max);
        for (uint32_t k = 0; k < p->groups.n && max > 0; k++)
            print_group(&l, k, &max);
        text_puts(t, "}\n");
    }
    arena_free(&a);
    return st == ST_OK ? t->st : st;
}
