/* gemm.c - the product of one nc_matmul, and transposes.
 *
 * c[m, n] (+)= a[k, m].T b[k, n]. The operands are packed as f32, zero-padded to the register block: a as a whole, b
 * by a panel that stays in the first-level cache while all rows of c are computed. A kernel of 8 rows keeps its block
 * of c in registers over all of k, so each element is one sum in the order of k, added to c at the end. One kernel per
 * vector width.
 *
 * NumPy's BLAS is not used: its threads wait for each other within every product of 128 rows, which takes many
 * scheduler quanta when more threads run than there are CPUs (measured: 16 s against 1.6 s for a 4096^3 program), and
 * its sums depend on the number of threads.
 */
#include "eval/machine.h"

#include <string.h>

enum { MR = 8, NR_MAX = 32 };

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
KERNEL(avx512, __attribute__((target("avx512f"))), 16, 2)
#endif

static Kernel
pick_kernel(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx512f"))
        return (Kernel){kernel_avx512, 32};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return (Kernel){kernel_avx2, 8};
#endif
    return (Kernel){kernel_plain, 8};
}

/* Panels of `width` columns, each [rows, width]; missing columns are 0. Row by row: rows may lie in different pages,
 * and the hardware does not fetch ahead over pages. */
CLONES static void
pack(const Rows *s, int width, float *to)
{
    enum { AHEAD = 12 }; /* rows */
    float line[MAX_PARTS];
    const int64_t bytes = s->cols * s->stride * dtypes[s->dtype].bytes;
    const int whole = s->cols / width * width, rest = s->cols - whole;
    for (int i = 0; i < s->n; i++, to += width) {
        const uint8_t *row = s->p + i * s->pitch;
        if (i + AHEAD < s->n)
            for (int64_t at = 0; at < bytes; at += 64)
                __builtin_prefetch(row + AHEAD * s->pitch + at);
        const float *x = (const float *)(const void *)row;
        if (s->dtype != DT_f32 || s->stride != 1) {
            dtype_to_f32(s->dtype, row, s->stride, s->cols, line);
            x = line;
        }
        float *y = to;
        for (int j = 0; j < whole; j += width, y += (int64_t)s->n * width)
            for (int q = 0; q < width; q += MR) /* widths are multiples of MR */
                memcpy(y + q, x + j + q, MR * sizeof(float));
        if (rest) {
            memcpy(y, x + whole, (size_t)rest * sizeof(float));
            memset(y + rest, 0, (size_t)(width - rest) * sizeof(float));
        }
    }
}

size_t
gemm_packed(int k, int m)
{
    return (size_t)k * (size_t)ALIGN_UP(m, MR);
}

void
gemm_pack(const Rows *a, float *to)
{
    pack(a, MR, to);
}

/* A block of c at a ragged edge goes through a tile of its own. */
static void
edge_product(const Kernel *kn, int k, const float *pa, const float *pb, int rows, int cols, float *c, int64_t ldc,
             bool accumulate)
{
    float tile[MR * NR_MAX];
    kn->fn(k, pa, pb, tile, kn->nr, false);
    for (int r = 0; r < rows; r++, c += ldc)
        for (int j = 0; j < cols; j++)
            c[j] = accumulate ? c[j] + tile[r * kn->nr + j] : tile[r * kn->nr + j];
}

void
gemm_product(const float *pa, int m, const Rows *b, float *c, int64_t ldc, bool accumulate)
{
    const Kernel kn = pick_kernel();
    const int64_t step = kn.nr * b->stride * dtypes[b->dtype].bytes;
    float pb[MAX_PARTS * NR_MAX] __attribute__((aligned(64)));
    Rows at = *b;
    for (int left = b->cols; left > 0; left -= kn.nr, at.p += step, c += kn.nr) {
        at.cols = MIN(kn.nr, left);
        pack(&at, kn.nr, pb);
        for (int i = 0; i < m; i += MR) {
            int rows = MIN(MR, m - i);
            if (rows == MR && at.cols == kn.nr)
                kn.fn(b->n, pa + (int64_t)i * b->n, pb, c + i * ldc, ldc, accumulate);
            else
                edge_product(&kn, b->n, pa + (int64_t)i * b->n, pb, rows, at.cols, c + i * ldc, ldc, accumulate);
        }
    }
}

/* ---- transpose ---- */

/* Blocks of 8 rows by 16 columns: sources whose rows are a power of two apart share cache sets. A strip of 8 rows is
 * read along its rows while the next one is fetched. */
#define TRANSPOSE(T)                                                                                       \
    for (int64_t r0 = 0; r0 < rows; r0 += 8)                                                               \
        for (int64_t c0 = 0; c0 < cols; c0 += 16) {                                                        \
            int64_t c1 = MIN(cols, c0 + 16), r1 = MIN(rows, r0 + 8);                                       \
            for (int64_t r = r1; r < MIN(rows, r1 + 8); r++)                                               \
                __builtin_prefetch(s + r * s_row + c0 * s_col, 0, 2);                                      \
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
