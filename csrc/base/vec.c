/* vec.c - growable arrays in an arena: capacity doubles; in place when the array is the arena's
 * last allocation. */
#include "base/base.h"

#include <string.h>

Status
vec_reserve(Ctx *cx, Arena *a, void *vec, uint32_t extra, size_t elem_bytes)
{
    VecAny v;
    memcpy(&v, vec, sizeof(v));
    if (extra <= v.cap - v.n)
        return ST_OK;
    uint64_t need = (uint64_t)v.n + extra;
    uint64_t cap = MAX(MAX(need, 2 * (uint64_t)v.cap), 8);
    if (need > UINT32_MAX || cap > SIZE_MAX / 2 / elem_bytes)
        return fail_nomem(cx, SIZE_MAX);
    cap = MIN(cap, UINT32_MAX);
    if (!arena_extend(a, v.p, v.cap * elem_bytes, (size_t)cap * elem_bytes)) {
        void *p;
        TRY(new_in(cx, a, (size_t)cap * elem_bytes, &p));
        if (v.n)
            memcpy(p, v.p, v.n * elem_bytes);
        v.p = p;
    }
    v.cap = (uint32_t)cap;
    memcpy(vec, &v, sizeof(v));
    return ST_OK;
}
