/* blocks.h - a move cut into blocks whose order changes on chip. */
#ifndef NKIGEN_LOWER_BLOCKS_H
#define NKIGEN_LOWER_BLOCKS_H

#include "ir/ir.h"
#include "tile/tile.h"

#define LANE_DIMS 3 /* that fill the partitions together */

typedef struct Strided { /* the same elements in the result and in the source, by dim */
    int n;
    int64_t count[MAX_RANK], to[MAX_RANK], from[MAX_RANK];
} Strided;

/* A dim, merged with the one before where both sides allow it; what goes backwards stays apart (reverse.c). */
static inline void
strided_add(Strided *m, int64_t count, int64_t to, int64_t from)
{
    int k = m->n - 1;
    if (count == 1)
        return;
    if (m->n && from >= 0 && m->to[k] == to * count && m->from[k] == from * count) {
        m->count[k] *= count;
        m->to[k] = to;
        m->from[k] = from;
        return;
    }
    m->count[m->n] = count;
    m->to[m->n] = to;
    m->from[m->n++] = from;
}

typedef struct Blocks {
    int64_t inner[MAX_RANK], lanes[MAX_RANK]; /* by dim: elements in a partition, and partitions, at a time */
    int by_from[MAX_RANK], by_to[MAX_RANK];   /* the dims, innermost first */
    int row;                                  /* the dim whose lanes one DMA takes; each index of others is a DMA */
    int64_t unit;                             /* elements from one to the next in the source */
    int64_t nlanes, load, store;              /* partitions; elements of a run of either side */
    double ns;                                /* of an element, roughly */
} Blocks;

/* false: a single DMA within HBM takes no longer */
bool choose_blocks(const Strided *m, const Hw *hw, int64_t bytes, Blocks *out);
/* Of an element of so many bytes in runs of so many elements, in a DMA of all engines. */
double move_ns(const Hw *hw, int64_t run, int64_t bytes);

#endif
