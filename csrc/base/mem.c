/* mem.c - memory: counted allocations and arenas. The only caller of malloc and free.
 *
 * All memory handed out is zeroed. An arena is a chain of blocks that grow geometrically; nothing
 * in it is freed alone. A request that is large for the next block gets a block of its own behind
 * the head, so the head's room is not lost.
 */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

/* Under AddressSanitizer an arena's unused room is poisoned and every allocation is followed by a
 * red zone. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
enum { REDZONE = 16 };
#define POISON(p, n) ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
enum { REDZONE = 0 };
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum { FIRST_BLOCK = 16 << 10, LAST_BLOCK = 8 << 20, LINE = 64 };

/* Stands LINE bytes in front of what mem_alloc returns. */
typedef struct Header {
    void *base;
    size_t bytes;
} Header;

struct Block {
    Block *prev;
    size_t bytes, used; /* of the room after the header line */
};
_Static_assert(sizeof(Block) <= LINE && sizeof(Header) <= LINE, "headers fit their line");

/* Counts an allocation down for the failing-allocator tests. */
static bool
must_fail(Mem *mem)
{
    if (mem->fail_after < 0)
        return false;
    if (mem->fail_after == 0)
        return true;
    mem->fail_after--;
    return false;
}

void *
mem_alloc(Mem *mem, size_t bytes)
{
    if (bytes > SIZE_MAX / 2 || must_fail(mem))
        return NULL;
    size_t total = bytes + 2 * LINE;
    char *base = calloc(1, total);
    if (!base)
        return NULL;
    char *p = base + LINE;
    p += (LINE - (uintptr_t)p % LINE) % LINE;
    Header h = {base, total};
    memcpy(p - LINE, &h, sizeof(h));
    mem->live += total;
    mem->peak = MAX(mem->peak, mem->live);
    return p;
}

void
mem_free(Mem *mem, void *p)
{
    if (!p)
        return;
    Header h;
    memcpy(&h, (char *)p - LINE, sizeof(h));
    mem->live -= h.bytes;
    free(h.base);
}

void
arena_init(Arena *a, Mem *mem)
{
    *a = (Arena){.mem = mem};
}

static Block *
block_new(Arena *a, size_t bytes)
{
    Block *b = mem_alloc(a->mem, LINE + bytes);
    if (b) {
        b->bytes = bytes;
        POISON((char *)b + LINE, bytes);
    }
    return b;
}

static void *
block_take(Block *b, size_t bytes, size_t align)
{
    size_t at = (b->used + align - 1) & ~(align - 1);
    if (at > b->bytes || bytes + REDZONE > b->bytes - at)
        return NULL;
    b->used = at + bytes + REDZONE;
    UNPOISON((char *)b + LINE + at, bytes);
    return (char *)b + LINE + at;
}

void *
arena_alloc(Arena *a, size_t bytes)
{
    if (must_fail(a->mem) || bytes > SIZE_MAX / 4)
        return NULL;
    size_t align = bytes >= LINE ? LINE : 16;
    bytes = bytes ? bytes : 1;
    void *p = a->head ? block_take(a->head, bytes, align) : NULL;
    if (!p) {
        size_t grow = MIN(MAX(a->used, (size_t)FIRST_BLOCK), (size_t)LAST_BLOCK);
        bool alone = a->head && bytes > grow / 4;
        Block *b = block_new(a, alone ? bytes + REDZONE : MAX(bytes + REDZONE, grow));
        if (!b)
            return NULL;
        b->prev = alone ? a->head->prev : a->head;
        *(alone ? &a->head->prev : &a->head) = b;
        p = block_take(b, bytes, align);
    }
    a->used += bytes;
    return p;
}

bool
arena_extend(Arena *a, void *p, size_t old_bytes, size_t bytes)
{
    Block *b = a->head;
    if (REDZONE || !b || !p || (char *)p + old_bytes != (char *)b + LINE + b->used)
        return false;
    if (bytes < old_bytes || bytes - old_bytes > b->bytes - b->used || must_fail(a->mem))
        return false;
    b->used += bytes - old_bytes;
    a->used += bytes - old_bytes;
    return true;
}

static void
free_blocks(Arena *a, Block *b)
{
    while (b) {
        Block *prev = b->prev;
        UNPOISON((char *)b + LINE, b->bytes);
        mem_free(a->mem, b);
        b = prev;
    }
}

void
arena_reset(Arena *a)
{
    Block *keep = a->head;
    if (!keep)
        return;
    free_blocks(a, keep->prev);
    if (keep->bytes > FIRST_BLOCK) { /* zeroing it each time would cost more than a new one */
        keep->prev = NULL;
        free_blocks(a, keep);
        keep = NULL;
    } else {
        UNPOISON((char *)keep + LINE, keep->bytes);
        memset((char *)keep + LINE, 0, keep->used);
        POISON((char *)keep + LINE, keep->bytes);
        keep->prev = NULL;
        keep->used = 0;
    }
    a->head = keep;
    a->used = 0;
}

void
arena_free(Arena *a)
{
    free_blocks(a, a->head);
    a->head = NULL;
    a->used = 0;
}
