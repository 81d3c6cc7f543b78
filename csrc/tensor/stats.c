/* stats.c - means and variances, as NumPy composes them of sums.
 *
 * in:   a value, the axes, and the dtype that the user asks for, if any
 * out:  a value of the dtype that NumPy gives
 * rule: without a dtype, integers are computed in f64 and the narrow floats in f32, rounded once at the end. With one,
 *       each step is NumPy's own: the sums are of that dtype, and quotients are cast to it, which truncates integers.
 */
#include "tensor/tensor.h"

static DType
default_dtype(DType dt)
{
    if (!is_float(dt))
        return DT_f64;
    return dtypes[dt].bytes < 4 ? DT_f32 : dt;
}

static bool
is_default(DType dt, DType want)
{
    return want == DT_none || (is_float(want) && want == (is_float(dt) ? dt : DT_f64));
}

static Status
count_elements(Graph *g, const char *what, Val a, const Over *over, LocId loc, double *out)
{
    const Type *t = val_type(g, a);
    int64_t list[MAX_RANK];
    int count;
    TRY(t_axes(g, what, t->rank, over->axes, over->n, loc, list, &count));
    *out = 1;
    for (int i = 0; i < count; i++)
        *out *= (double)t->dim[list[i]];
    return ST_OK;
}

/* sum(a) / divisor in a's dtype, a float */
static Status
average(Graph *g, Val a, const Over *over, double divisor, bool keepdims, LocId loc, Val *out)
{
    Val sum, d;
    TRY(t_reduce(g, T_reduce_sum, a, over->axes, over->n, keepdims, loc, &sum));
    TRY(t_full(g, val_dtype(g, a), 0, NULL, divisor, loc, &d));
    return t_binary(g, T_div, sum, d, loc, out);
}

/* ---- the dtype is given ---- */

/* sum / n without the fraction: the floor, and one more where a negative quotient has one. */
static Status
truncated_quotient(Graph *g, Val sum, Val n, LocId loc, Val *out)
{
    DType dt = val_dtype(g, sum);
    Val zero, whole, negative, up;
    TRY(t_binary(g, T_floor_divide, sum, n, loc, out));
    if (dtypes[dt].kind != DK_int)
        return ST_OK;
    TRY(t_full_int(g, dt, 0, NULL, 0, loc, &zero));
    TRY(t_binary(g, T_mul, *out, n, loc, &whole));
    TRY(t_binary(g, T_not_equal, whole, sum, loc, &up));
    TRY(t_binary(g, T_less, sum, zero, loc, &negative));
    TRY(t_binary(g, T_logical_and, up, negative, loc, &up));
    TRY(t_cast(g, up, dt, loc, &up));
    return t_binary(g, T_add, *out, up, loc, out);
}

/* NumPy divides in f64 and casts. Integers by an integer that they can hold need no float for it. */
static Status
quotient(Graph *g, Val sum, double divisor, LocId loc, Val *out)
{
    DType dt = val_dtype(g, sum), loop = is_float(dt) ? dt : DT_f64;
    Val d;
    if (is_integer(dt) && divisor == (double)(int64_t)divisor && divisor >= 1 && divisor <= dtypes[dt].max) {
        TRY(t_full_int(g, dt, 0, NULL, (int64_t)divisor, loc, &d));
        return truncated_quotient(g, sum, d, loc, out);
    }
    TRY(t_cast(g, sum, loop, loc, &sum));
    TRY(t_full(g, loop, 0, NULL, divisor, loc, &d));
    TRY(t_binary(g, T_div, sum, d, loc, out));
    return t_cast(g, *out, dt, loc, out);
}

/* sum(a, dtype) / divisor, of that dtype */
static Status
average_of_dtype(Graph *g, Val a, const Over *over, double divisor, bool keepdims, LocId loc, Val *out)
{
    Val sum;
    TRY(t_cast(g, a, over->dtype, loc, &a));
    TRY(t_reduce(g, T_reduce_sum, a, over->axes, over->n, keepdims, loc, &sum));
    TRY(t_cast(g, sum, over->dtype, loc, &sum)); /* adding in 64 bits and wrapping then is the same */
    return quotient(g, sum, divisor, loc, out);
}

static Status
var_of_dtype(Graph *g, Val a, const Over *over, double count, double divisor, LocId loc, Val *out)
{
    Val mean, x;
    TRY(average_of_dtype(g, a, over, count, true, loc, &mean));
    TRY(t_binary_np(g, T_sub, a, 0, mean, 0, loc, &x));
    TRY(t_unary(g, T_square, x, loc, &x));
    return average_of_dtype(g, x, over, divisor, over->keepdims, loc, out);
}

/* ---- NumPy's functions ---- */

Status
t_mean(Graph *g, Val a, const Over *over, LocId loc, Val *out)
{
    DType dt = val_dtype(g, a);
    double count;
    TRY(count_elements(g, "mean", a, over, loc, &count));
    if (!is_default(dt, over->dtype))
        return average_of_dtype(g, a, over, count, over->keepdims, loc, out);
    TRY(t_cast(g, a, default_dtype(dt), loc, &a));
    TRY(average(g, a, over, count, over->keepdims, loc, out));
    return is_float(dt) ? t_cast(g, *out, dt, loc, out) : ST_OK;
}

Status
t_var(Graph *g, Val a, const Over *over, double ddof, LocId loc, Val *out)
{
    DType dt = val_dtype(g, a);
    double count, divisor;
    Val mean, x;
    TRY(count_elements(g, "var", a, over, loc, &count));
    divisor = MAX(count - ddof, 0);
    if (!is_default(dt, over->dtype))
        return var_of_dtype(g, a, over, count, divisor, loc, out);
    TRY(t_cast(g, a, default_dtype(dt), loc, &a));
    TRY(average(g, a, over, count, true, loc, &mean));
    TRY(t_binary(g, T_sub, a, mean, loc, &x));
    TRY(t_unary(g, T_square, x, loc, &x));
    TRY(average(g, x, over, divisor, over->keepdims, loc, out));
    return is_float(dt) ? t_cast(g, *out, dt, loc, out) : ST_OK;
}

/* NumPy writes the root into the variance, which must be a float unless it is a scalar. */
Status
t_std(Graph *g, Val a, const Over *over, double ddof, LocId loc, Val *out)
{
    TRY(t_var(g, a, over, ddof, loc, out));
    DType dt = val_dtype(g, *out);
    if (!is_float(dt) && val_type(g, *out)->rank > 0)
        return fail(g->cx, ST_TYPE, loc,
                    "NKI-2039 std: the root of a variance of dtype %s is no %s; give a float dtype", dtypes[dt].np,
                    dtypes[dt].np);
    TRY(t_unary(g, T_sqrt, *out, loc, out));
    return t_cast(g, *out, dt, loc, out);
}
