/* expr.c - tensor expressions as C expressions, for passes that replace an op by several.
 *
 * in:   values of the graph that is being built
 * out:  a value of it; {0} after a failure
 * rule: the first failure sticks in Expr.st, later calls do nothing
 */
#include "pass/pass.h"

Val
x_unary(Expr *e, TOp op, Val a)
{
    Val v = {0};
    if (e->st == ST_OK)
        e->st = t_unary(e->g, op, a, e->loc, &v);
    return v;
}

Val
x_binary(Expr *e, TOp op, Val a, Val b)
{
    Val v = {0};
    if (e->st == ST_OK)
        e->st = t_binary(e->g, op, a, b, e->loc, &v);
    return v;
}

Val
x_number(Expr *e, DType dt, double c)
{
    Val v = {0};
    if (e->st == ST_OK && is_float(dt))
        e->st = t_full(e->g, dt, 0, NULL, c, e->loc, &v);
    else if (e->st == ST_OK) /* -1 of an unsigned dtype wraps */
        e->st = t_full_int(e->g, dt, 0, NULL, (int64_t)c, e->loc, &v);
    return v;
}

Val
x_with(Expr *e, TOp op, Val a, DType dt, double c)
{
    return x_binary(e, op, a, x_number(e, dt, c));
}

Val
x_cast(Expr *e, Val a, DType dt)
{
    Val v = {0};
    if (e->st == ST_OK)
        e->st = t_cast(e->g, a, dt, e->loc, &v);
    return v;
}

Val
x_rcast(Expr *e, Val a, DType dt)
{
    Val v = {0};
    AttrId attr;
    if (e->st == ST_OK)
        e->st = attr_make(e->g->cx, &AT_INT(A_dtype, dt), 1, &attr);
    if (e->st == ST_OK)
        e->st = t_emit(e->g, T_rcast, &a, 1, attr, e->loc, &v);
    return v;
}

Val
x_where(Expr *e, Val c, Val a, Val b)
{
    Val v = {0};
    if (e->st == ST_OK)
        e->st = t_where(e->g, c, a, b, e->loc, &v);
    return v;
}
