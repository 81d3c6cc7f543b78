/* dtype.c - number formats: names, and conversion to and from f32 and f64.
 *
 * Floats round to nearest even, subnormals included; too large becomes infinity, or NaN in
 * fp8_e4m3fn, which has no infinity. Integers round to nearest even and saturate; NaN becomes 0.
 * Conversions from f64 round once. The loops over contiguous data have no branches, so that
 * compilers vectorize them.
 */
#include "base/base.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__)
#pragma GCC optimize("O3") /* at O2, GCC 12 does not vectorize these loops */
#endif

const DTypeInfo dtypes[DT_COUNT] = {
#define DTYPE(id, name, kind, bytes, eb, mb, np, nki, max)                                         \
    {name, kind, bytes, eb, mb, np, nki, max},
#include "base/dtype.def"
#undef DTYPE
};

bool
dtype_from_name(const char *s, size_t n, DType *out)
{
    for (int d = 1; d < DT_COUNT; d++) {
        const DTypeInfo *t = &dtypes[d];
        if ((strlen(t->name) == n && memcmp(s, t->name, n) == 0) ||
            (strlen(t->np) == n && memcmp(s, t->np, n) == 0)) {
            *out = (DType)d;
            return true;
        }
    }
    return false;
}

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS uint32_t
f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

ALWAYS float
f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

/* Both sides are computed: with ?: compilers move floating-point arithmetic into a branch, where it
 * may trap. */
ALWAYS uint32_t
pick(bool c, uint32_t a, uint32_t b)
{
    return b ^ ((a ^ b) & (0u - (uint32_t)c));
}

/* ---- formats of 8 and 16 bits with an exponent of at most 5 bits ----
 * fn: all ones is NaN, everything else is finite */

/* f32 bits -> format bits. All three cases are computed and one is picked. */
ALWAYS uint32_t
small_from_f32(uint32_t f, int eb, int man, bool fn)
{
    const int bias = (1 << (eb - 1)) - 1, drop = 23 - man;
    const uint32_t inf = ((1u << eb) - 1) << man;
    const uint32_t nan = fn ? inf | ((1u << man) - 1) : inf | (1u << (man - 1));
    const uint32_t top = fn ? nan : inf; /* what is too large becomes */
    /* its ulp is the smallest subnormal */
    const uint32_t magic = (uint32_t)(127 + 24 - bias - man) << 23;
    uint32_t sign = (f & 0x80000000u) >> (31 - eb - man), a = f & 0x7fffffffu;
    uint32_t sub = f32_bits(f32_from_bits(a) + f32_from_bits(magic)) - magic;
    uint32_t nor = a - ((uint32_t)(127 - bias) << 23) + (1u << (drop - 1)) - 1 + ((a >> drop) & 1);
    nor = MIN(nor >> drop, top);
    uint32_t o = pick(a < ((uint32_t)(128 - bias) << 23), sub, nor);
    o = pick(a > 0x7f800000u, nan, o);
    return o | sign;
}

/* format bits -> f32 */
ALWAYS float
small_to_f32(uint32_t h, int eb, int man, bool fn)
{
    const int bias = (1 << (eb - 1)) - 1, bits = eb + man;
    const uint32_t ones = (1u << eb) - 1, all = (1u << bits) - 1;
    uint32_t a = h & all, o = (a << (23 - man)) + ((uint32_t)(127 - bias) << 23);
    float low = f32_from_bits(o + (1u << 23)) - f32_from_bits((uint32_t)(128 - bias) << 23);
    uint32_t big =
        fn ? (a == all ? 0x7fc00000u : o) : o + ((255 - ones - (uint32_t)(127 - bias)) << 23);
    uint32_t exp = a >> man;
    o = pick(exp == 0, f32_bits(low), o);
    o = pick(exp == ones, big, o);
    return f32_from_bits(o | (h >> bits) << 31);
}

ALWAYS uint32_t
bf16_from_f32(uint32_t f)
{
    uint32_t o = (f + 0x7fffu + ((f >> 16) & 1)) >> 16;
    return (f & 0x7fffffffu) > 0x7f800000u ? ((f >> 16) & 0x8000u) | 0x7fc0u : o;
}

/* f64 -> any narrower float format, in one rounding. The code of a value is its exponent and
 * mantissa as one integer. */
static uint32_t
round_f64(double v, int eb, int man, bool fn)
{
    const int emin = 2 - (1 << (eb - 1));
    const uint32_t inf = ((1u << eb) - 1) << man;
    const uint32_t nan = fn ? inf | ((1u << man) - 1) : inf | (1u << (man - 1));
    const uint32_t sign = (uint32_t)(signbit(v) != 0) << (eb + man);
    if (isnan(v))
        return nan | sign;
    if (isinf(v))
        return (fn ? nan : inf) | sign;
    if (v == 0)
        return sign;
    int e;
    /* |v| = m * 2^(e - 53), 2^52 <= m < 2^53 */
    uint64_t m = (uint64_t)ldexp(frexp(fabs(v), &e), 53);
    e--;
    int shift = 52 - man + MAX(0, emin - e);
    if (shift > 60)
        return sign;
    uint64_t half = (uint64_t)1 << (shift - 1), q = m >> shift, rest = m & (2 * half - 1);
    q += rest > half || (rest == half && (q & 1));
    uint64_t code = ((uint64_t)(MAX(e, emin) - emin) << man) + q;
    uint32_t top = fn ? nan : inf;
    return (uint32_t)MIN(code, top) | sign;
}

/* ---- integers ---- */

/* Nearest even for |v| < 2^23; larger values are integers already. */
ALWAYS float
round_even(float v)
{
    uint32_t u = f32_bits(v), a = u & 0x7fffffffu;
    float m = f32_from_bits(pick(a < 0x4b000000u, 0x4b000000u | (u & 0x80000000u), 0));
    return (v + m) - m;
}

/* For the formats whose limits are exact in f32. */
ALWAYS int32_t
int_from_f32(float v, float lo, float hi)
{
    uint32_t u = f32_bits(v);
    v = f32_from_bits(pick((u & 0x7fffffffu) > 0x7f800000u, 0, u));
    v = f32_from_bits(pick(v < lo, f32_bits(lo), f32_bits(v)));
    v = f32_from_bits(pick(v > hi, f32_bits(hi), f32_bits(v)));
    return (int32_t)round_even(v);
}

ALWAYS int32_t
i32_from_f32(float v)
{
    int32_t i = int_from_f32(v, -2147483648.0f, 2147483520.0f); /* the largest f32 below 2^31 */
    return (int32_t)pick(v >= 2147483648.0f, INT32_MAX, (uint32_t)i);
}

static int64_t
i64_from_f64(double v, double lo, double hi, int64_t min, int64_t max)
{
    if (isnan(v))
        return 0;
    v = rint(v);
    return v <= lo ? min : v >= hi ? max : (int64_t)v;
}

static uint64_t
u64_from_f64(double v)
{
    if (!(v > 0))
        return 0;
    v = rint(v);
    return v >= 18446744073709551616.0 ? UINT64_MAX : (uint64_t)v;
}

ALWAYS uint32_t
u32_from_f32(float v)
{
    return (uint32_t)i64_from_f64(v, 0, 4294967295.0, 0, 4294967295);
}

ALWAYS int64_t
i64_from_f32(float v)
{
    return i64_from_f64(v, -9223372036854775808.0, 9223372036854775808.0, INT64_MIN, INT64_MAX);
}

/* ---- arrays: one loop per dtype, compiled twice, for stride 1 and for any stride ---- */

/* expr: of the stored bits `b`, to f32 */
#define LOAD_LOOP(T, expr)                                                                         \
    for (int64_t i = 0; i < n; i++) {                                                              \
        T b;                                                                                       \
        memcpy(&b, src + i * stride * (int64_t)sizeof(T), sizeof(T));                              \
        dst[i] = (float)(expr);                                                                    \
    }                                                                                              \
    break

ALWAYS void
to_f32(DType dt, const char *src, int64_t stride, int64_t n, float *restrict dst)
{
    switch (dt) {
    case DT_bool:
        LOAD_LOOP(uint8_t, b != 0);
    case DT_i8:
        LOAD_LOOP(int8_t, b);
    case DT_i16:
        LOAD_LOOP(int16_t, b);
    case DT_i32:
        LOAD_LOOP(int32_t, b);
    case DT_i64:
        LOAD_LOOP(int64_t, b);
    case DT_u8:
        LOAD_LOOP(uint8_t, b);
    case DT_u16:
        LOAD_LOOP(uint16_t, b);
    case DT_u32:
        LOAD_LOOP(uint32_t, b);
    case DT_u64:
        LOAD_LOOP(uint64_t, b);
    case DT_f16:
        LOAD_LOOP(uint16_t, small_to_f32(b, 5, 10, false));
    case DT_bf16:
        LOAD_LOOP(uint16_t, f32_from_bits((uint32_t)b << 16));
    case DT_f32:
        LOAD_LOOP(float, b);
    case DT_f64:
        LOAD_LOOP(double, b);
    case DT_fp8_e4m3:
        LOAD_LOOP(uint8_t, small_to_f32(b, 4, 3, false));
    case DT_fp8_e4m3fn:
        LOAD_LOOP(uint8_t, small_to_f32(b, 4, 3, true));
    case DT_fp8_e5m2:
        LOAD_LOOP(uint8_t, small_to_f32(b, 5, 2, false));
    case DT_fp8_e3m4:
        LOAD_LOOP(uint8_t, small_to_f32(b, 3, 4, false));
    case DT_none:
    case DT_COUNT:
        break;
    }
}

/* expr: of the f32 `v`, to the stored bits */
#define STORE_LOOP(T, expr)                                                                        \
    for (int64_t i = 0; i < n; i++) {                                                              \
        float v = src[i];                                                                          \
        T b = (T)(expr);                                                                           \
        memcpy(dst + i * stride * (int64_t)sizeof(T), &b, sizeof(T));                              \
    }                                                                                              \
    break

ALWAYS void
from_f32(DType dt, const float *restrict src, int64_t n, char *restrict dst, int64_t stride)
{
    switch (dt) {
    case DT_bool:
        STORE_LOOP(uint8_t, v != 0);
    case DT_i8:
        STORE_LOOP(int8_t, int_from_f32(v, -128, 127));
    case DT_i16:
        STORE_LOOP(int16_t, int_from_f32(v, -32768, 32767));
    case DT_i32:
        STORE_LOOP(int32_t, i32_from_f32(v));
    case DT_i64:
        STORE_LOOP(int64_t, i64_from_f32(v));
    case DT_u8:
        STORE_LOOP(uint8_t, int_from_f32(v, 0, 255));
    case DT_u16:
        STORE_LOOP(uint16_t, int_from_f32(v, 0, 65535));
    case DT_u32:
        STORE_LOOP(uint32_t, u32_from_f32(v));
    case DT_u64:
        STORE_LOOP(uint64_t, u64_from_f64(v));
    case DT_f16:
        STORE_LOOP(uint16_t, small_from_f32(f32_bits(v), 5, 10, false));
    case DT_bf16:
        STORE_LOOP(uint16_t, bf16_from_f32(f32_bits(v)));
    case DT_f32:
        STORE_LOOP(float, v);
    case DT_f64:
        STORE_LOOP(double, v);
    case DT_fp8_e4m3:
        STORE_LOOP(uint8_t, small_from_f32(f32_bits(v), 4, 3, false));
    case DT_fp8_e4m3fn:
        STORE_LOOP(uint8_t, small_from_f32(f32_bits(v), 4, 3, true));
    case DT_fp8_e5m2:
        STORE_LOOP(uint8_t, small_from_f32(f32_bits(v), 5, 2, false));
    case DT_fp8_e3m4:
        STORE_LOOP(uint8_t, small_from_f32(f32_bits(v), 3, 4, false));
    case DT_none:
    case DT_COUNT:
        break;
    }
}

void
dtype_to_f32(DType dt, const void *src, int64_t stride, int64_t n, float *dst)
{
    if (n <= 0)
        return;
    if (dt == DT_f32 && stride == 1)
        memcpy(dst, src, (size_t)n * sizeof(float));
    else if (stride == 1)
        to_f32(dt, src, 1, n, dst);
    else
        to_f32(dt, src, stride, n, dst);
}

void
dtype_from_f32(DType dt, const float *src, int64_t n, void *dst, int64_t stride)
{
    if (n <= 0)
        return;
    if (dt == DT_f32 && stride == 1)
        memcpy(dst, src, (size_t)n * sizeof(float));
    else if (stride == 1)
        from_f32(dt, src, n, dst, 1);
    else
        from_f32(dt, src, n, dst, stride);
}

/* ---- single values ---- */

double
dtype_load(DType dt, const void *src)
{
    float f = 0;
    double d;
    uint64_t u;
    switch (dt) {
    case DT_f64:
        memcpy(&d, src, sizeof(d));
        return d;
    case DT_u64:
        memcpy(&u, src, sizeof(u));
        return (double)u;
    case DT_i32:
    case DT_i64:
    case DT_u32:
        return (double)dtype_load_int(dt, src);
    default:
        to_f32(dt, src, 1, 1, &f);
        return f;
    }
}

int64_t
dtype_load_int(DType dt, const void *src)
{
    int64_t v = 0;
    bool negative;
    switch (dtypes[dt].kind) {
    case DK_bool:
        return *(const uint8_t *)src != 0;
    case DK_int: /* little endian */
        memcpy(&v, src, dtypes[dt].bytes);
        negative = ((const int8_t *)src)[dtypes[dt].bytes - 1] < 0;
        return negative && dtypes[dt].bytes < 8 ? v - ((int64_t)1 << (8 * dtypes[dt].bytes)) : v;
    case DK_uint:
        memcpy(&v, src, dtypes[dt].bytes);
        return v;
    default:
        return 0;
    }
}

static void
store_int(DType dt, double v, void *dst)
{
    const DTypeInfo *t = &dtypes[dt];
    if (dt == DT_u64) {
        uint64_t u = u64_from_f64(v);
        memcpy(dst, &u, sizeof(u));
        return;
    }
    int64_t max = dt == DT_i64 ? INT64_MAX : (int64_t)t->max;
    int64_t min = t->kind == DK_uint ? 0 : -max - 1;
    int64_t i = i64_from_f64(v, (double)min, t->max, min, max);
    memcpy(dst, &i, t->bytes); /* little endian */
}

void
dtype_store(DType dt, double v, void *dst)
{
    const DTypeInfo *t = &dtypes[dt];
    float f = (float)v;
    uint32_t code;
    switch (t->kind) {
    case DK_none:
        return;
    case DK_bool:
        *(uint8_t *)dst = v != 0;
        return;
    case DK_int:
    case DK_uint:
        store_int(dt, v, dst);
        return;
    case DK_float:
        break;
    }
    if (dt == DT_f64) {
        memcpy(dst, &v, sizeof(v));
    } else if (dt == DT_f32) {
        memcpy(dst, &f, sizeof(f));
    } else {
        code = round_f64(v, t->exp_bits, t->man_bits, dt == DT_fp8_e4m3fn);
        memcpy(dst, &code, t->bytes); /* little endian */
    }
}

static bool
holds_integer(const DTypeInfo *to, const DTypeInfo *from)
{
    int bits = 8 * from->bytes - (from->kind == DK_int);
    if (to->kind == DK_float)
        return bits <= to->man_bits + 1 && to->exp_bits >= 5;
    if (to->kind == DK_int)
        return bits <= 8 * to->bytes - 1;
    return to->kind == DK_uint && from->kind == DK_uint && to->bytes >= from->bytes;
}

bool
dtype_holds(DType to, DType from)
{
    const DTypeInfo *a = &dtypes[from], *b = &dtypes[to];
    if (to == from || from == DT_bool)
        return true;
    if (a->kind != DK_float)
        return holds_integer(b, a);
    return b->kind == DK_float && b->bytes > a->bytes && b->exp_bits >= a->exp_bits && b->man_bits >= a->man_bits;
}
