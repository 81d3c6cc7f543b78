/* warn.c - the warnings of a compilation, each once.
 *
 * in:   a place and a message
 * out:  cx->warnings, in the order they came
 * rule: the same message at the same place is one warning.
 */
#include "base/base.h"

#include <string.h>

static bool
same_warning(const void *env, uint32_t id)
{
    const Warning *const *e = env;
    const Warning *have = &e[0][id - 1], *want = e[1];
    return have->loc.i == want->loc.i && strcmp(have->msg, want->msg) == 0;
}

static Status
push_warning(Ctx *cx, Warning w)
{
    if (cx->nwarnings == cx->cap_warnings) {
        uint32_t cap = MAX(8u, 2 * cx->cap_warnings);
        Warning *p;
        NEW(cx, &cx->arena, p, cap);
        if (cx->nwarnings)
            memcpy(p, cx->warnings, cx->nwarnings * sizeof(*p));
        cx->warnings = p;
        cx->cap_warnings = cap;
    }
    cx->warnings[cx->nwarnings++] = w;
    return ST_OK;
}

Status
warn(Ctx *cx, LocId loc, const char *fmt, ...)
{
    char msg[sizeof(cx->err.msg)];
    int code = take_code(&fmt);
    va_list ap;
    va_start(ap, fmt);
    format_message(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    Warning w = {loc, code, msg};
    const Warning *env[2] = {cx->warnings, &w};
    uint64_t h = hash_bytes(msg, strlen(msg), loc.i);
    if (map_find(&cx->warned, h, same_warning, env))
        return ST_OK;
    char *copy;
    NEW(cx, &cx->arena, copy, strlen(msg) + 1);
    memcpy(copy, msg, strlen(msg) + 1);
    TRY(push_warning(cx, (Warning){loc, code, copy}));
    return map_insert(cx, &cx->arena, &cx->warned, h, cx->nwarnings);
}
