/* expand_bits.c - operators on bits that the engines have in another form.
 *
 * in:   operands of one 32-bit integer dtype
 * out:  NumPy's result in every bit, also for distances that are no bit of the dtype
 * rule: the engines' shift down brings zeros in; a negative number is shifted with its bits the other way
 */
#include "pass/expand.h"

#define SIGN_BIT 31

Val
expand_invert(Expr *e, Val x)
{
    return x_binary(e, T_bitwise_xor, x, num(e, -1));
}

Val
expand_right_shift(Expr *e, Val x, Val n)
{
    if (e->dt == DT_u32)
        return x_binary(e, T_shift_down, x, n);
    Val negative = sub(e, num(e, 0), binc(e, T_shift_down, x, SIGN_BIT)); /* all bits, or none */
    Val size = x_binary(e, T_bitwise_xor, x, negative);
    return x_binary(e, T_bitwise_xor, x_binary(e, T_shift_down, size, n), negative);
}
