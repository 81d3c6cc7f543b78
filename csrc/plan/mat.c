/* mat.c - what follows from which operand of a product is needed whole.
 *
 * in:   a matmul and the spine of its result
 * out:  its Mat
 * rule: the operand without the spine is the whole one. With the columns on the spine that is the first operand, and
 *       the product is computed turned: its rows are the other's columns.
 */
#include "plan/plan.h"

Mat
mat_of(const Graph *g, const Op *op, Range spine)
{
    int rank = val_type(g, op->out)->rank;
    bool by_columns = spine.lo < spine.hi && spine.hi == rank;
    int full_arg = by_columns ? 0 : 1, row_arg = 1 - full_arg;
    Mat m = {.row = op_val(g, op, row_arg), .full = op_val(g, op, full_arg), .by_columns = by_columns};
    int frank = val_type(g, m.full)->rank, rrank = val_type(g, m.row)->rank;
    m.row_arg = (uint8_t)row_arg;
    m.full_arg = (uint8_t)full_arg;
    m.row_k = (uint8_t)(by_columns ? rrank - 2 : rrank - 1);
    m.full_k = (uint8_t)(by_columns ? frank - 1 : frank - 2);
    m.full_c = (uint8_t)(by_columns ? frank - 2 : frank - 1);
    m.col = (uint8_t)(by_columns ? rank - 2 : rank - 1);
    m.k = val_type(g, m.full)->dim[m.full_k];
    m.dt = val_dtype(g, m.row);
    return m;
}
