/* alu.c - the two-operand operators and the reductions over arrays.
 *
 * One rounding per operator; the build forbids contraction, so every CPU and optimisation level gives these bits. maximum
 * and minimum propagate NaN as NumPy does; comparisons and logic give 1 or 0. Sums are pairwise in f32.
 */
#include "eval/machine.h"

#include <math.h>

/* ---- element-wise, f32 ---- */

#define BINARY(id, expr)                                                          \
    CLONES static void                                                            \
    alu_##id(float *d, const float *a, const float *b, int64_t n, AluMode mode)   \
    {                                                                             \
        if (mode == VV) {                                                         \
            IVDEP                                                                 \
            for (int64_t i = 0; i < n; i++) {                                     \
                const float x = a[i], y = b[i];                                   \
                d[i] = (expr);                                                    \
            }                                                                     \
        } else if (mode == VS) {                                                  \
            const float y = *b;                                                   \
            IVDEP                                                                 \
            for (int64_t i = 0; i < n; i++) {                                     \
                const float x = a[i];                                             \
                d[i] = (expr);                                                    \
            }                                                                     \
        } else {                                                                  \
            const float x = *a;                                                   \
            IVDEP                                                                 \
            for (int64_t i = 0; i < n; i++) {                                     \
                const float y = b[i];                                             \
                d[i] = (expr);                                                    \
            }                                                                     \
        }                                                                         \
    }

BINARY(add, x + y)
BINARY(subtract, x - y)
BINARY(multiply, x * y)
BINARY(maximum, (x > y || x != x) ? x : y)
BINARY(minimum, (x < y || x != x) ? x : y)
BINARY(equal, x == y ? 1.0f : 0.0f)
BINARY(not_equal, x != y ? 1.0f : 0.0f)
BINARY(greater_equal, x >= y ? 1.0f : 0.0f)
BINARY(greater, x > y ? 1.0f : 0.0f)
BINARY(less_equal, x <= y ? 1.0f : 0.0f)
BINARY(less, x < y ? 1.0f : 0.0f)
BINARY(logical_and, ((x != 0.0f) & (y != 0.0f)) ? 1.0f : 0.0f)
BINARY(logical_or, ((x != 0.0f) | (y != 0.0f)) ? 1.0f : 0.0f)
BINARY(logical_xor, ((x != 0.0f) ^ (y != 0.0f)) ? 1.0f : 0.0f)

/* Unary operators ignore their second operand. */
static void
alu_abs(float *d, const float *a, const float *b, int64_t n, AluMode mode)
{
    (void)b;
    for (int64_t i = 0; i < n; i++)
        d[i] = fabsf(mode == SV ? *a : a[i]);
}

static void
alu_rsqrt(float *d, const float *a, const float *b, int64_t n, AluMode mode)
{
    (void)b;
    if (mode != SV) {
        map_rsqrt(d, a, n);
        return;
    }
    const float x = *a;
    for (int64_t i = 0; i < n; i++)
        map_rsqrt(d + i, &x, 1);
}

#define alu_power map_power
#define alu_none NULL
#define alu_bitwise_and NULL /* bit operators: see alu_int */
#define alu_bitwise_or NULL
#define alu_bitwise_xor NULL
#define alu_left_shift NULL
#define alu_right_shift NULL

AluFn *const alu_fns[ALU_COUNT] = {
#define ALU(id, ...) [ALU_##id] = alu_##id,
#include "ir/enums.def"
};

void
alu_apply(int op, float *d, const float *x, const float *f, int64_t n, bool flat, bool reverse)
{
    if (op == ALU_abs || op == ALU_rsqrt)
        reverse = false;
    if (reverse)
        alu_fns[op](d, f, x, n, flat ? VV : SV);
    else
        alu_fns[op](d, x, f, n, flat ? VV : VS);
}

/* ---- integers ---- */

bool
is_bitvec(int op)
{
    return op == ALU_bitwise_and || op == ALU_bitwise_or || op == ALU_bitwise_xor || op == ALU_left_shift ||
           op == ALU_right_shift;
}

bool
has_alu_int(int op)
{
    return op != ALU_none && op != ALU_power && op != ALU_abs && op != ALU_rsqrt;
}

static int64_t
shift(int op, int64_t a, int64_t b, int bits)
{
    if (b < 0 || b >= bits)
        return 0;
    uint64_t mask = bits < 64 ? ((uint64_t)1 << bits) - 1 : UINT64_MAX, u = (uint64_t)a & mask;
    return (int64_t)(op == ALU_left_shift ? u << b : u >> b);
}

int64_t
alu_int(int op, int64_t a, int64_t b, int bits)
{
    switch (op) {
    case ALU_add: return (int64_t)((uint64_t)a + (uint64_t)b);
    case ALU_subtract: return (int64_t)((uint64_t)a - (uint64_t)b);
    case ALU_multiply: return (int64_t)((uint64_t)a * (uint64_t)b);
    case ALU_maximum: return a > b ? a : b;
    case ALU_minimum: return a < b ? a : b;
    case ALU_equal: return a == b;
    case ALU_not_equal: return a != b;
    case ALU_greater_equal: return a >= b;
    case ALU_greater: return a > b;
    case ALU_less_equal: return a <= b;
    case ALU_less: return a < b;
    case ALU_logical_and: return a && b;
    case ALU_logical_or: return a || b;
    case ALU_logical_xor: return !a != !b;
    case ALU_bitwise_and: return a & b;
    case ALU_bitwise_or: return a | b;
    case ALU_bitwise_xor: return a ^ b;
    case ALU_left_shift:
    case ALU_right_shift: return shift(op, a, b, bits);
    default: return 0;
    }
}

/* ---- reductions ---- */

bool
is_reduction(int op)
{
    return op == ALU_add || op == ALU_multiply || op == ALU_maximum || op == ALU_minimum || op == ALU_logical_and ||
           op == ALU_logical_or || op == ALU_logical_xor;
}

double
reduce_first(int op)
{
    switch (op) {
    case ALU_multiply:
    case ALU_logical_and: return 1;
    case ALU_maximum: return -INFINITY;
    case ALU_minimum: return INFINITY;
    default: return 0;
    }
}

/* Combines halves with halves: the work is vectors all the way down, and the error of a sum grows with log n. */
double
reduce_more(int op, double acc, const float *x, int64_t n)
{
    float t[CHUNK / 2], a = (float)acc;
    AluFn *fn = alu_fns[op];
    while (n > 1) {
        int64_t half = n / 2;
        fn(t, x, x + half, half, VV);
        if (n & 1)
            fn(t, t, x + n - 1, 1, VV);
        n = half;
        x = t;
    }
    if (op == ALU_add) /* the sum of chunks is kept in f64 */
        return acc + (double)*x;
    fn(&a, &a, x, 1, VV);
    return (double)a;
}
