/* blocks.c - how a move is cut so that both of its sides are long runs, and its order changes on chip.
 *
 * in:   dims of a move: how many elements, and how far apart they are in the result and in the source
 * out:  of each dim, how many elements lie in a partition at a time, and how many partitions it fills
 * rule: the dims in which the source, or the result, is contiguous grow in a partition until the runs of both are as
 *       long as a length to try; what is left of the longest others fills the partitions. Of the lengths the one
 *       that a DMA and a copy take least time for; none when a single DMA is as fast.
 */
#include "lower/blocks.h"

#include <string.h>

#define BLOCK_BYTES 32768 /* in a partition, and as much again for the other order */
#define DENSE_STRIDE 16   /* of so many elements of the source one is wanted, at most: the others come along */
#define LEAST_RUN 64      /* bytes of a run to try; each try is four times the one before */
#define PATTERN_DIMS 4    /* within a partition, as of any pattern on chip */

static void
sort_by(const int64_t *stride, int n, int *order)
{
    for (int i = 0; i < n; i++) {
        int k = i;
        for (; k > 0 && stride[order[k - 1]] > stride[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
}

/* The elements of a run, dims innermost first, and the dim that would make it longer; -1: none does. */
static int64_t
run_of(const Strided *m, const Blocks *b, const int64_t *stride, const int *order, int *next)
{
    int64_t run = 1, unit = stride[order[0]];
    *next = -1;
    for (int i = 0; i < m->n && stride[order[i]] == unit * run; i++) {
        int d = order[i];
        run *= b->inner[d];
        if (b->inner[d] < m->count[d]) {
            *next = d;
            break;
        }
    }
    return run;
}

static int64_t
elems_of(const Strided *m, const Blocks *b)
{
    int64_t n = b->unit;
    for (int i = 0; i < m->n; i++)
        n *= b->inner[i];
    return n;
}

/* At most `most` of count, in pieces of equal size where one is near. */
static int64_t
piece_of(int64_t count, int64_t most)
{
    if (most >= count)
        return count;
    for (int64_t k = most; k > most * 3 / 4; k--)
        if (count % k == 0)
            return k;
    return CEIL_DIV(count, CEIL_DIV(count, most));
}

/* Both sides' runs grow, the shorter one first, up to `run` elements. */
static void
grow(const Strided *m, int64_t run, int64_t most, Blocks *b)
{
    bool stuck[2] = {false, false};
    while (!stuck[0] || !stuck[1]) {
        int next[2];
        int64_t now[2] = {run_of(m, b, m->from, b->by_from, &next[0]), run_of(m, b, m->to, b->by_to, &next[1])};
        int side = stuck[0] || (!stuck[1] && now[1] < now[0]);
        int d = next[side];
        stuck[side] = d < 0 || now[side] >= run;
        if (stuck[side])
            continue;
        int64_t old = b->inner[d], rest = CEIL_DIV(run, now[side] / old);
        b->inner[d] = piece_of(m->count[d], MIN(2 * old, MAX(rest, old + 1)));
        stuck[side] = b->inner[d] <= old || elems_of(m, b) > most;
        if (stuck[side])
            b->inner[d] = old;
    }
    int next;
    b->load = run_of(m, b, m->from, b->by_from, &next);
    b->store = run_of(m, b, m->to, b->by_to, &next);
}

/* The dims with most left fill the partitions. */
static void
fill_lanes(const Strided *m, const Hw *hw, Blocks *b)
{
    b->nlanes = 1;
    for (int k = 0; k < LANE_DIMS; k++) {
        int best = -1;
        for (int i = 0; i < m->n; i++)
            if (b->lanes[i] == 1 && (best < 0 || m->count[i] / b->inner[i] > m->count[best] / b->inner[best]))
                best = i;
        if (best < 0)
            return;
        b->row = k == 0 ? best : b->row;
        b->lanes[best] = piece_of(m->count[best] / b->inner[best], (int64_t)hw->pmax / b->nlanes);
        b->nlanes *= b->lanes[best];
    }
}

static double
run_ns(const Hw *hw, double bytes) /* of a byte of a run */
{
    return (MAX(bytes, hw->dma_run_min) + hw->dma_row_bytes) / bytes / (hw->dma_engine_gbs * hw->dma_engines);
}

/* ns of an element: in, turned around, out. What is copied hides behind what is moved, or the other way round. */
static double
block_ns(const Hw *hw, const Blocks *b, int64_t elems, int64_t bytes)
{
    int64_t parts = (int64_t)hw->dma_engine_partitions, rows = b->lanes[b->row];
    double engines = MIN(1.0, (double)CEIL_DIV(b->nlanes, parts) / hw->dma_engines);
    double in = run_ns(hw, (double)(b->load * b->unit * bytes)) * (double)b->unit;
    double dma = (in + run_ns(hw, (double)(b->store * bytes))) * (double)bytes / engines;
    double least = 2 * hw->dma_least_ns * (double)CEIL_DIV(rows, parts) / hw->dma_engines / (double)(rows * elems);
    return MAX(MAX(dma, least), 1 / hw->clock_vector / (double)b->nlanes);
}

/* The dims of a pattern in HBM that loads, or stores, a block. */
static int
pattern_dims(const Strided *m, const Blocks *b, const int64_t *stride, const int *order)
{
    int next, n = 1;
    int64_t run = run_of(m, b, stride, order, &next), seen = 1;
    for (int i = 0; i < m->n; i++) {
        n += seen >= run && b->inner[order[i]] > 1;
        seen *= b->inner[order[i]];
    }
    return n;
}

static bool
fits_patterns(const Strided *m, const Hw *hw, const Blocks *b)
{
    int own = 0;
    for (int i = 0; i < m->n; i++)
        own += b->inner[i] > 1;
    int most = MAX(pattern_dims(m, b, m->from, b->by_from), pattern_dims(m, b, m->to, b->by_to));
    return own <= PATTERN_DIMS && 1 + most <= (int)hw->ap_dma_dims;
}

double
move_ns(const Hw *hw, int64_t run, int64_t bytes)
{
    return run_ns(hw, (double)(run * bytes)) * (double)bytes;
}

/* A single DMA that moves the elements within HBM. */
static double
direct_ns(const Strided *m, const Hw *hw, int64_t bytes)
{
    int last = m->n - 1;
    bool runs = m->to[last] == 1 && m->from[last] == 1;
    return move_ns(hw, runs ? m->count[last] : 1, bytes);
}

bool
choose_blocks(const Strided *m, const Hw *hw, int64_t bytes, Blocks *out)
{
    Blocks first = {.unit = 0};
    double least;
    if (m->n == 0)
        return false;
    for (int i = 0; i < m->n; i++)
        if (m->from[i] <= 0 || m->to[i] <= 0)
            return false;
    least = direct_ns(m, hw, bytes);
    out->nlanes = 0;
    sort_by(m->from, m->n, first.by_from);
    sort_by(m->to, m->n, first.by_to);
    first.unit = m->from[first.by_from[0]];
    if (first.unit > DENSE_STRIDE || m->to[first.by_to[0]] != 1)
        return false;
    for (int i = 0; i < m->n; i++)
        first.inner[i] = first.lanes[i] = 1;
    for (int64_t run = LEAST_RUN; run <= BLOCK_BYTES; run *= 4) {
        Blocks b = first;
        grow(m, MAX(run / bytes, 2), BLOCK_BYTES / bytes, &b);
        fill_lanes(m, hw, &b);
        double ns = block_ns(hw, &b, elems_of(m, &b), bytes);
        if (ns < least && fits_patterns(m, hw, &b)) {
            least = ns;
            *out = b;
            out->ns = ns;
        }
    }
    return out->nlanes > 0;
}
