/* rounding.c - where the rounding of a result to its dtype takes place.
 *
 * in:   an op of the tensor graph
 * out:  whether what an engine computes for it in f32 is a value of its dtype already
 * rule: every result is rounded to its dtype before anybody reads it. Engines compute in f32 and round where they
 *       write, so a result that is not of that kind is written in its dtype at once, and only then read: it neither
 *       waits in a chain, nor stays in PSUM, nor lies in an f32 tile. There are two exceptions: a sum that an
 *       instruction carries along adds what has just been computed, and a product of matrices accumulates in f32.
 */
#include "plan/plan.h"

/* x * 1 and x * -1 */
static bool
is_change_of_sign(const Graph *g, const Op *op)
{
    double c;
    for (int i = 0; i < 2; i++)
        if (is_splat(g, op_val(g, op, i), &c) && (c == 1 || c == -1))
            return true;
    return false;
}

bool
keeps_rounding(const Graph *g, const Op *op)
{
    DType dt = val_dtype(g, op->out);
    if (op->code == T_cast || op->code == T_rcast)
        return dtype_holds(dt, val_dtype(g, op_val(g, op, 0)));
    if (!is_float(dt) || dtypes[dt].bytes >= 4)
        return true;
    switch ((TOp)op->code) {
    case T_input:
    case T_const:
    case T_full:
    case T_copy:
    case T_abs:
    case T_sign:
    case T_maximum:
    case T_minimum:
    case T_where:
    case T_reduce_max:
    case T_reduce_min:
    case T_concat:
        return true;
    case T_mul:
        return is_change_of_sign(g, op);
    default:
        return (op_def(g, op)->flags & F_LAYOUT) != 0;
    }
}
