/* known.c - what is certain about a value from the few ops that made it.
 *
 * in:   a value of a tensor graph
 * out:  yes, or no for "cannot tell"
 * rule: looks a bounded number of ops back along one chain; says what intervals (interval.c) cannot: gaps around 0, and
 *       whether a 0 may be negative
 */
#include "pass/pass.h"

#include <math.h>

#define REACH 12
#define SCAN_MAX 65536 /* elements of a constant that are looked at */

static Val
operand(const Graph *g, Val v, int i)
{
    return op_val(g, val_def(g, v), i);
}

/* v before changes of layout, which keep the elements, and before conversions between floats if asked. */
static Val
bare(const Graph *g, Val v, bool through_casts)
{
    for (int i = 0; i < REACH; i++) {
        const Op *op = val_def(g, v);
        bool is_cast = op->code == T_cast && is_float(val_dtype(g, op_val(g, op, 0)));
        if (!(op->flags & F_LAYOUT) && !(is_cast && through_casts))
            break;
        v = op_val(g, op, 0);
    }
    return v;
}

/* The operand that an op of two has beside a constant from 0 on; -0 is none: times it, 0 is -0. */
static bool
beside_constant(const Graph *g, Val v, Val *other)
{
    double c;
    for (int i = 0; i < 2; i++) {
        if (is_splat(g, operand(g, v, i), &c) && c >= 0 && !signbit(c)) {
            *other = operand(g, v, 1 - i);
            return true;
        }
    }
    return false;
}

bool
is_never_negative(const Graph *g, Val v)
{
    double c;
    for (int i = 0; i < REACH; i++) {
        v = bare(g, v, true);
        if (is_splat(g, v, &c))
            return c >= 0 && !signbit(c);
        switch (val_def(g, v)->code) {
        case T_exp:
        case T_square:
        case T_abs:
        case T_sigmoid:
            return true;
        case T_reduce_sum:
        case T_reduce_max:
        case T_reduce_min:
        case T_reciprocal:
            v = operand(g, v, 0);
            break;
        case T_mul:
        case T_add:
            if (!beside_constant(g, v, &v))
                return false;
            break;
        case T_maximum:
            return beside_constant(g, v, &v);
        default:
            return false;
        }
    }
    return false;
}

static bool
is_normal(double c)
{
    return c == 0 || !(fabs(c) < 0x1p-126);
}

static bool
is_normal_constant(const Graph *g, const Op *op)
{
    const Type *t = val_type(g, op->out);
    int64_t n = type_numel(t);
    const unsigned char *p = attr_find(g->cx, op->attr, A_data)->data->p;
    for (int64_t i = 0; i < n && n <= SCAN_MAX; i++)
        if (!is_normal(dtype_load((DType)t->dtype, p + i * dtypes[t->dtype].bytes)))
            return false;
    return n <= SCAN_MAX;
}

bool
is_exponential(const Graph *g, Val v)
{
    return val_def(g, bare(g, v, true))->code == T_exp;
}

bool
has_no_subnormals(const Graph *g, Val v)
{
    double c;
    if (is_splat(g, v, &c))
        return is_normal(c);
    v = bare(g, v, false);
    const Op *op = val_def(g, v);
    switch (op->code) {
    case T_cast: /* of f16, whose least is 2**-24, of integers and of flags */
        v = op_val(g, op, 0);
        return val_dtype(g, v) == DT_f16 || !is_float(val_dtype(g, v)) || val_def(g, bare(g, v, false))->code == T_sqrt;
    case T_const:
        return is_normal_constant(g, op);
    case T_sqrt:
        return true; /* at least 2**-75 */
    default:
        return false;
    }
}
