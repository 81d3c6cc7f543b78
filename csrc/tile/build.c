/* build.c - builders for tile programs.
 *
 * in:   operands in the row's order, attributes as given
 * out:  ops appended to the graph; access patterns and attributes are interned
 * rule: builders assert what only a caller in C can get wrong; the hardware's rules are the verifier's business.
 */
#include <assert.h>

#include "tile/tile.h"

static Status
append_buffer(Graph *g, Space sp, DType dt, int rank, const int64_t *dim, const AttrItem *at, int nat, LocId loc,
              Val *out)
{
    TyId ty;
    AttrId attr = {0};
    OpId op;
    TRY(type_make(g->cx, TY_buffer, sp, dt, rank, dim, &ty));
    if (nat > 0)
        TRY(attr_make(g->cx, at, nat, &attr));
    TRY(graph_append(g, K_buffer, NULL, 0, attr, loc, &ty, 1, &op));
    *out = graph_op(g, op)->out;
    return ST_OK;
}

Status
k_buffer(Graph *g, Space sp, BufKind kind, DType dt, int rank, const int64_t *dim, int bufs, int index,
         const char *name, LocId loc, Val *out)
{
    AttrItem at[3];
    int n = 0;
    assert(kind != BK_constant && "constants carry data: k_const_buffer");
    if (kind != BK_tile)
        at[n++] = AT_INT(A_kind, kind);
    if (kind == BK_input || kind == BK_output)
        at[n++] = AT_INT(A_index, index);
    if (bufs > 1)
        at[n++] = AT_INT(A_bufs, bufs);
    TRY(append_buffer(g, sp, dt, rank, dim, at, n, loc, out));
    return name && *name ? graph_name_val(g, *out, name) : ST_OK;
}

Status
k_const_buffer(Graph *g, const Data *d, DType dt, int rank, const int64_t *dim, int index, LocId loc, Val *out)
{
    AttrItem at[3] = {AT_INT(A_kind, BK_constant), {.key = A_data, .data = d}};
    int n = 2;
    if (index >= 0)
        at[n++] = AT_INT(A_index, index);
    return append_buffer(g, SP_hbm, dt, rank, dim, at, n, loc, out);
}

Status
k_loop(Graph *g, int64_t count, LocId loc, Val *var)
{
    TyId ty;
    AttrId attr;
    OpId op;
    TRY(type_make(g->cx, TY_index, SP_hbm, DT_none, 0, NULL, &ty));
    TRY(attr_make(g->cx, &AT_INT(A_count, count), 1, &attr));
    TRY(graph_append(g, K_loop, NULL, 0, attr, loc, &ty, 1, &op));
    *var = graph_op(g, op)->out;
    return ST_OK;
}

Status
k_end(Graph *g, LocId loc)
{
    OpId op;
    return graph_append(g, K_end, NULL, 0, (AttrId){0}, loc, NULL, 0, &op);
}

/* Operands beyond `nin` are absent. A loop variable has no access pattern. */
Status
k_emit(Graph *g, KOp op, const Ref *in, int nin, const AttrItem *at, int nat, LocId loc)
{
    const OpDef *def = &tile_dialect.ops[op];
    Operand operand[MAX_OPERANDS] = {{{0}, {0}}};
    AttrId attr = {0};
    OpId id;

    assert(op > K_none && op < K_COUNT && !(def->flags & F_CONTROL) && nin <= def->nin);
    for (int i = 0; i < nin; i++) {
        operand[i].v = in[i].buf;
        if (in[i].buf.i != 0 && def->operand[i].spaces != 0)
            TRY(ap_make(g->cx, &in[i].ap, &operand[i].ap));
    }
    if (nat > 0)
        TRY(attr_make(g->cx, at, nat, &attr));
    return graph_append(g, op, operand, def->nin, attr, loc, NULL, 0, &id);
}
