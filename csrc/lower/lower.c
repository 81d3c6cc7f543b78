/* lower.c - execute the plan: every group becomes a loop nest over row tiles.
 *
 * in:   a plan with its decisions made
 * out:  a tile program without addresses, equal in meaning to the tensor graph
 * rule: lowering decides nothing that the plan has not said. Ops of a group run in order on the current row tile; what
 *       all rows share is loaded before the row loop; a stored value is written to HBM once, right after it is
 * computed. The last rows, fewer than a full tile, are peeled: first full partitions, then the rest.
 */
#include "lower/context.h"

/* ---- per group ---- */
/* Whoever computes u, or what u is a conversion of, may compute its sum along the way. */
static void
note_sum(Lower *l, Val u, Val sum)
{
    const Op *def = val_def(l->g, u);
    l->sum_of[u.i] = sum;
    if (!is_exact_cast(l->g, def))
        return;
    Val w = op_val(l->g, def, 0);
    if (is_member(l, w) && l->sum_of[w.i].i == 0)
        l->sum_of[w.i] = sum;
}

static Status
count_uses(Lower *l)
{
    const Graph *g = l->g;
    for (uint32_t k = 0; k < l->gr->n; k++) {
        OpId o = l->p->member.p[l->gr->first + k];
        const Op *op = graph_op(g, o);
        for (int i = 0; i < op->nin; i++) {
            Val u = op_val(g, op, i);
            if (l->uses[u.i] == 0 && !is_member(l, u))
                TRY(note_leaf(l, u, operand_span(l, op, i)));
            if (l->uses[u.i]++ == 0)
                l->user[u.i] = o;
            bool extreme = op->code == T_reduce_max || op->code == T_reduce_min;
            if (extreme && l->p->span[op->out.i].role == RO_row && is_member(l, u))
                l->extreme_of[u.i] = op->out;
            bool sum = op->code == T_reduce_sum && l->p->span[op->out.i].role == RO_row && is_member(l, u);
            if (sum && l->sum_of[u.i].i == 0)
                note_sum(l, u, op->out);
        }
    }
    return ST_OK;
}

/* Operands of products, and what those are other strides of. */
static void
mark_multiplied(Lower *l)
{
    for (uint32_t k = l->gr->n; k-- > 0;) {
        const Op *op = graph_op(l->g, l->p->member.p[l->gr->first + k]);
        bool passes = (op_def(l->g, op)->flags & F_LAYOUT) && l->multiplied[op->out.i];
        for (int i = 0; i < op->nin; i++)
            l->multiplied[op_val(l->g, op, i).i] |= op->code == T_matmul || passes;
    }
}

void
forget_uses(Lower *l)
{
    for (uint32_t k = 0; k < l->gr->n; k++) {
        const Op *op = graph_op(l->g, l->p->member.p[l->gr->first + k]);
        for (int i = 0; i < op->nin; i++) {
            Val u = op_val(l->g, op, i);
            l->uses[u.i] = 0;
            l->multiplied[u.i] = false;
            l->sum_of[u.i] = l->extreme_of[u.i] = (Val){0};
            l->leaf_of[u.i] = 0;
        }
    }
}

static Status
lower_row_op(Lower *l, const Op *op)
{
    uint16_t flags = op_def(l->g, op)->flags;
    if (flags & F_EW)
        return lower_elementwise(l, op);
    if (flags & F_REDUCE)
        return lower_reduce(l, op);
    if (flags & F_LAYOUT)
        return lower_layout(l, op);
    if (op->code == T_matmul)
        return lower_matmul(l, op);
    if (op->code == T_concat)
        return lower_concat(l, op);
    return fail(l->cx, ST_BUG, op->loc, "NKI-4001 lower: no rule for %s", op_def(l->g, op)->name);
}

static const Op *
member(const Lower *l, uint32_t k)
{
    return graph_op(l->g, l->p->member.p[l->gr->first + k]);
}

static void
count_left(Lower *l)
{
    for (uint32_t k = 0; k < l->gr->n; k++) {
        const Op *op = member(l, k);
        for (int i = 0; i < op->nin; i++)
            l->left[op_val(l->g, op, i).i] = l->uses[op_val(l->g, op, i).i];
    }
}

/* Members of a role; of the row ops, those with or without columns. */
static Status
lower_members(Lower *l, Role role, bool cols)
{
    count_left(l);
    for (uint32_t k = 0; k < l->gr->n; k++) {
        const Op *op = member(l, k);
        Span s = l->p->span[op->out.i];
        l->loc = op->loc;
        if ((s.role != role && !(s.role == RO_acc && role == RO_row)) || has_cols(s) != cols)
            continue;
        TRY(s.role == RO_acc ? acc_add(l, op) : lower_row_op(l, op));
        if (s.role == RO_row && l->p->stored[op->out.i])
            TRY(store_row(l, op->out));
        for (int i = 0; i < op->nin; i++)
            l->left[op_val(l->g, op, i).i]--;
    }
    return ST_OK;
}

/* What all rows share: small operands, full matmul operands that fit, accumulators. */
static Status
lower_preamble(Lower *l, bool many_tiles)
{
    int64_t budget = l->gr->resident;
    l->stable = ++l->epoch;
    l->tile_epoch = l->epoch;
    l->in_loop = false;
    for (uint32_t k = 0; k < l->gr->n; k++) {
        const Op *op = member(l, k);
        l->loc = op->loc;
        l->resident[l->g->vals.p[op->out.i].def.i].buf.i = 0;
        for (int i = 0; i < op->nin; i++) {
            Val v = op_val(l->g, op, i);
            Span s = operand_span(l, op, i);
            double imm;
            Node *n;
            if (s.role == RO_free && !is_member(l, v) && !is_splat(l->g, v, &imm))
                TRY(load_leaf(l, v, s, &n));
            if (s.role == RO_mat && many_tiles && !is_member(l, v))
                TRY(mm_preload(l, op, &budget));
        }
        if (l->p->span[op->out.i].role == RO_acc)
            TRY(acc_begin(l, op));
    }
    TRY(lower_members(l, RO_free, false));
    return lower_members(l, RO_free, true);
}

/* What the ops in the column loop need of the row tile, made ahead of it. */
static Status
prepare_columns(Lower *l)
{
    for (uint32_t k = 0; k < l->gr->n; k++) {
        const Op *op = member(l, k);
        l->loc = op->loc;
        if (!has_cols(l->p->span[op->out.i]) || l->p->span[op->out.i].role != RO_row)
            continue;
        if (op->code == T_matmul) {
            TRY(mm_prepare(l, op));
            continue;
        }
        for (int i = 0; i < op->nin; i++) {
            Val v = op_val(l->g, op, i);
            Span s = operand_span(l, op, i);
            double imm;
            Node *n;
            if (s.role == RO_row && !has_cols(s) && !is_member(l, v) && !is_splat(l->g, v, &imm))
                TRY(load_leaf(l, v, s, &n));
        }
    }
    return ST_OK;
}

static Status
lower_chunks(Lower *l, int64_t start, int64_t count, int64_t cols)
{
    Affine i;
    bool outer_loop = l->in_loop;
    if (count == 0 || cols == 0)
        return ST_OK;
    TRY(loop_begin(l, count, &i));
    l->epoch++;
    l->chunk0 = affine_add(affine_scale(i, cols), affine_const(start));
    l->chunk_cols = cols;
    l->in_loop |= count > 1;
    TRY(lower_members(l, RO_row, true));
    l->in_loop = outer_loop;
    return loop_end_of(l, count);
}

static Status
lower_row_tile(Lower *l)
{
    int64_t chunk = MIN(l->gr->chunk, l->panel_cols);
    l->tile_epoch = ++l->epoch;
    l->chunk0 = affine_const(0);
    l->chunk_cols = l->panel_cols;
    TRY(lower_members(l, RO_row, false));
    if (l->gr->cols == 0)
        return ST_OK;
    TRY(prepare_columns(l));
    TRY(lower_chunks(l, 0, l->panel_cols / chunk, chunk));
    return lower_chunks(l, l->panel_cols / chunk * chunk, 1, l->panel_cols % chunk);
}

static Status
lower_tiles(Lower *l, int64_t start, int64_t count, int parts, int64_t per)
{
    Affine i;
    if (count == 0 || parts == 0 || per == 0)
        return ST_OK;
    TRY(loop_begin(l, count, &i));
    l->row0 = affine_add(affine_scale(i, parts * per), affine_const(start));
    l->parts = parts;
    l->per = per;
    l->in_loop = count > 1;
    TRY(lower_row_tile(l));
    return loop_end_of(l, count);
}

static Status
lower_panel(Lower *l)
{
    const Group *gr = l->gr;
    int64_t block = 128 * gr->per_tile, full = gr->rows / block, rest = gr->rows % block;
    int64_t blocks = rest / 128, rows = rest % 128;
    l->parts = row_lanes(gr, l->hw);
    l->per = 1;
    l->chunk0 = affine_const(0);
    l->chunk_cols = l->panel_cols;
    TRY(lower_preamble(l, full + (blocks > 0) + (rows > 0) > 1));
    TRY(lower_tiles(l, 0, full, 128, gr->per_tile));
    TRY(lower_tiles(l, full * block, blocks > 0, 128, blocks));
    TRY(lower_tiles(l, full * block + blocks * 128, rows > 0, (int)rows, 1));
    for (uint32_t k = 0; k < gr->n; k++) {
        const Op *op = member(l, k);
        l->loc = op->loc;
        if (l->p->span[op->out.i].role == RO_acc)
            TRY(acc_end(l, op));
    }
    return ST_OK;
}

static Status
lower_panels(Lower *l, int64_t start, int64_t count, int64_t cols)
{
    Affine i;
    if (count == 0 || (cols == 0 && l->gr->cols > 0))
        return ST_OK;
    TRY(loop_begin(l, count, &i));
    l->panel0 = affine_add(affine_scale(i, cols), affine_const(start));
    l->panel_cols = cols;
    TRY(lower_panel(l));
    return loop_end_of(l, count);
}

/* What is only multiplied may go over the tensor engine; all else by DMA, or in blocks on the vector engine. */
static Status
load_home_turned(Lower *l, const Matrix *m, const Chip *h)
{
    DType dt = val_dtype(l->out, h->buf);
    if (dtypes[dt].bytes == 1)
        return refuse_home(l, h->buf);
    if (l->hw->dma_transpose || (l->p->home[h->v.i].multiplied && is_float(dt)))
        return load_matrix(l, m, h->buf, affine_const(0), h->slot);
    for (int64_t k = 0; k < m->k; k += PE) {
        Matrix lanes = *m;
        Turn t = {.dst = h->buf, .to = affine_const(k / PE * h->slot), .step = h->slot, .rs = 1};
        lanes.off = affine_const(k);
        lanes.k = MIN(PE, m->k - k);
        TRY(load_turned(l, &lanes, &t, TURN_exact));
    }
    return ST_OK;
}

/* Parameters and constants that live on chip from here on are loaded: with rows that lie apart in memory as they are,
 * and turned when their rows are neighbours there. */
static Status
load_home(Lower *l, Val v)
{
    Val hbm;
    const Type *t = val_type(l->g, v);
    int64_t n = type_numel(t);
    TRY(hbm_buffer(l, v, &hbm));
    TRY(home_declare(l, v));
    const Chip *h = &l->chip[v.i];
    if (h->post == 1 && h->slot > 1) {
        Matrix m = {.buf = hbm, .off = affine_const(0), .k = h->rows, .ks = 1, .n = n / h->rows, .ns = h->rows};
        return load_home_turned(l, &m, h);
    }
    Ref all = {.buf = hbm, .ap = {.off = affine_const(0), .ndim = 1, .dim = {{n, 1}}}}, home = all;
    home.buf = h->buf;
    return transfer(l, &home, &all);
}

static Status
begin_homes(Lower *l)
{
    for (uint32_t k = 0; k < l->gr->n; k++) {
        const Op *op = member(l, k);
        Val root = view_stored(l->p, op->out).base;
        l->loc = op->loc;
        if (l->p->stored[op->out.i] && l->p->home[root.i].chip)
            TRY(home_declare(l, root));
        for (int i = 0; i < op->nin; i++) {
            Val v = view_root(l->p, op_val(l->g, op, i));
            if (is_source(l->g, v) && l->p->home[v.i].chip && l->chip[v.i].buf.i == 0)
                TRY(load_home(l, v));
        }
    }
    return ST_OK;
}

Status
lower_group(Lower *l)
{
    const Group *gr = l->gr;
    int64_t panel = gr->cols ? MIN(gr->panel, gr->cols) : 0;
    TRY(begin_homes(l));
    if (gr->moves)
        return lower_move(l, member(l, 0));
    TRY(count_uses(l));
    mark_multiplied(l);
    TRY(loop_begin(l, gr->outer, &l->outer));
    TRY(lower_panels(l, 0, panel ? gr->cols / panel : 1, panel));
    if (panel)
        TRY(lower_panels(l, gr->cols / panel * panel, 1, gr->cols % panel));
    TRY(loop_end_of(l, gr->outer));
    forget_uses(l);
    l->leaves.n = 1;
    l->windows.n = 0;
    return ST_OK;
}

/* ---- the whole ---- */
static Status
lower_interface(Lower *l)
{
    const Graph *g = l->g;
    for (uint32_t i = 0; i < g->inputs.n; i++) {
        Val v = g->inputs.p[i];
        const Type *t = val_type(g, v);
        TRY(k_buffer(l->out, SP_hbm, BK_input, (DType)t->dtype, t->rank, t->dim, 1, (int)i,
                     str_get(l->cx, g->vals.p[v.i].name), val_def(g, v)->loc, &l->hbm[v.i]));
        VEC_PUSH(l->cx, &l->out->arena, &l->out->inputs, l->hbm[v.i]);
    }
    for (uint32_t i = 0; i < g->outputs.n; i++) {
        Val v = g->outputs.p[i];
        const Type *t = val_type(g, v);
        TRY(k_buffer(l->out, SP_hbm, BK_output, (DType)t->dtype, t->rank, t->dim, 1, (int)i, NULL, val_def(g, v)->loc,
                     &l->hbm[v.i]));
        VEC_PUSH(l->cx, &l->out->arena, &l->out->outputs, l->hbm[v.i]);
    }
    for (uint32_t i = 0; i < g->aliases.n; i++)
        VEC_PUSH(l->cx, &l->out->arena, &l->out->aliases, g->aliases.p[i]);
    return ST_OK;
}

/* Constants and what groups hand over through HBM: declared here, outside all loops. */
static Status
lower_storage(Lower *l)
{
    FOR_OPS(l->g, o) {
        const Op *op = graph_op(l->g, o);
        Val buf;
        bool stored = op->nout && l->p->stored[op->out.i] && l->p->part_of[op->out.i].i == 0;
        if (stored && l->p->home[op->out.i].chip)
            continue; /* begins with its group */
        if (op->nout && (op->code == T_const || stored))
            TRY(hbm_buffer(l, op->out, &buf));
    }
    return ST_OK;
}

Status
lower_alloc(Lower *l)
{
    uint32_t nv = l->g->vals.n, no = l->g->ops.n;
    NEW(l->cx, l->a, l->node, nv);
    NEW(l->cx, l->a, l->hbm, nv);
    NEW(l->cx, l->a, l->chip, nv);
    NEW(l->cx, l->a, l->uses, nv);
    NEW(l->cx, l->a, l->left, nv);
    NEW(l->cx, l->a, l->user, nv);
    NEW(l->cx, l->a, l->leaf_of, nv);
    NEW(l->cx, l->a, l->multiplied, nv);
    NEW(l->cx, l->a, l->sum_of, nv);
    NEW(l->cx, l->a, l->extreme_of, nv);
    NEW(l->cx, l->a, l->acc, nv);
    NEW(l->cx, l->a, l->lhs, nv);
    NEW(l->cx, l->a, l->lhs_epoch, nv);
    NEW(l->cx, l->a, l->lhs_kdim, nv);
    NEW(l->cx, l->a, l->resident, no);
    VEC_PUSH(l->cx, l->a, &l->leaves, (Leaf){0});
    return ST_OK;
}

static Status
lower_plan(const Plan *p, const CompileOptions *opt, OpId *first, bool *refused, Graph **out)
{
    Lower l = {.cx = p->g->cx, .p = p, .g = p->g, .hw = hw_get(opt->target), .a = &p->g->cx->scratch, .epoch = 1};
    l.refused = refused;
    TRY(graph_new(l.cx, &tile_dialect, str_get(l.cx, p->g->name), out));
    l.out = *out;
    l.out->target = (uint8_t)opt->target;
    TRY(lower_alloc(&l));
    TRY(lower_interface(&l));
    TRY(lower_storage(&l));
    for (uint32_t k = 0; k < p->groups.n; k++) {
        l.gr = &p->groups.p[k];
        l.group = k + 1;
        if (first)
            first[k] = (OpId){l.out->ops.n};
        TRY(lower_group(&l));
    }
    return ST_OK;
}

Status
pass_lower(const Plan *p, const CompileOptions *opt, OpId *first, Graph **out)
{
    return lower_plan(p, opt, first, NULL, out);
}

Status
lower_refusals(const Plan *p, const CompileOptions *opt, bool *refused)
{
    Graph *code = NULL;
    Status st = lower_plan(p, opt, NULL, refused, &code);
    if (code)
        graph_free(code);
    return st;
}
