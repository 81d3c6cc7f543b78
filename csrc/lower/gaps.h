/* gaps.h - free ranges of memory, ascending, never adjacent. */
#ifndef NKIGEN_LOWER_GAPS_H
#define NKIGEN_LOWER_GAPS_H

#include "base/base.h"

typedef struct Stretch {
    int64_t lo, hi;
} Stretch;
typedef struct Gaps {
    VEC(Stretch) gap;
} Gaps;

bool gaps_take(Gaps *p, int64_t bytes, int64_t *addr); /* the tightest that holds it; false: none does */
Status gaps_give(Ctx *cx, Arena *a, Gaps *p, int64_t addr, int64_t bytes);

#endif
