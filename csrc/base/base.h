/* base.h - memory, containers, text, Status, dtypes: what every other layer stands on.
 *
 * Nothing here knows about IR. Only mem.c calls malloc. No mutable statics anywhere.
 */
#ifndef NKIGEN_BASE_H
#define NKIGEN_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a failing call means. The text, the place and the kind stand in Ctx.err. */
typedef enum Status {
    ST_OK,
    ST_USER,        /* the kernel (or the IR text) is wrong */
    ST_TYPE,        /* ... and it is a matter of types: becomes a TypeError */
    ST_UNSUPPORTED, /* we cannot do this yet */
    ST_LIMIT,       /* the hardware cannot */
    ST_NOMEM,
    ST_BUG,         /* we are wrong */
} Status;

#define TRY(e)                      \
    do {                            \
        Status try_ = (e);          \
        if (try_ != ST_OK)          \
            return try_;            \
    } while (0)

#define COUNT_OF(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define CEIL_DIV(a, b) (((a) + (b) - 1) / (b))
#define ALIGN_UP(a, b) (CEIL_DIV(a, b) * (b))

/* Never negative; gcd(0, 0) is 0. */
static inline int64_t
gcd(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a < 0 ? -a : a;
}

typedef struct LocId { uint32_t i; } LocId; /* a user source location, see ir/ir.h; 0 is "unknown" */

/* mem.c - the only caller of malloc */
typedef struct Mem {
    int64_t fail_after; /* test hook: allocations until all fail; negative means never. While >= 0 an allocation
                           from an arena counts too */
    size_t live, peak;  /* bytes held now, and at most so far */
} Mem;

typedef struct Block Block;
typedef struct Arena {
    Mem *mem;
    Block *head;
    size_t used; /* bytes handed out */
} Arena;

void arena_init(Arena *a, Mem *mem);
void *arena_alloc(Arena *a, size_t bytes); /* zeroed, 64-byte aligned if >= 64 bytes, else 16; NULL: no memory */
/* Grows p in place; only the last allocation can. */
bool arena_extend(Arena *a, void *p, size_t old_bytes, size_t bytes);
void arena_reset(Arena *a);                /* all memory is taken back; a small block is kept */
void arena_free(Arena *a);
void *mem_alloc(Mem *mem, size_t bytes);   /* zeroed, 64-byte aligned; for buffers that outgrow an arena */
void mem_free(Mem *mem, void *p);

/* map.c - hash -> id multimap; the caller compares */
typedef struct Map {
    uint64_t *hash;
    uint32_t *id; /* 0 is an empty slot */
    uint32_t n, cap;
} Map;

/* status.c */
typedef struct ErrorInfo {
    Status st;
    LocId loc;
    int code;      /* the n of NKI-n; 0: none */
    int line, col; /* of IR text, 1-based; 0 when the error is not about text */
    char msg[1000];
} ErrorInfo;

typedef struct Warning { LocId loc; int code; const char *msg; } Warning;

/* State of one compilation; ids of interned things (types, attributes, strings, locations, access patterns) hang from
 * it, so every graph of one compilation shares them. Not shared between threads. */
typedef struct Ctx {
    Mem mem;
    Arena arena;           /* lives as long as the Ctx: interned things, warnings */
    Arena scratch;         /* reset by the driver between passes */
    struct Intern *intern; /* owned by ir/, see intern_init */
    ErrorInfo err;         /* the last failure */
    Warning *warnings;
    uint32_t nwarnings, cap_warnings;
    Map warned;            /* warnings by content */
} Ctx;

void ctx_init(Ctx *cx); /* ir's intern_init comes next; all it makes lives in cx->arena */
void ctx_free(Ctx *cx); /* frees the arenas, and with them everything interned; graphs must be freed before */
/* fail, fail_at and fail_nomem replace the error recorded so far; the format may use cx->err.msg itself. It begins with
 * the code of the error, "NKI-2003 matmul: ...", which goes to ErrorInfo.code: docs/errors.md lists them. */
Status fail(Ctx *cx, Status st, LocId loc, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
Status fail_as(Ctx *cx, Status st, LocId loc, int code, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
Status fail_at(Ctx *cx, int line, int col, const char *fmt, ...) __attribute__((format(printf, 4, 5))); /* ST_USER */
Status fail_nomem(Ctx *cx, size_t bytes);
int take_code(const char **fmt); /* the code at the beginning of a message, which *fmt then is behind; 0: none */
/* The text of a message, cut where it does not fit. */
void format_message(char *msg, size_t size, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
Status new_in(Ctx *cx, Arena *a, size_t bytes, void *out); /* *(void **)out = zeroed memory, or ST_NOMEM */

#define NEW(cx, arena, ptr, n)                                                        \
    do {                                                                              \
        (ptr) = NULL; /* compilers cannot see that new_in sets it */                  \
        TRY(new_in((cx), (arena), sizeof(*(ptr)) * (size_t)(n), &(ptr)));             \
    } while (0)

/* vec.c - growable arrays in an arena; p may move on every push: keep indices, not pointers */
#define VEC(T)           \
    struct {             \
        T *p;            \
        uint32_t n, cap; \
    }
typedef VEC(void) VecAny;
Status vec_reserve(Ctx *cx, Arena *a, void *vec, uint32_t extra, size_t elem_bytes);

#define VEC_PUSH(cx, arena, v, ...)                                      \
    do {                                                                 \
        if ((v)->n == (v)->cap)                                          \
            TRY(vec_reserve((cx), (arena), (v), 1, sizeof(*(v)->p)));    \
        (v)->p[(v)->n++] = __VA_ARGS__;                                  \
    } while (0)

/* warn.c */
Status warn(Ctx *cx, LocId loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* map.c */
typedef bool MapEq(const void *env, uint32_t id);
uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);
static inline uint64_t
hash_int(uint64_t v, uint64_t seed)
{
    uint64_t h = (v ^ seed) * 0x9e3779b97f4a7c15u;
    h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93u;
    return h ^ (h >> 29);
}
uint32_t map_find(const Map *m, uint64_t hash, MapEq *eq, const void *env); /* 0: absent */
Status map_insert(Ctx *cx, Arena *a, Map *m, uint64_t hash, uint32_t id);

/* text.c - a text buffer with sticky status: check st once, at the end */
typedef struct Text {
    Ctx *cx;
    Arena *arena;
    char *p; /* always NUL-terminated once something was put */
    size_t n, cap;
    Status st;
} Text;
void text_init(Text *t, Ctx *cx, Arena *a);
void text_put(Text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_puts(Text *t, const char *s);
void text_putn(Text *t, const char *s, size_t n);
void text_int(Text *t, int64_t v);
void text_indent(Text *t, int depth); /* two spaces each */
void text_float(Text *t, double v);   /* shortest text that reads back to the same double; inf, -inf, nan */

/* Reads all of s[0, n) as a number, whatever the locale; also inf, -inf, nan. False: it is none. */
bool text_to_double(const char *s, size_t n, double *out);

/* dtype.c - number formats */
typedef enum DKind { DK_none, DK_bool, DK_int, DK_uint, DK_float } DKind;
typedef enum DType {
#define DTYPE(id, ...) DT_##id,
#include "base/dtype.def"
#undef DTYPE
    DT_COUNT
} DType;

typedef struct DTypeInfo {
    const char *name; /* "bf16" */
    DKind kind;
    uint8_t bytes, exp_bits, man_bits;
    const char *np;   /* NumPy or ml_dtypes name */
    const char *nki;  /* attribute of nki.language; NULL when the hardware lacks it */
    double max;       /* largest finite value */
} DTypeInfo;
extern const DTypeInfo dtypes[DT_COUNT];

bool dtype_from_name(const char *s, size_t n, DType *out); /* "f32", also "float32" spellings */
/* Any dtype <-> f32 and f64. To a float format: round to nearest even. To an integer: round to nearest even and
 * saturate (NaN becomes 0); this is the hardware's rule (nisa-facts 4.2), not NumPy's. Strides in elements. */
void dtype_to_f32(DType dt, const void *src, int64_t stride, int64_t n, float *dst);
void dtype_from_f32(DType dt, const float *src, int64_t n, void *dst, int64_t stride);
double dtype_load(DType dt, const void *src);
void dtype_store(DType dt, double v, void *dst);
int64_t dtype_load_int(DType dt, const void *src); /* integer and bool dtypes, exact */

/* Every value of `from` is one of `to`. */
bool dtype_holds(DType to, DType from);

static inline bool is_float(DType d) { return dtypes[d].kind == DK_float; }
static inline bool is_integer(DType d) { return dtypes[d].kind == DK_int || dtypes[d].kind == DK_uint; }

#endif
