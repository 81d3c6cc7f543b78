/* values.c - what is known of the values of a row tile: nodes of what the group computes, leaves of what it loads.
 *
 * A leaf is an operand that this group does not compute. A row leaf is loaded once per row tile, a free leaf once per
 * group (or outer iteration) and replicated over the partitions.
 *
 * in:   operands of the op at hand
 * out:  nodes and tiles; what waits is forced
 * rule: whoever wants a value gets it here, loaded, filled, forced or as it waits. A result goes over an operand at its
 *       last use, into the concat that alone reads it, or into a tile of its own
 */
#include "lower/context.h"

/* The concat of this group that is v's only reader, and where in it v begins. */
static const Op *
only_concat(const Lower *l, Val v, int64_t *at)
{
    const Graph *g = l->g;
    v = written_as(l, v);
    if (l->uses[v.i] != 1 || l->p->stored[v.i])
        return NULL;
    const Op *c = graph_op(g, l->user[v.i]);
    if (c->code != T_concat || !is_member(l, c->out) ||
        tile_dtype(l, v, l->p->span[v.i]) != tile_dtype(l, c->out, l->p->span[c->out.i]))
        return NULL;
    int64_t axis = attr_int(g->cx, c->attr, A_axis, 0);
    *at = 0;
    for (int i = 0; op_val(g, c, i).i != v.i; i++)
        *at += val_type(g, op_val(g, c, i))->dim[axis];
    return c;
}

Status
new_tile(Lower *l, Val v, Tile *out)
{
    int64_t at;
    const Op *c = only_concat(l, v, &at);
    if (home_tile(l, written_as(l, v), out))
        return ST_OK;
    if (!c)
        return plain_tile(l, v, l->p->span[v.i], stored_bufs(l, v), out);
    Node *n = &l->node[c->out.i];
    if (n->epoch != epoch_of(l, l->p->span[c->out.i]) || n->kind != N_tile) {
        Tile whole;
        TRY(new_tile(l, c->out, &whole));
        n = set_node(l, c->out, N_tile);
        n->tile = whole;
    }
    *out = n->tile;
    out->off = affine_add(out->off, affine_const(at * out->stride[attr_int(l->cx, c->attr, A_axis, 0)]));
    return ST_OK;
}

Node *
set_node(Lower *l, Val v, NodeKind kind)
{
    Node *n = &l->node[v.i];
    *n = (Node){.epoch = epoch_of(l, l->p->span[v.i]), .kind = (uint8_t)kind};
    return n;
}

Tile
aligned(const Lower *l, const Tile *t, Val v, Val result)
{
    const Type *from = val_type(l->g, v), *to = val_type(l->g, result);
    Tile r = *t;
    int shift = to->rank - from->rank;
    for (int i = to->rank - 1; i >= 0; i--) {
        bool own = i - shift >= 0 && (from->dim[i - shift] == to->dim[i] || from->dim[i - shift] != 1);
        r.stride[i] = own ? t->stride[i - shift] : 0;
    }
    return r;
}

/* ---- forcing ---- */
void
put_scal(Instr *in, int arg, const Scal *s, Key imm)
{
    if (s->is_imm) {
        in->at[in->nat++] = AT_FLT(imm, s->imm);
    } else {
        instr_arg(in, arg, &s->tile);
        in->is_scal[arg] = true;
    }
}

void
put_base(Instr *in, int arg, const Node *n)
{
    instr_arg(in, arg, &n->tile);
    if (n->mm) {
        in->mm = n->mm;
        in->mm_arg = arg;
    }
}

static Status
emit_chain(Lower *l, Val v, const Node *n, const Tile *dst, Fold **fold)
{
    Instr in = {.op = n->nops ? K_tensor_scalar : K_tensor_copy};
    instr_space(l, v, &in);
    instr_arg(&in, 0, dst);
    put_base(&in, 1, n);
    if (n->nops) {
        in.nargs = 4;
        in.at[in.nat++] = AT_INT(A_op0, n->op[0]);
        put_scal(&in, 2, &n->scal[0], A_imm0);
        if (n->rev[0])
            in.at[in.nat++] = AT_INT(A_reverse0, 1);
    }
    if (n->nops == 2) {
        in.at[in.nat++] = AT_INT(A_op1, n->op[1]);
        put_scal(&in, 3, &n->scal[1], A_imm1);
        if (n->rev[1])
            in.at[in.nat++] = AT_INT(A_reverse1, 1);
    }
    if (!fold || !carries_extreme(l, v, n, &in))
        return emit_instr(l, &in);
    NEW(l->cx, l->a, *fold, 1);
    return emit_with_extreme(l, v, &in, *fold);
}

Status
copy_tile(Lower *l, Val v, const Tile *src, const Tile *dst)
{
    Node n = {.kind = N_lazy, .tile = *src};
    return emit_chain(l, v, &n, dst, NULL);
}

static bool
same_dims(const Type *a, const Type *b)
{
    bool same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++)
        same = a->dim[i] == b->dim[i];
    return same;
}

bool
is_last_use(const Lower *l, const Op *op, int i)
{
    Val v = op_val(l->g, op, i);
    Span s = l->p->span[op->out.i], o = operand_span(l, op, i);
    uint32_t here = 0;
    for (int k = 0; k < op->nin; k++)
        here += op_val(l->g, op, k).i == v.i;
    return s.role == RO_row && o.role == RO_row && has_cols(s) == has_cols(o) && l->left[v.i] == here &&
           !l->p->stored[v.i] && same_dims(val_type(l->g, v), val_type(l->g, op->out));
}

/* v may be written where n's tile is: nothing else refers to it, and a store of v would not hold up the next tile. */
static bool
can_hold(const Lower *l, Val v, const Node *n)
{
    int64_t at;
    bool calm = n->rotates || !l->p->stored[written_as(l, v).i] || !l->in_loop;
    Tile home;
    return l->gr->in_place && n->own && calm && !n->mm && !home_tile(l, written_as(l, v), &home) &&
           n->tile.dt == tile_dtype(l, v, l->p->span[v.i]) && !only_concat(l, v, &at);
}

static Status
fresh_tile(Lower *l, Val v, Node *out)
{
    int64_t at;
    *out = (Node){.epoch = epoch_of(l, l->p->span[v.i]), .kind = N_tile};
    out->own = only_concat(l, v, &at) == NULL;
    out->rotates = stored_bufs(l, v) > 1;
    return new_tile(l, v, &out->tile);
}

Status
chain_tile(Lower *l, Val v, const Node *chain, Node *out)
{
    if (chain->kind != N_lazy || !can_hold(l, v, chain))
        return fresh_tile(l, v, out);
    *out = (Node){.kind = N_tile, .tile = chain->tile, .own = true, .rotates = chain->rotates};
    return ST_OK;
}

Status
force(Lower *l, Val v, Node *n)
{
    Node dst;
    if (n->kind == N_tile)
        return ST_OK;
    TRY(chain_tile(l, v, n, &dst));
    TRY(emit_chain(l, v, n, &dst.tile, &dst.fold));
    dst.epoch = n->epoch;
    dst.negated = n->negated;
    *n = dst;
    return ST_OK;
}

/* The node of operand i if op's result may be written over it. */
static Node *
overwritable(Lower *l, const Op *op, int i)
{
    Val v = op_val(l->g, op, i);
    Node *n = &l->node[v.i];
    if (!is_last_use(l, op, i))
        return NULL;
    if (!is_member(l, v)) {
        if (l->leaf_of[v.i] == 0)
            return NULL;
        n = &l->leaves.p[l->leaf_of[v.i]].node;
    }
    bool current = n->epoch == epoch_of(l, operand_span(l, op, i));
    return current && (n->kind == N_tile || n->kind == N_lazy) && can_hold(l, op->out, n) ? n : NULL;
}

Status
result_tile(Lower *l, const Op *op, uint32_t operands, Node *out)
{
    for (int i = 0; i < op->nin; i++) {
        Node *from = operands >> i & 1 ? overwritable(l, op, i) : NULL;
        if (!from)
            continue;
        from->own = false;
        *out = (Node){.epoch = epoch_of(l, l->p->span[op->out.i]),
                      .kind = N_tile,
                      .tile = from->tile,
                      .own = true,
                      .rotates = from->rotates};
        return ST_OK;
    }
    return fresh_tile(l, op->out, out);
}

static bool
same_range(Range a, Range b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

Status
find_leaf(Lower *l, Val v, Span s, uint32_t *out)
{
    uint32_t k = l->leaf_of[v.i];
    for (; k; k = l->leaves.p[k].next) {
        const Span *o = &l->leaves.p[k].span;
        bool same = o->role == s.role && same_range(o->spine, s.spine) && same_range(o->outer, s.outer);
        if (same && same_range(o->col, s.col))
            break;
    }
    if (k == 0) {
        VEC_PUSH(l->cx, l->a, &l->leaves, (Leaf){.v = v, .span = s, .next = l->leaf_of[v.i]});
        k = l->leaf_of[v.i] = l->leaves.n - 1;
    }
    *out = k;
    return ST_OK;
}

Status
load_leaf(Lower *l, Val v, Span s, Node **out)
{
    uint32_t k;
    TRY(find_leaf(l, v, s, &k));
    double imm;
    bool splat = is_splat(l->g, v, &imm);
    uint32_t now = splat ? l->epoch : epoch_of(l, s);
    if (l->leaves.p[k].node.epoch != now) {
        Tile t;
        bool shared;
        TRY(leaf_in_window(l, v, s, &t, &shared));
        if (shared)
            ;
        else if (splat)
            TRY(fill_tile(l, v, s, imm, &t));
        else if (s.role == RO_row)
            TRY(load_rows(l, v, s, &t));
        else
            TRY(load_free(l, v, s, &t));
        bool alone = !shared && !chip_of(l, t.buf) && l->leaves.p[k].next == 0 && l->leaf_of[v.i] == k;
        bool single = alone && s.role == RO_row;
        l->leaves.p[k].node = (Node){.epoch = now, .kind = N_tile, .tile = t, .own = single, .rotates = l->in_loop};
    }
    *out = &l->leaves.p[k].node;
    return ST_OK;
}

/* A free value has the columns of the whole panel: step to the current chunk. */
static Status
at_chunk(Lower *l, Val v, Span s, Node **n)
{
    uint32_t k;
    Node view = **n;
    if (s.role != RO_free || !has_cols(s))
        return ST_OK;
    TRY(find_leaf(l, v, s, &k));
    view.tile.off = affine_add(view.tile.off, affine_scale(l->chunk0, view.tile.stride[s.col.lo]));
    l->leaves.p[k].view = view;
    *n = &l->leaves.p[k].view;
    return ST_OK;
}

Status
operand(Lower *l, const Op *op, int i, Node **out)
{
    Val v = op_val(l->g, op, i);
    Span s = operand_span(l, op, i);
    if (!is_member(l, v)) {
        TRY(load_leaf(l, v, s, out));
        return at_chunk(l, v, s, out);
    }
    *out = &l->node[v.i];
    TRY(at_chunk(l, v, l->p->span[v.i], out));
    if ((*out)->epoch != epoch_of(l, l->p->span[v.i]))
        return fail(l->cx, ST_BUG, l->loc, "NKI-4003 lower: %s is used before it is computed",
                    op_def(l->g, val_def(l->g, v))->name);
    return ST_OK;
}

Status
operand_tile(Lower *l, const Op *op, int i, Tile *out)
{
    Node *n;
    Val v = op_val(l->g, op, i);
    TRY(operand(l, op, i, &n));
    TRY(force(l, v, n));
    *out = aligned(l, &n->tile, v, op->out);
    return ST_OK;
}

Status
dense_copy(Lower *l, Val v, Span s, DType dt, const Tile *src, Tile *out)
{
    const Type *t = val_type(l->g, v);
    Instr in = {.op = K_tensor_copy, .rank = t->rank, .per = per_of(l, s), .parts = parts_of(l, s)};
    TRY(tile_of(l, v, s, dt, 1, out));
    for (int i = 0; i < t->rank; i++)
        in.count[i] = is_free_dim(s, i) ? span_dim(l, t, s, i) : 1;
    instr_arg(&in, 0, out);
    instr_arg(&in, 1, src);
    return emit_instr(l, &in);
}

Status
store_row(Lower *l, Val v)
{
    Node *n = &l->node[v.i];
    Tile home;
    TRY(force(l, v, n));
    if (home_tile(l, v, &home) && n->tile.buf.i != home.buf.i) {
        TRY(copy_tile(l, v, &n->tile, &home));
        n->tile = home;
        n->own = false;
    }
    return store_tile(l, v, &n->tile, l->p->span[v.i], l->parts, l->per);
}
