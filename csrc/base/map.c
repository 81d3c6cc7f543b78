/* map.c - an open-addressing hash multimap from 64-bit hash to non-zero id.
 *
 * Linear probing, at most half full, no removal. No order among ids with equal hashes.
 */
#include "base/base.h"

#include <string.h>

static inline uint64_t
mix(uint64_t a, uint64_t b)
{
    uint64_t h = (a ^ b) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 32);
}

static inline uint64_t
load64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

uint64_t
hash_bytes(const void *p, size_t n, uint64_t seed)
{
    const unsigned char *s = p;
    uint64_t h = hash_int(n, seed), h1 = ~h, tail = 0;
    bool two = n >= 16;
    for (; n >= 16; n -= 16, s += 16) { /* two chains, for the latency of the multiplication */
        h = mix(h, load64(s));
        h1 = mix(h1, load64(s + 8));
    }
    if (two) /* else h1 is still ~h, and what came before would cancel out */
        h = hash_int(h1, h);
    if (n >= 8) {
        h = mix(h, load64(s));
        s += 8;
        n -= 8;
    }
    if (n)
        memcpy(&tail, s, n);
    return hash_int(tail, h);
}

uint32_t
map_find(const Map *m, uint64_t hash, MapEq *eq, const void *env)
{
    if (!m->cap)
        return 0;
    uint32_t mask = m->cap - 1;
    for (uint32_t i = (uint32_t)hash & mask; m->id[i]; i = (i + 1) & mask)
        if (m->hash[i] == hash && eq(env, m->id[i]))
            return m->id[i];
    return 0;
}

static void
put(Map *m, uint64_t hash, uint32_t id)
{
    uint32_t mask = m->cap - 1, i = (uint32_t)hash & mask;
    while (m->id[i])
        i = (i + 1) & mask;
    m->hash[i] = hash;
    m->id[i] = id;
}

static Status
grow(Ctx *cx, Arena *a, Map *m)
{
    if (m->cap > UINT32_MAX / 4)
        return fail_nomem(cx, SIZE_MAX);
    Map big = {.n = m->n, .cap = m->cap ? 2 * m->cap : 32};
    NEW(cx, a, big.hash, big.cap);
    NEW(cx, a, big.id, big.cap);
    for (uint32_t i = 0; i < m->cap; i++)
        if (m->id[i])
            put(&big, m->hash[i], m->id[i]);
    *m = big;
    return ST_OK;
}

Status
map_insert(Ctx *cx, Arena *a, Map *m, uint64_t hash, uint32_t id)
{
    if (2 * ((uint64_t)m->n + 1) > m->cap)
        TRY(grow(cx, a, m));
    put(m, hash, id);
    m->n++;
    return ST_OK;
}
