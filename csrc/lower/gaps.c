/* gaps.c - free ranges of memory.
 *
 * in:   what is taken and given back
 * out:  addresses
 * rule: the smallest gap that holds it; neighbours become one
 */
#include "lower/gaps.h"

#include <string.h>

bool
gaps_take(Gaps *p, int64_t bytes, int64_t *addr)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < p->gap.n; i++) {
        int64_t room = p->gap.p[i].hi - p->gap.p[i].lo;
        if (room >= bytes && (best == UINT32_MAX || room < p->gap.p[best].hi - p->gap.p[best].lo))
            best = i;
    }
    if (best == UINT32_MAX)
        return false;
    Stretch *gap = &p->gap.p[best];
    *addr = gap->lo;
    gap->lo += bytes;
    if (gap->lo == gap->hi) {
        memmove(gap, gap + 1, (p->gap.n - best - 1) * sizeof(Stretch));
        p->gap.n--;
    }
    return true;
}

Status
gaps_give(Ctx *cx, Arena *a, Gaps *p, int64_t addr, int64_t bytes)
{
    uint32_t i = 0;
    while (i < p->gap.n && p->gap.p[i].lo < addr)
        i++;
    VEC_PUSH(cx, a, &p->gap, (Stretch){0, 0});
    memmove(&p->gap.p[i + 1], &p->gap.p[i], (p->gap.n - 1 - i) * sizeof(Stretch));
    p->gap.p[i] = (Stretch){addr, addr + bytes};
    if (i + 1 < p->gap.n && p->gap.p[i].hi == p->gap.p[i + 1].lo) {
        p->gap.p[i].hi = p->gap.p[i + 1].hi;
        memmove(&p->gap.p[i + 1], &p->gap.p[i + 2], (p->gap.n - i - 2) * sizeof(Stretch));
        p->gap.n--;
    }
    if (i > 0 && p->gap.p[i - 1].hi == p->gap.p[i].lo) {
        p->gap.p[i - 1].hi = p->gap.p[i].hi;
        memmove(&p->gap.p[i], &p->gap.p[i + 1], (p->gap.n - i - 1) * sizeof(Stretch));
        p->gap.n--;
    }
    return ST_OK;
}
