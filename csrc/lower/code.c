/* code.c - the tile program as it is written: ops, loops, buffers.
 *
 * in:   the program so far
 * out:  what was appended to it
 * rule: every instruction, loop and buffer on chip is appended here; buffers in HBM are made where they are known
 */
#include "lower/context.h"

Status
emit(Lower *l, KOp op, const Ref *in, int nin, const AttrItem *at, int nat)
{
    return k_emit(l->out, op, in, nin, at, nat, l->loc);
}

Status
loop_begin(Lower *l, int64_t count, Affine *index)
{
    *index = affine_const(0);
    if (count == 1)
        return ST_OK;
    Val var;
    TRY(k_loop(l->out, count, l->loc, &var));
    *index = affine_var(var, 1);
    return ST_OK;
}

Status
loop_end_of(Lower *l, int64_t count)
{
    return count == 1 ? ST_OK : k_end(l->out, l->loc);
}

Status
new_buffer(Lower *l, Space sp, DType dt, int parts, int64_t elems, int bufs, Val *out)
{
    if (sp == SP_psum) /* whole banks */
        elems = ALIGN_UP(elems, (int64_t)l->hw->psum_bank_bytes / dtypes[dt].bytes);
    int64_t dim[2] = {parts, elems};
    return k_buffer(l->out, sp, BK_tile, dt, 2, dim, bufs, -1, NULL, l->loc, out);
}

Status
dma(Lower *l, KOp op, const Ref *dst, const Ref *src)
{
    Ref in[2] = {*dst, *src};
    return emit(l, op, in, 2, NULL, 0);
}

Status
const_tile(Lower *l, double value, DType dt, Tile *out)
{
    *out = (Tile){.dt = dt};
    TRY(new_buffer(l, SP_sbuf, dt, 128, 1, 1, &out->buf));
    Ref dst = {.buf = out->buf, .ap = {.nparts = 128, .ndim = 0}};
    AttrItem at = AT_FLT(A_imm0, value);
    return emit(l, K_memset, &dst, 1, &at, 1);
}
