/* dialect.c - the table of tensor ops, opened from ops.def, and their NumPy names.
 *
 * in:   nothing
 * out:  tensor_dialect; op <-> NumPy name
 * rule: no list of ops here, only the few second names that NumPy gives to a ufunc.
 */
#include "tensor/tensor.h"

#include <string.h>

static const OpDef tensor_ops[T_COUNT] = {
    [T_none] = {.name = "none", .cls = "NONE", .doc = "No op."},
#define OP(id, class, ...) [T_##id] = {.name = #id, .cls = #class, .nout = 1, __VA_ARGS__},
#include "tensor/ops.def"
#undef OP
};

const Dialect tensor_dialect = {.name = "tensor", .ops = tensor_ops, .nops = T_COUNT, .verify = tensor_verify};

/* Other names of the same ufunc object; NumPy reports the first. */
static const struct {
    const char *name;
    TOp op;
} aliases[] = {
    {"divide", T_div},
    {"abs", T_abs},
    {"mod", T_remainder},
};

const char *
t_np_name(TOp op)
{
    return np_name(&tensor_ops[op]);
}

/* Reductions, layout and casts have NumPy names too, but they are functions and not ufuncs. */
static bool
is_ufunc(const OpDef *d)
{
    if (d->np == NULL || d->np[0] == '.' || !(d->flags & F_PURE))
        return false;
    return strncmp(d->cls, "EW", 2) == 0 || strcmp(d->cls, "CMP") == 0 || strcmp(d->cls, "MATMUL") == 0;
}

TOp
t_from_np_ufunc(const char *name)
{
    for (int op = 1; op < T_COUNT; op++) { /* sin comes before sin_pi, which has the same name */
        const OpDef *d = &tensor_ops[op];
        if (d->np != NULL && d->np[0] == name[0] && strcmp(d->np, name) == 0 && is_ufunc(d) && op != T_where)
            return (TOp)op;
    }
    for (int i = 0; i < COUNT_OF(aliases); i++) {
        if (strcmp(aliases[i].name, name) == 0)
            return aliases[i].op;
    }
    return T_none;
}
