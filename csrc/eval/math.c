/* math.c - the activation functions over arrays of f32.
 *
 * exp works in f32 and is within 1 ulp; the others compute in f64 and round once, so they are within 1 ulp too, at 0,
 * infinities, NaN and subnormals as well. All are free of branches, so that compilers vectorize the loops, and of calls
 * to libm, whose results depend on the CPU: with contraction forbidden every build gives the same bits. sin is NaN
 * outside [-pi, pi], where the hardware's result is meaningless: misuse is seen.
 */
#include "eval/machine.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE double
f64_from_bits(uint64_t u)
{
    double d;
    memcpy(&d, &u, sizeof(d));
    return d;
}

INLINE uint64_t
f64_bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, sizeof(u));
    return u;
}

INLINE float
f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

INLINE uint32_t
f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

/* e^x = 2^n e^r with |r| <= ln2 / 2; 2^n in two factors, so that subnormal results round once. */
INLINE float
exp_f32(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float t = x * 1.44269504f + magic, n = t - magic;
    float r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    uint32_t k = f32_bits(t) - f32_bits(magic), k1 = (uint32_t)((int32_t)k >> 1), k2 = k - k1;
    return p * f32_from_bits((k1 + 127) << 23) * f32_from_bits((k2 + 127) << 23);
}

/* |x| <= 700; relative error 1e-11 */
INLINE double
exp_f64(double x)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
    double t = x * 1.4426950408889634 + magic, n = t - magic;
    double r = x - n * 0.693147180369123816490;
    r = r - n * 1.90821492927058770002e-10;
    double p = 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return f64_from_bits(f64_bits(p) + (f64_bits(t) << 52));
}

/* x positive and normal; relative error 1e-11 away from 1, absolute error 1e-16 near it */
INLINE double
log_f64(double x)
{
    const uint64_t half_sqrt2 = 0x3fe6a09e667f3bcdu;
    uint64_t u = f64_bits(x), up = u - half_sqrt2 + (1024ull << 52); /* positive, so shifts need no sign */
    uint64_t e = up >> 52;
    double m = f64_from_bits(u - ((e - 1024) << 52)); /* [sqrt(1/2), sqrt(2)) */
    double k = f64_from_bits(e | 0x4330000000000000u) - (4503599627370496.0 + 1024.0);
    double f = (m - 1.0) / (m + 1.0), s = f * f;
    double p = 1.0 / 15;
    p = p * s + 1.0 / 13;
    p = p * s + 1.0 / 11;
    p = p * s + 1.0 / 9;
    p = p * s + 1.0 / 7;
    p = p * s + 1.0 / 5;
    p = p * s + 1.0 / 3;
    p = p * s + 1.0;
    return k * 0.69314718055994530942 + 2.0 * f * p;
}

/* 1 / sqrt(x) for positive normal x, to the last bits of a double */
INLINE double
rsqrt_f64(double x)
{
    double y = f64_from_bits(0x5fe6eb50c7b537a9u - (f64_bits(x) >> 1)), h = 0.5 * x;
    y = y * (1.5 - h * y * y);
    y = y * (1.5 - h * y * y);
    y = y * (1.5 - h * y * y);
    y = y * (1.5 - h * y * y);
    return y;
}

INLINE double
clamp_f64(double x, double lo, double hi) /* keeps NaN */
{
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

/* erfc(t) for t in [0, 11.5]: exp(-t^2) / (1 + 2t) times a polynomial in (t - 3.75) / (t + 3.75) */
INLINE double
erfc_f64(double t)
{
    double s = (t - 3.75) / (t + 3.75);
    double p = 2.5118687007421363e-6;
    p = p * s + 4.1308174021196012e-5;
    p = p * s + 5.294740937942348e-5;
    p = p * s + -0.00030355067899704369;
    p = p * s + 0.00028728920154790889;
    p = p * s + 0.0017587745442038067;
    p = p * s + -0.0097440685201116248;
    p = p * s + 0.028362034094743469;
    p = p * s + -0.058693801842514249;
    p = p * s + 0.092304315331951607;
    p = p * s + -0.1088039011548676;
    p = p * s + 0.082276739653016576;
    p = p * s + 0.0035854147059881366;
    p = p * s + -0.14024059860611807;
    p = p * s + 1.2375126308413291;
    return exp_f64(-t * t) * p / (1.0 + 2.0 * t);
}

INLINE float
act_copy(float x)
{
    return x;
}

INLINE float
act_square(float x)
{
    return x * x;
}

INLINE float
act_relu(float x)
{
    return x < 0.0f ? 0.0f : x;
}

INLINE float
act_abs(float x)
{
    return f32_from_bits(f32_bits(x) & 0x7fffffffu);
}

INLINE float
act_sign(float x)
{
    float s = (float)((x > 0.0f) - (x < 0.0f));
    return x != x ? x : s;
}

INLINE float
act_reciprocal(float x)
{
    return 1.0f / x;
}

INLINE float
act_exp(float x)
{
    return exp_f32(x);
}

INLINE float
act_sigmoid(float v)
{
    double x = clamp_f64(v, -200, 200);
    return (float)(1.0 / (1.0 + exp_f64(-x)));
}

/* x times a factor that vanishes at -inf: nan there, as the definition has it. */
INLINE float
unless_minus_inf(float x, double y)
{
    return x == -INFINITY ? NAN : (float)y;
}

INLINE float
act_silu(float v)
{
    double x = clamp_f64(v, -200, INFINITY), y = x > 200.0 ? 200.0 : x;
    return unless_minus_inf(v, x / (1.0 + exp_f64(-y)));
}

INLINE float
act_tanh(float v)
{
    double x = clamp_f64(v, -20, 20), e = exp_f64(2.0 * x);
    double big = (e - 1.0) / (e + 1.0), small = x * (1.0 - x * x * (1.0 / 3)); /* keeps -0 */
    return (float)(x * x < 4e-8 ? small : big);
}

INLINE float
act_gelu(float v)
{
    double x = clamp_f64(v, -15, INFINITY), a = x < 0 ? -x : x, t = a * 0.70710678118654752440;
    double q = 0.5 * (x > 15.0 ? 15.0 : x) * erfc_f64(t > 11.5 ? 11.5 : t);
    return unless_minus_inf(v, x > 0 ? x - q : q);
}

/* x sigmoid(2u) */
INLINE float
act_gelu_tanh(float v)
{
    double x = clamp_f64(v, -60, INFINITY), y = x > 60.0 ? 60.0 : x;
    double u = 1.5957691216057307 * (y + 0.044715 * y * y * y);
    return unless_minus_inf(v, x / (1.0 + exp_f64(-clamp_f64(u, -600, 600))));
}

INLINE double
softplus_f64(double x)
{
    double u = exp_f64(-clamp_f64(x < 0 ? -x : x, 0, 200));
    double l = u < 1e-6 ? u - 0.5 * u * u : log_f64(1.0 + u);
    return (x > 0 ? x : 0.0 * x) + l;
}

INLINE float
act_softplus(float v)
{
    double x = clamp_f64(v, -200, INFINITY);
    return (float)softplus_f64(x);
}

/* tanh(softplus(x)) = n / (n + 2) with n = e^x (e^x + 2) */
INLINE float
act_mish(float v)
{
    double x = clamp_f64(v, -200, INFINITY), e = exp_f64(x > 50.0 ? 50.0 : x), n = e * (e + 2.0);
    return unless_minus_inf(v, x * (n / (n + 2.0)));
}

INLINE float
act_erf(float v)
{
    double x = clamp_f64(v, -6, 6), a = x < 0 ? -x : x, s = x * x;
    double big = 1.0 - erfc_f64(a);
    double p = 1.0 / (17 * 40320.0) - 1.0 / (19 * 362880.0) * s; /* Taylor, used below 1/2 */
    p = p * s - 1.0 / (15 * 5040);
    p = p * s + 1.0 / (13 * 720);
    p = p * s - 1.0 / (11 * 120);
    p = p * s + 1.0 / (9 * 24);
    p = p * s - 1.0 / (7 * 6);
    p = p * s + 1.0 / (5 * 2);
    p = p * s - 1.0 / 3;
    p = p * s + 1.0;
    double small = x * p * 1.1283791670955125739;
    return (float)(a < 0.5 ? small : x < 0 ? -big : big);
}

INLINE float
act_log(float v)
{
    double x = v, y = log_f64(x > 0 && x < INFINITY ? x : 1.0);
    y = x > 0 ? (x < INFINITY ? y : x) : x == 0 ? -INFINITY : NAN;
    return (float)y;
}

/* Sine is odd about 0 and even about pi/2. */
INLINE float
act_sin(float v)
{
    double x = v, a = x < 0 ? -x : x;
    double r = a > 1.5707963267948966 ? 3.14159265358979323846 - a : a, s = r * r;
    double p = -1.0 / 1307674368000.0;
    p = p * s + 1.0 / 6227020800.0;
    p = p * s - 1.0 / 39916800;
    p = p * s + 1.0 / 362880;
    p = p * s - 1.0 / 5040;
    p = p * s + 1.0 / 120;
    p = p * s - 1.0 / 6;
    p = p * s + 1.0;
    p = p * r;
    p = x < 0 ? -p : p;
    p = x == 0 ? x : p;
    return (float)(a <= 3.1419067 ? p : NAN);
}

/* Two reductions, at 1 and at tan(pi/8), then a Taylor series. */
INLINE float
act_arctan(float v)
{
    double x = v, a = x < 0 ? -x : x;
    double b = a > 1.0 ? 1.0 / a : a;
    double t = b > 0.41421356237309503 ? (b - 1.0) / (b + 1.0) : b, s = t * t;
    double p = -1.0 / 23;
    p = p * s + 1.0 / 21;
    p = p * s - 1.0 / 19;
    p = p * s + 1.0 / 17;
    p = p * s - 1.0 / 15;
    p = p * s + 1.0 / 13;
    p = p * s - 1.0 / 11;
    p = p * s + 1.0 / 9;
    p = p * s - 1.0 / 7;
    p = p * s + 1.0 / 5;
    p = p * s - 1.0 / 3;
    p = p * s + 1.0;
    double y = t * p + (b > 0.41421356237309503 ? 0.78539816339744830962 : 0.0);
    y = a > 1.0 ? 1.57079632679489661923 - y : y;
    y = x < 0 ? -y : y;
    return (float)(x == 0 ? x : y);
}

INLINE float
act_sqrt(float v)
{
    double x = v, y = x * rsqrt_f64(x < 0 ? -x : x);
    y = x > 0 ? (x < INFINITY ? y : x) : x == 0 ? x : NAN;
    return (float)y;
}

INLINE float
act_rsqrt(float v)
{
    double x = v, y = rsqrt_f64(x < 0 ? -x : x);
    y = x > 0 ? (x < INFINITY ? y : 0.0) : x == 0 ? 1.0 / x : NAN;
    return (float)y;
}

#define ACT(id, ...)                                     \
    CLONES static void                                   \
    map_act_##id(float *d, const float *a, int64_t n)    \
    {                                                    \
        IVDEP                                            \
        for (int64_t i = 0; i < n; i++)                  \
            d[i] = act_##id(a[i]);                       \
    }
#include "ir/enums.def"

ActFn *const act_fns[ACT_COUNT] = {
#define ACT(id, ...) [ACT_##id] = map_act_##id,
#include "ir/enums.def"
};

void
map_rsqrt(float *d, const float *a, int64_t n)
{
    map_act_rsqrt(d, a, n);
}

/* ---- powers ---- */

/* x^y as C's pow has it, special cases included: e^(y log|x|) in f64, rounded once, with the sign of an odd power. The
 * logarithms of 0 and infinity are numbers that no exponent but 0 makes small. */
INLINE float
pow_f32(float x, float y)
{
    const double magic = 6755399441055744.0, huge = 1e300;
    double b = x, e = y, a = b < 0 ? -b : b, n = e < 0 ? -e : e;
    n = n > 16777216.0 ? 16777216.0 : n; /* from there on all are even */
    double part = (n + magic) - magic - n, half = (0.5 * n + magic) - magic - 0.5 * n; /* 0: whole; +-0.5: odd */
    double l = log_f64(a > 1e-300 ? (a < INFINITY ? a : 1.0) : 1.0);
    l = a > 0 ? l : -huge;
    l = a < INFINITY ? l : huge;
    double t = e * l;
    t = t == t ? t : 0.0; /* 1 to an infinite power; what else is NaN is so below */
    double p = exp_f64(clamp_f64(t, -200, 200)), q = b < 0 ? part : 0.0;
    q = a < INFINITY ? q : 0.0;
    p = q == 0 ? p : NAN;
    uint64_t sign = f64_bits(b) & 0x8000000000000000u;
    sign = half * half == 0.25 ? sign : 0;
    p = f64_from_bits(f64_bits(p) | sign);
    p = b == b ? p : NAN;
    p = e == e ? p : NAN;
    p = e == 0 ? 1.0 : p;
    p = b == 1 ? 1.0 : p;
    return (float)p;
}

/* Exponents that are a product, as NumPy has them. */
static bool
map_power_const(float *d, const float *a, float y, int64_t n)
{
    if (y == 1.0f)
        memmove(d, a, (size_t)n * sizeof(float));
    else if (y == 2.0f)
        map_act_square(d, a, n);
    else if (y == -1.0f)
        map_act_reciprocal(d, a, n);
    else
        return false;
    return true;
}

CLONES void
map_power(float *d, const float *a, const float *b, int64_t n, AluMode mode)
{
    const float x = *a, y = *b;
    if (mode == VS && map_power_const(d, a, y, n))
        return;
    if (mode == VV) {
        IVDEP
        for (int64_t i = 0; i < n; i++)
            d[i] = pow_f32(a[i], b[i]);
    } else if (mode == VS) {
        IVDEP
        for (int64_t i = 0; i < n; i++)
            d[i] = pow_f32(a[i], y);
    } else {
        IVDEP
        for (int64_t i = 0; i < n; i++)
            d[i] = pow_f32(x, b[i]);
    }
}
