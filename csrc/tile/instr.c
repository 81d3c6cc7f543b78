/* instr.c - the questions that every reader of a tile program asks about an instruction or a buffer.
 *
 * in:   an op of a tile graph, also of one that breaks the hardware's rules
 * out:  what its row and its attributes say together
 */
#include "tile/tile.h"

/* PSUM copies start at a bank, SBUF copies at an aligned byte. Neither differs between generations. */
int64_t
buffer_stride(const Type *t)
{
    const Hw *hw = hw_get(TG_trn2);
    int64_t align = (int64_t)(t->space == SP_psum ? hw->psum_bank_bytes : hw->min_align);
    return ALIGN_UP(buffer_bytes(t), align);
}

int64_t
buffer_bytes(const Type *t)
{
    int64_t n = dtypes[t->dtype].bytes;
    for (int i = t->space == SP_hbm ? 0 : 1; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

int
instr_engine(const Graph *g, const Op *op)
{
    const OpDef *def = op_def(g, op);
    if (def->flags & F_DMA)
        return EN_dma;
    int e = op->attr.i ? (int)attr_int(g->cx, op->attr, A_engine, EN_unknown) : EN_unknown;
    return e == EN_unknown ? def->engine : e;
}

static bool
shuffle_keeps(const Graph *g, const Op *op)
{
    const int64_t *mask;
    int n = attr_ints(g->cx, op->attr, A_mask, &mask);
    for (int i = 0; i < n; i++) {
        if (mask[i] == SHUFFLE_KEEP)
            return true;
    }
    return false;
}

int
operand_role(const Graph *g, const Op *op, int i)
{
    if (op_val(g, op, i).i == 0)
        return R_none;
    int role = op_def(g, op)->operand[i].role & R_update;
    if (i != KI_dst)
        return role;
    if (op->code == K_nc_matmul && (op_val(g, op, KM_first).i != 0 || attr_int(g->cx, op->attr, A_accumulate, 0)))
        return R_update;
    if (op->code == K_nc_stream_shuffle && shuffle_keeps(g, op))
        return R_update;
    return role;
}
