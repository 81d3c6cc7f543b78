/* columns.c - the columns of a group: the dim that it walks chunk by chunk, in panels.
 *
 * in:   a group that fuse has formed
 * out:  the column range of every value in it; panels and chunks
 * rule: only matmul groups have columns: their results are wide and their full operands large. Everything in the group
 *       that has these columns agrees on them, or there are none.
 */
#include "plan/plan.h"

typedef struct Columns {
    Plan *p;
    uint8_t *seen; /* by val: 1 without columns, 2 with */
    int64_t size;
} Columns;

static bool
agree(Columns *c, Val v, uint8_t state, Range col)
{
    uint8_t *seen = &c->seen[v.i];
    if (state == 2) {
        const Type *t = val_type(c->p->g, v);
        Range *own = &c->p->span[v.i].col;
        bool same = *seen == 0 || (own->lo == col.lo && own->hi == col.hi);
        if (!same || range_size(t, col) != c->size || col.hi != col.lo + 1)
            return false;
        *own = col;
    }
    bool ok = *seen == 0 || *seen == state;
    *seen = state;
    return ok;
}

/* A group's last result may be walked column by column if everything in the group that has those columns allows it. */
static bool
root_columns(const Columns *c, Val v, Range *col)
{
    const Type *t = val_type(c->p->g, v);
    Span s = c->p->span[v.i];
    int last = t->rank - 1;
    bool is_free =
        last >= 0 && !(last >= s.spine.lo && last < s.spine.hi) && !(last >= s.outer.lo && last < s.outer.hi);
    *col = (Range){(int8_t)last, (int8_t)(last + 1)};
    if (is_free)
        return true;
    *col = (Range){0, 1}; /* columns of the full operand lie first when the spine is last */
    return t->rank == 2 && s.spine.lo == 1;
}

static bool
spread_columns(Columns *c, const Group *gr, const Op *op)
{
    const Graph *g = c->p->g;
    Span *s = &c->p->span[op->out.i];
    Range col;
    if (s->role != RO_row && s->role != RO_free)
        return false;
    if (c->seen[op->out.i] == 0) {
        bool has = root_columns(c, op->out, &col);
        if (has && c->size == 0)
            c->size = val_type(g, op->out)->dim[col.lo];
        if (!has || !agree(c, op->out, 2, col))
            return false;
    }
    bool with = c->seen[op->out.i] == 2;
    if (with && op->code == T_matmul && s->col.lo != mat_of(g, op, s->spine).col)
        return false;
    for (int i = 0; i < op->nin; i++) {
        Val u = op_val(g, op, i);
        int d = with ? operand_dims(g, op, i, s->col, &col) : 0;
        bool full = op->code == T_matmul && operand_edge(g, op, i, *s).role == RO_mat;
        bool computed = c->p->group_of[g->vals.p[u.i].def.i] == (uint32_t)(gr - c->p->groups.p) + 1;
        if (d < 0 || (computed && full) || (computed && !agree(c, u, d == 1 ? 2 : 1, col)))
            return false;
    }
    return true;
}

static void
forget(Columns *c, const Group *gr, bool found)
{
    Plan *p = c->p;
    for (uint32_t k = 0; k < gr->n; k++) {
        const Op *op = graph_op(p->g, p->member.p[gr->first + k]);
        c->seen[op->out.i] = 0;
        for (int i = 0; i < op->nin; i++)
            c->seen[op_val(p->g, op, i).i] = 0;
        if (!found)
            p->span[op->out.i].col = (Range){0, 0};
    }
}

void
find_columns(Plan *p, Group *gr, uint8_t *seen)
{
    Columns c = {.p = p, .seen = seen};
    gr->cols = 0;
    if (!gr->has_matmul)
        return;
    bool ok = true;
    for (uint32_t k = gr->n; ok && k-- > 0;)
        ok = spread_columns(&c, gr, graph_op(p->g, p->member.p[gr->first + k]));
    gr->cols = ok ? c.size : 0;
    forget(&c, gr, ok);
}

/* Bytes per partition and column of the full operands that have the group's columns. */
static int64_t
column_bytes(const Plan *p, const Group *gr)
{
    const Graph *g = p->g;
    int64_t n = 0;
    for (uint32_t k = 0; k < gr->n; k++) {
        const Op *op = graph_op(g, p->member.p[gr->first + k]);
        Span s = p->span[op->out.i];
        if (op->code != T_matmul || s.col.lo == s.col.hi)
            continue;
        Mat m = mat_of(g, op, s.spine);
        n += CEIL_DIV(m.k, 128) * dtypes[m.dt].bytes;
    }
    return n;
}

void
cut_columns(const Plan *p, Group *gr)
{
    int64_t room = gr->resident / MAX(column_bytes(p, gr), 1);
    gr->chunk = gr->psum_width;
    gr->panel = gr->cols;
    if (gr->cols == 0 || room >= gr->cols || gr->rows <= 128 * gr->per_tile)
        return; /* one row tile streams its operands anyway */
    int64_t panel = MAX(room / gr->chunk, 1) * gr->chunk, count = CEIL_DIV(gr->cols, panel);
    gr->panel = ALIGN_UP(CEIL_DIV(gr->cols, count), gr->chunk);
}
