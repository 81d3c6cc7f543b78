/* operators.c - what Python's operators on traced arrays become.
 *
 * in:   operands as the user wrote them, at least one of them traced
 * out:  a traced array, laid out as NumPy would
 * rule: they call the builder straight; each costs one op, one location and one small object.
 */
#include "py/py.h"

PyObject *
traced_result(Session *s, Status st, Val v)
{
    return st == ST_OK ? traced_new(s, v) : raise_status(s, st, E_Shape);
}

int
traced_operand(Session *s, const char *what, PyObject *o, Val *out)
{
    char weak;

    return operand_of(s, what, o, out, &weak);
}

PyObject *
traced_binary(Session *s, TOp op, PyObject *a, PyObject *b)
{
    const char *name = tensor_dialect.ops[op].np;
    char weak_a, weak_b;
    Val x, y, v = {0};
    Status st;

    if (operand_of(s, name, a, &x, &weak_a) < 0 || operand_of(s, name, b, &y, &weak_b) < 0)
        return NULL;
    st = t_binary_np(s->graph, op, x, weak_a, y, weak_b, here(s), &v);
    return traced_like(s, st, v, (PyObject *const[]){a, b}, 2);
}

PyObject *
traced_unary(Session *s, TOp op, PyObject *a)
{
    Val x, v = {0};

    if (traced_operand(s, tensor_dialect.ops[op].np, a, &x) < 0)
        return NULL;
    return traced_like(s, t_unary(s->graph, op, x, here(s), &v), v, &a, 1);
}

PyObject *
traced_divmod(Session *s, PyObject *a, PyObject *b)
{
    PyObject *q = traced_binary(s, T_floor_divide, a, b), *r = q ? traced_binary(s, T_remainder, a, b) : NULL;
    PyObject *pair = r ? PyTuple_Pack(2, q, r) : NULL;

    Py_XDECREF(q);
    Py_XDECREF(r);
    return pair;
}
