/* operators.c - what Python's operators on traced arrays become.
 *
 * in:   operands as the user wrote them, at least one of them traced
 * out:  a traced array, laid out as NumPy would
 * rule: they call the builder straight; each costs one op, one location and one small object.
 */
#include "py/py.h"

#include <string.h>

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

/* & | ^ ~ are logical on bool; on integers they have no tensor op. */
static PyObject *
bitwise(Session *s, TOp op, const char *name, PyObject *a, PyObject *b)
{
    char weak_a, weak_b = 'b';
    Val x, y, v = {0};
    Status st;

    if (operand_of(s, name, a, &x, &weak_a) < 0)
        return NULL;
    y = x;
    if (b && operand_of(s, name, b, &y, &weak_b) < 0)
        return NULL;
    if (val_dtype(s->graph, x) != DT_bool || val_dtype(s->graph, y) != DT_bool) {
        DType other = val_dtype(s->graph, val_dtype(s->graph, x) != DT_bool ? x : y);

        if (is_float(other))
            return raise_here(s, E_DType, "NKI-1075 %s: not defined for %s", name, dtypes[other].name);
        return raise_here(s, E_Unsupported, "NKI-1076 %s: supported for bool only, got %s", name, dtypes[other].name);
    }
    if (!b)
        return traced_like(s, t_unary(s->graph, op, x, here(s), &v), v, &a, 1);
    st = t_binary_np(s->graph, op, x, weak_a, y, weak_b, here(s), &v);
    return traced_like(s, st, v, (PyObject *const[]){a, b}, 2);
}

PyObject *
traced_bitwise(Session *s, const char *name, PyObject *const *args)
{
    static const struct {
        const char *name;
        TOp op;
        int nin;
    } rows[] = {{"bitwise_and", T_logical_and, 2},
                {"bitwise_or", T_logical_or, 2},
                {"bitwise_xor", T_logical_xor, 2},
                {"invert", T_logical_not, 1}};

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(rows[i].name, name) == 0)
            return bitwise(s, rows[i].op, name, args[0], rows[i].nin == 2 ? args[1] : NULL);
    return raise_absent(s, "numpy", name);
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
