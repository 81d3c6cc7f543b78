/* status.c - a compilation's state and its recorded error.
 *
 * fail* formats into cx->err and returns the status, so that `return fail(...)` is the whole error
 * path. Nothing here can fail for lack of memory; warn.c, which keeps what it is told, can.
 */
#include "base/base.h"

#include <stdio.h>
#include <string.h>

void
ctx_init(Ctx *cx)
{
    *cx = (Ctx){.mem = {.fail_after = -1}};
    arena_init(&cx->arena, &cx->mem);
    arena_init(&cx->scratch, &cx->mem);
}

void
ctx_free(Ctx *cx)
{
    arena_free(&cx->scratch);
    arena_free(&cx->arena);
    cx->intern = NULL;
    cx->warnings = NULL;
    cx->nwarnings = cx->cap_warnings = 0;
    cx->warned = (Map){0};
}

/* A message cut at the end of the buffer must not end inside a UTF-8 sequence. */
static void
trim_utf8(char *s, size_t n)
{
    size_t i = n;
    while (i > 0 && ((unsigned char)s[i - 1] & 0xc0) == 0x80)
        i--;
    if (i == 0)
        return;
    unsigned char lead = (unsigned char)s[i - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (n - (i - 1) < want)
        s[i - 1] = 0;
}

void
format_message(char *msg, size_t size, const char *fmt, va_list ap)
{
    int n = vsnprintf(msg, size, fmt, ap);
    if (n < 0)
        msg[0] = 0;
    else if ((size_t)n >= size)
        trim_utf8(msg, size - 1);
}

int
take_code(const char **fmt)
{
    enum { PREFIX = 4, DIGITS = 4 };
    const char *s = *fmt;
    int code = 0;

    if (strncmp(s, "NKI-", PREFIX) != 0)
        return 0;
    for (int i = PREFIX; i < PREFIX + DIGITS; i++) {
        if (s[i] < '0' || s[i] > '9')
            return 0;
        code = 10 * code + (s[i] - '0');
    }
    if (s[PREFIX + DIGITS] != ' ')
        return 0;
    *fmt = s + PREFIX + DIGITS + 1;
    return code;
}

static Status
record(Ctx *cx, Status st, LocId loc, int line, int col, const char *fmt, va_list ap)
{
    char msg[sizeof(cx->err.msg)]; /* the arguments may point into cx->err.msg */
    int code = take_code(&fmt);
    format_message(msg, sizeof(msg), fmt, ap);
    cx->err = (ErrorInfo){.st = st, .loc = loc, .code = code, .line = line, .col = col};
    memcpy(cx->err.msg, msg, sizeof(msg));
    return st;
}

Status
fail(Ctx *cx, Status st, LocId loc, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(cx, st, loc, 0, 0, fmt, ap);
    va_end(ap);
    return st;
}

Status
fail_as(Ctx *cx, Status st, LocId loc, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(cx, st, loc, 0, 0, fmt, ap);
    va_end(ap);
    cx->err.code = code;
    return st;
}

Status
fail_at(Ctx *cx, int line, int col, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    record(cx, ST_USER, (LocId){0}, line, col, fmt, ap);
    va_end(ap);
    return ST_USER;
}

Status
fail_nomem(Ctx *cx, size_t bytes)
{
    return fail(cx, ST_NOMEM, (LocId){0}, "NKI-7501 out of memory (%zu bytes wanted, %zu bytes held)", bytes,
                cx->mem.live);
}

Status
new_in(Ctx *cx, Arena *a, size_t bytes, void *out)
{
    void *p = arena_alloc(a, bytes);
    if (!p)
        return fail_nomem(cx, bytes);
    memcpy(out, &p, sizeof(p));
    return ST_OK;
}
