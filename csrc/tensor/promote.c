/* promote.c - NumPy 2's type promotion, with the formats that ml_dtypes adds to it.
 *
 * in:   dtypes, and for Python scalars (weak operands) their kind
 * out:  the dtype NumPy computes in, or ST_TYPE where NumPy raises
 * rule: a closed form of NumPy's tables; the tests compare every entry with NumPy itself.
 */
#include "tensor/tensor.h"

/* bf16 and fp8: user dtypes to NumPy, which searches for a loop they can be cast to safely. */
static bool
is_extension(DType d)
{
    return d == DT_bf16 || d == DT_fp8_e4m3 || d == DT_fp8_e4m3fn || d == DT_fp8_e5m2 || d == DT_fp8_e3m4;
}

static DType
int_of_bytes(bool is_signed, int bytes)
{
    static const DType s[] = {DT_none, DT_i8, DT_i16, DT_none, DT_i32};
    static const DType u[] = {DT_none, DT_u8, DT_u16, DT_none, DT_u32};
    if (bytes == 8)
        return is_signed ? DT_i64 : DT_u64;
    return is_signed ? s[bytes] : u[bytes];
}

/* The smallest IEEE float an integer dtype goes with: 8 bits f16, 16 bits f32, more f64. */
static DType
float_of_int(DType d)
{
    int bytes = dtypes[d].bytes;
    return bytes <= 1 ? DT_f16 : bytes == 2 ? DT_f32 : DT_f64;
}

static DType
join_ints(DType a, DType b)
{
    if (a == DT_bool || b == DT_bool)
        return a == DT_bool ? b : a;
    bool sa = dtypes[a].kind == DK_int, sb = dtypes[b].kind == DK_int;
    int na = dtypes[a].bytes, nb = dtypes[b].bytes;
    if (sa == sb)
        return int_of_bytes(sa, MAX(na, nb));
    int ns = sa ? na : nb, nu = sa ? nb : na;
    if (ns > nu)
        return int_of_bytes(true, ns);
    return nu == 8 ? DT_f64 : int_of_bytes(true, nu * 2);
}

static DType
join_ieee(DType a, DType b)
{
    if (!is_float(a) && !is_float(b))
        return join_ints(a, b);
    DType fa = is_float(a) ? a : float_of_int(a), fb = is_float(b) ? b : float_of_int(b);
    return dtypes[fa].bytes >= dtypes[fb].bytes ? fa : fb;
}

static bool
is_byte(DType d)
{
    return d == DT_bool || d == DT_i8 || d == DT_u8;
}

/* e: an extension format, o: an ordinary dtype. */
static DType
join_extension(DType e, DType o)
{
    if (is_byte(o))
        return e;
    return join_ieee(DT_f32, o);
}

static DType
join_loop(DType a, DType b)
{
    if (a == b)
        return a;
    if (!is_extension(a) && !is_extension(b))
        return join_ieee(a, b);
    if (!is_extension(a))
        return join_extension(b, a);
    if (!is_extension(b))
        return join_extension(a, b);
    bool wide = a == DT_bf16 || b == DT_bf16 || a == DT_fp8_e5m2 || b == DT_fp8_e5m2;
    return wide ? DT_f32 : a; /* among the e4m3 family the first operand's loop wins */
}

/* np.result_type; DT_none where it raises. */
static DType
join_common(DType a, DType b)
{
    if (a == b)
        return a;
    if (!is_extension(a) && !is_extension(b))
        return join_ieee(a, b);
    if (is_extension(a) && is_extension(b)) {
        if (a == DT_bf16 || b == DT_bf16 || a == DT_fp8_e5m2 || b == DT_fp8_e5m2)
            return DT_none;
        return a == DT_fp8_e3m4 || b == DT_fp8_e3m4 ? DT_fp8_e3m4 : DT_fp8_e4m3;
    }
    DType e = is_extension(a) ? a : b, o = is_extension(a) ? b : a;
    if (is_byte(o) || o == DT_f32 || o == DT_f64 || e == DT_fp8_e5m2)
        return join_extension(e, o);
    return DT_none;
}

/* A Python int or float takes the dtype of the array it meets, if its kind can. */
static DType
join_weak(DType a, char weak, bool common)
{
    if (weak == 'i')
        return a == DT_bool ? DT_i64 : a;
    if (!is_float(a))
        return DT_f64;
    if (!is_extension(a))
        return a;
    return common && a != DT_fp8_e5m2 ? DT_f64 : DT_f32;
}

static DType
join(DType a, char weak_a, DType b, char weak_b, bool common)
{
    if (weak_a == 'b' || weak_b == 'b') { /* np.bool_ arrays in all but name */
        a = weak_a == 'b' ? DT_bool : a;
        b = weak_b == 'b' ? DT_bool : b;
        weak_a = weak_a == 'b' ? 0 : weak_a;
        weak_b = weak_b == 'b' ? 0 : weak_b;
    }
    if (weak_a && weak_b)
        return weak_a == 'f' || weak_b == 'f' ? DT_f64 : DT_i64;
    if (weak_a)
        return join_weak(b, weak_a, common);
    if (weak_b)
        return join_weak(a, weak_b, common);
    return common ? join_common(a, b) : join_loop(a, b);
}

Status
promote(Ctx *cx, LocId loc, DType a, char weak_a, DType b, char weak_b, DType *out)
{
    *out = join(a, weak_a, b, weak_b, false);
    if (*out == DT_none)
        return fail(cx, ST_TYPE, loc, "NKI-2040 dtypes %s and %s have no common dtype", dtypes[a].name, dtypes[b].name);
    return ST_OK;
}

Status
promote_common(Ctx *cx, LocId loc, DType a, char weak_a, DType b, char weak_b, DType *out)
{
    *out = join(a, weak_a, b, weak_b, true);
    if (*out == DT_none)
        return fail(cx, ST_TYPE, loc, "NKI-2041 dtypes %s and %s have no common dtype; convert one of them with astype",
                    dtypes[a].name, dtypes[b].name);
    return ST_OK;
}

DType
promote_unary(TOp op, DType a)
{
    switch (op) {
    case T_neg:
    case T_positive:
    case T_sign:
        return a == DT_bool ? DT_none : a;
    case T_square:
    case T_reciprocal:
        return a == DT_bool ? DT_i8 : a;
    case T_abs:
    case T_floor:
    case T_ceil:
    case T_trunc:
    case T_isnan:
        return a;
    case T_invert:
        return is_float(a) ? DT_none : a;
    case T_logical_not:
        return DT_bool;
    default:
        return is_float(a) ? a : float_of_int(a);
    }
}
