/* chain.c - ops that wait for their reader.
 *
 * Ops with a per-row operand are not emitted at once: they wait as a lazy chain of at most two steps on their base.
 * Whoever reads the chain takes it in: an activation as scale and bias, a tensor-tensor op as its first operator,
 * another such op as its second step; all others force it into a tile with one tensor_scalar.
 *
 * in:   nodes of values, and the ops that read them
 * out:  nodes that wait, and [P, 1] operands
 * rule: a chain waits only for a single reader in the same loop, so nothing is computed twice; and only while what
 * waits needs no rounding (rounding.c)
 */
#include "lower/context.h"

#define SCALAR_ELEMS 64 /* a per-row operand that moves within the tile is worth a loop from this many elements on, */
#define SCALAR_LOOPS 16 /* of so many iterations, more of them when each does more */

static bool
may_wait(const Lower *l, Val v)
{
    Span s = l->p->span[v.i];
    if (l->uses[v.i] != 1 || l->p->stored[v.i] || s.role != RO_row)
        return false; /* and nothing waits from one loop for another */
    return has_cols(s) == has_cols(l->p->span[graph_op(l->g, l->user[v.i])->out.i]);
}

/* n, as an operand v of result: may its chain be taken in, element for element? */
bool
is_same_size(const Lower *l, Val v, Val result)
{
    Span a = l->p->span[v.i], b = l->p->span[result.i];
    return row_elems(l, v, a) == row_elems(l, result, b) && has_cols(a) == has_cols(b);
}

/* The chain that a reader of operand i may extend: the operand's own when it waits, else one of no steps on its tile.
 */
Status
take_chain(Lower *l, const Op *op, int i, int room, Node *out)
{
    Node *n;
    Val v = op_val(l->g, op, i);
    TRY(operand(l, op, i, &n));
    bool keeps_shape = n->kind == N_tile || is_same_size(l, v, op->out);
    bool same_rank = val_type(l->g, v)->rank == val_type(l->g, op->out)->rank;
    if (n->kind != N_tile && (!keeps_shape || n->nops > room || (n->mm && !same_rank)))
        TRY(force(l, v, n));
    *out = *n;
    out->tile = aligned(l, &n->tile, v, op->out);
    if (n->kind == N_tile)
        out->nops = 0;
    Scal *scal;
    NEW(l->cx, l->a, scal, 2);
    for (int k = 0; k < out->nops; k++) {
        scal[k] = n->scal[k];
        scal[k].tile = aligned(l, &n->scal[k].tile, v, op->out);
    }
    out->scal = scal;
    return ST_OK;
}

/* A chain that waits refers to its base: it may overwrite it if it is its last reader; others no longer may. */
Status
own_base(Lower *l, const Op *op, int i, Node *chain)
{
    Node *n;
    TRY(operand(l, op, i, &n));
    chain->own = n->own && !n->mm && is_last_use(l, op, i);
    chain->rotates = n->rotates;
    n->own = false;
    return ST_OK;
}

/* A tile that is [P, 1] everywhere, or that moves only along outer dims worth a loop each. */
static bool
is_per_row(const Lower *l, const Tile *t, Val result)
{
    const Type *ty = val_type(l->g, result);
    Span s = l->p->span[result.i];
    int64_t moved = s.role == RO_row && t->rstride ? l->per : 1, still = 1;
    for (int i = 0; i < ty->rank; i++) {
        if (!is_free_dim(s, i))
            continue;
        int64_t n = span_dim(l, ty, s, i);
        if (t->stride[i] != 0 && n > 1)
            moved *= n;
        else
            still *= n;
    }
    bool worth = still >= SCALAR_ELEMS && moved <= still / SCALAR_ELEMS * SCALAR_LOOPS;
    return !t->psum && (moved == 1 || worth);
}

/* A per-row operand must be f32; a small value's tile is narrower when it had to be rounded. *ok: t is f32 now. The
 * copy replaces the tile for readers of the same scope. */
static Status
widen_small(Lower *l, const Op *op, int i, Node *n, Tile *t, bool *ok)
{
    Tile wide;
    Val v = op_val(l->g, op, i);
    Span s = is_member(l, v) ? l->p->span[v.i] : operand_span(l, op, i), to = l->p->span[op->out.i];
    *ok = t->dt == DT_f32;
    if (*ok || !is_float(t->dt) || !is_small(l, v, s) || (s.role == RO_free && has_cols(s)))
        return ST_OK;
    TRY(dense_copy(l, v, s, DT_f32, &n->tile, &wide));
    if (s.role == to.role && has_cols(s) == has_cols(to))
        n->tile = wide;
    *t = aligned(l, &wide, v, op->out);
    *ok = true;
    return ST_OK;
}

/* A chain that ends in a constant factor delivers its value with the other sign for free, when only a subtraction
 * reads it: x + (-m) is what more engines can do than x - m. */
static void
negate_chain(const Lower *l, Val v, Node *n)
{
    if (n->kind != N_lazy || n->nops == 0 || !may_wait(l, v))
        return;
    Scal *s = &n->scal[n->nops - 1];
    if (n->op[n->nops - 1] != ALU_multiply || !s->is_imm || tile_dtype(l, v, l->p->span[v.i]) != DT_f32)
        return;
    s->imm = -s->imm;
    n->negated = true;
}

/* Operand i as a [P, 1] operand, if it can be one. */
Status
as_scal(Lower *l, const Op *op, int i, Scal *out, bool *ok)
{
    Val v = op_val(l->g, op, i);
    *ok = true;
    out->is_imm = is_splat(l->g, v, &out->imm);
    if (out->is_imm)
        return ST_OK;
    Node *n;
    TRY(operand(l, op, i, &n));
    if (n->kind != N_tile && is_same_size(l, v, op->out)) {
        *ok = false; /* as large as the result: better taken in as a chain */
        return ST_OK;
    }
    if (i == 1 && op->code == T_sub)
        negate_chain(l, v, n);
    TRY(force(l, v, n));
    out->tile = aligned(l, &n->tile, v, op->out);
    *ok = is_per_row(l, &out->tile, op->out);
    if (*ok)
        TRY(widen_small(l, op, i, n, &out->tile, ok));
    if (*ok)
        n->own = false; /* a chain that waits will refer to it */
    return ST_OK;
}

/* The chain waits for its reader, unless what that would read were not rounded. */
Status
settle(Lower *l, Val v, Node *n)
{
    Node *at = set_node(l, v, (NodeKind)n->kind);
    n->epoch = at->epoch;
    *at = *n;
    return may_wait(l, v) && keeps_rounding(l->g, val_def(l->g, v)) ? ST_OK : force(l, v, at);
}

Status
append_step(Lower *l, const Op *op, int data, Alu alu, const Scal *s, bool rev)
{
    Node n;
    TRY(take_chain(l, op, data, 1, &n));
    TRY(own_base(l, op, data, &n));
    n.kind = N_lazy;
    n.negated = false;
    n.op[n.nops] = (uint8_t)alu;
    n.rev[n.nops] = rev;
    n.scal[n.nops++] = *s;
    return settle(l, op->out, &n);
}
