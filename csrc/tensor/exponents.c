/* exponents.c - inputs that are exponents of integers: NumPy raises where one is negative, and a call can tell.
 *
 * in:   a tensor graph
 * out:  by index of the inputs, whether an integer power takes its elements as exponents, moved or converted at most
 * rule: one walk forward; what is computed of an input is no longer looked at
 */
#include "tensor/tensor.h"

static bool
keeps_sign(const Graph *g, const Op *op)
{
    if (op->code == T_cast || op->code == T_copy)
        return is_integer(val_dtype(g, op_val(g, op, 0)));
    return op_def(g, op)->flags & F_LAYOUT;
}

Status
t_exponents(const Graph *g, Arena *a, bool **by_input)
{
    uint32_t *from; /* by value: 1 + the index of the input whose elements it has */
    NEW(g->cx, a, *by_input, g->inputs.n + 1);
    NEW(g->cx, a, from, g->vals.n);
    for (uint32_t i = 0; i < g->inputs.n; i++)
        from[g->inputs.p[i].i] = i + 1;
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        if (op->nin == 1 && keeps_sign(g, op))
            from[op->out.i] = from[op_val(g, op, 0).i];
        if (op->code == T_power && is_integer(val_dtype(g, op->out)) && from[op_val(g, op, 1).i])
            (*by_input)[from[op_val(g, op, 1).i] - 1] = true;
    }
    return ST_OK;
}
