/* gemm.c - a matrix product and a transpose for when no tuned library is at hand.
 *
 * c[m, n] (+)= a[k, m].T b[k, n]. Panels of both operands are packed into scratch, zero-padded to the register block,
 * and a kernel of 8 rows keeps its block of c in registers over a panel of k. One kernel per vector width.
 */
#include "eval/machine.h"

#include <string.h>

enum { MR = 8, NR_MAX = 48, KC = 256, MC = 128, NC = 528 }; /* NC: a multiple of every kernel's columns */

/* c[MR, nr] = (or +=) pa[k, MR].T pb[k, nr], packed operands */
typedef void KernelFn(int k, const float *pa, const float *pb, float *c, int64_t ldc, bool accumulate);
typedef struct Kernel { KernelFn *fn; int nr; } Kernel;

/* width: floats per vector; cols: vectors per row of c. The loops over acc unroll, so that it lives in registers. */
#define KERNEL(name, attributes, width, cols)                                                          \
    typedef float V##name __attribute__((vector_size(4 * (width)), aligned(4), may_alias));            \
    attributes static void                                                                             \
    kernel_##name(int k, const float *pa, const float *pb, float *c, int64_t ldc, bool accumulate)     \
    {                                                                                                  \
        V##name acc[MR][cols];                                                                         \
        memset(acc, 0, sizeof(acc));                                                                   \
        for (int i = 0; i < k; i++, pa += MR, pb += (cols) * (width)) {                                \
            V##name b[cols];                                                                           \
            UNROLL for (int j = 0; j < (cols); j++)                                                    \
                b[j] = *(const V##name *)(const void *)(pb + j * (width));                             \
            UNROLL for (int r = 0; r < MR; r++)                                                        \
                UNROLL for (int j = 0; j < (cols); j++)                                                \
                    acc[r][j] += b[j] * pa[r];                                                         \
        }                                                                                              \
        UNROLL for (int r = 0; r < MR; r++)                                                            \
            UNROLL for (int j = 0; j < (cols); j++) {                                                  \
                V##name *to = (V##name *)(void *)(c + r * ldc + j * (width));                          \
                if (accumulate)                                                                        \
                    acc[r][j] += *to;                                                                  \
                *to = acc[r][j];                                                                       \
            }                                                                                          \
    }
#if defined(__GNUC__) && !defined(__clang__)
#define UNROLL _Pragma("GCC unroll 8")
#else
#define UNROLL _Pragma("clang loop unroll(full)")
#endif

KERNEL(plain, , 4, 2)
#if defined(__x86_64__) && defined(__GNUC__)
KERNEL(avx2, __attribute__((target("avx2,fma"))), 8, 1)
KERNEL(avx512, __attribute__((target("avx512f"))), 16, 3)
#endif

static Kernel
pick_kernel(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx512f"))
        return (Kernel){kernel_avx512, 48};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return (Kernel){kernel_avx2, 8};
#endif
    return (Kernel){kernel_plain, 8};
}

/* A threaded library wins on an idle machine by the number of cores, but its threads wait for each other within every
 * product: with more runnable threads than cores, one product of 128 rows takes many scheduler quanta (measured: 16 s
 * against 1.6 s for a 4096^3 program). So ours is the default where it is vectorized. */
bool
gemm_wanted(const EvalOptions *opt)
{
    return opt && opt->gemm && (opt->prefer_gemm || pick_kernel().fn == kernel_plain);
}

/* Panels of `width` columns, each [k, width]; missing columns are 0. Row by row: the rows of an operand may lie in
 * different pages. */
static void
pack(int k, int cols, int width, const float *src, int64_t ld, float *dst)
{
    enum { AHEAD = 4 }; /* rows */
    int whole = cols / width, rest = cols % width;
    for (int i = 0; i < k; i++, src += ld) {
        if (i + AHEAD < k)
            for (int j = 0; j < cols; j += 16)
                __builtin_prefetch(src + AHEAD * ld + j);
        float *to = dst + (int64_t)i * width;
        for (int p = 0; p < whole; p++, to += (int64_t)k * width)
            for (int j = 0; j < width; j += MR) /* widths are multiples of MR */
                memcpy(to + j, src + p * width + j, MR * sizeof(float));
        if (rest) {
            memcpy(to, src + whole * width, (size_t)rest * sizeof(float));
            memset(to + rest, 0, (size_t)(width - rest) * sizeof(float));
        }
    }
}

size_t
gemm_scratch_bytes(void)
{
    return (MC * KC + KC * NC + MR * NR_MAX) * sizeof(float);
}

/* One column panel of c: rows by blocks of MR; ragged edges go through a tile of their own. */
static void
panel_product(const Kernel *kn, int m, int n, int k, const float *pa, const float *pb, float *tile, float *c,
              int64_t ldc, bool accumulate)
{
    for (int i = 0; i < m; i += MR, pa += (int64_t)MR * k) {
        int rows = MIN(MR, m - i);
        if (rows == MR && n == kn->nr) {
            kn->fn(k, pa, pb, c + i * ldc, ldc, accumulate);
            continue;
        }
        kn->fn(k, pa, pb, tile, kn->nr, false);
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < n; j++) {
                float *to = c + (i + r) * ldc + j;
                *to = accumulate ? *to + tile[r * kn->nr + j] : tile[r * kn->nr + j];
            }
    }
}

void
gemm_own(float *scratch, int m, int n, int k, const float *a, int64_t lda, const float *b, int64_t ldb, float *c,
         int64_t ldc, bool accumulate)
{
    const Kernel kn = pick_kernel();
    float *pa = scratch, *pb = pa + MC * KC, *tile = pb + KC * NC;
    for (int l = 0; l < k; l += KC) {
        int kc = MIN(KC, k - l);
        for (int j = 0; j < n; j += NC) {
            int nc = MIN(NC, n - j);
            pack(kc, nc, kn.nr, b + l * ldb + j, ldb, pb);
            for (int i = 0; i < m; i += MC) {
                int mc = MIN(MC, m - i);
                pack(kc, mc, MR, a + l * lda + i, lda, pa);
                for (int q = 0; q < nc; q += kn.nr)
                    panel_product(&kn, mc, MIN(kn.nr, nc - q), kc, pa, pb + (int64_t)q * kc, tile,
                                  c + i * ldc + j + q, ldc, accumulate || l > 0);
            }
        }
    }
}

/* ---- transpose ---- */

/* Blocks of 8 rows by 16 columns: sources whose rows are a power of two apart share cache sets. */
#define TRANSPOSE(T)                                                                                       \
    for (int64_t c0 = 0; c0 < cols; c0 += 16)                                                              \
        for (int64_t r0 = 0; r0 < rows; r0 += 8) {                                                         \
            int64_t c1 = MIN(cols, c0 + 16), r1 = MIN(rows, r0 + 8);                                       \
            for (int64_t c = c0; c < c1; c++)                                                              \
                for (int64_t r = r0; r < r1; r++) {                                                        \
                    T v;                                                                                   \
                    memcpy(&v, s + r * s_row + c * s_col, sizeof(v));                                      \
                    memcpy(d + c * d_col + r * d_row, &v, sizeof(v));                                      \
                }                                                                                          \
        }                                                                                                  \
    break

void
transpose_2d(int bytes, int64_t rows, int64_t cols, uint8_t *d, int64_t d_col, int64_t d_row, const uint8_t *s,
             int64_t s_row, int64_t s_col)
{
    switch (bytes) {
    case 1: TRANSPOSE(uint8_t);
    case 2: TRANSPOSE(uint16_t);
    case 4: TRANSPOSE(uint32_t);
    default: TRANSPOSE(uint64_t);
    }
}
