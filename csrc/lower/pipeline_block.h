/* pipeline_block.h - a long loop as blocks of iterations. */
#ifndef NKIGEN_LOWER_PIPELINE_BLOCK_H
#define NKIGEN_LOWER_PIPELINE_BLOCK_H

#include "lower/pipeline.h"

typedef struct Block {
    uint32_t loop;
    Val var;
    int64_t count, size; /* iterations: of the loop, of a block */
    Best best;           /* a block by itself */
    bool rotated;        /* blocks overlap */
    bool *early;         /* by node of best.s: it runs in the block before */
    bool *cross;         /* by value of best.s: early nodes and others touch it */
    int64_t *addr;       /* of those */
    Gaps room[SP_COUNT];
    Best head, kernel, tail; /* before the loop, its body, after it */
} Block;

/* *ok: there is an order that fits. addr: of outer buffers, by val; like: arenas and room */
Status block_make(Source *src, uint32_t loop, int64_t size, int most, const int64_t *addr, const Straight *like,
                  Block *out, bool *ok);
Status block_write(Emit *e, const Block *b);

#endif
