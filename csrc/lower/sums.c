/* sums.c - sums that ride along with the instruction that computes what they sum.
 *
 * in:   a value
 * out:  the sum that its instruction may carry, and the tile that receives it
 * rule: a sum is carried when it takes in CARRY_ELEMS elements or more at a time, or all of the one row of a partition
 */
#include "lower/context.h"

/* The result's tile with strides by the operand's dims: 0 along what is reduced. */
Tile
by_operand_dims(const Lower *l, const Op *op, const Tile *t)
{
    const Type *opd = val_type(l->g, op_val(l->g, op, 0));
    uint32_t set = reduced_dims(l->g, op);
    bool keep = attr_int(l->cx, op->attr, A_keepdims, 0) != 0;
    Tile r = *t;
    for (int i = 0, at = 0; i < opd->rank; i++) {
        bool gone = set >> i & 1;
        r.stride[i] = gone ? 0 : t->stride[at];
        at += !gone || keep;
    }
    return r;
}

bool
carried_sum(const Lower *l, Val v, Val *sum)
{
    *sum = l->sum_of[v.i];
    if (sum->i == 0 || !is_float(val_dtype(l->g, v)) || l->p->span[v.i].role != RO_row)
        return false;
    const Op *op = val_def(l->g, *sum);
    const Type *t = val_type(l->g, v);
    Span s = l->p->span[v.i];
    uint32_t set = reduced_dims(l->g, op);
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (set >> i & 1) && is_free_dim(s, i) ? t->dim[i] : 1;
    bool alone = row_elems(l, v, s) == n && l->per == 1;
    return n >= CARRY_ELEMS || alone;
}

Status
new_sum(Lower *l, Val sum, Tile *out)
{
    Tile t;
    TRY(new_tile(l, sum, &t));
    set_node(l, sum, N_tile)->tile = t;
    *out = by_operand_dims(l, val_def(l->g, sum), &t);
    return ST_OK;
}
