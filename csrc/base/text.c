/* text.c - a growing text buffer with sticky status, and numbers as text whatever the locale. */
#include "base/base.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
text_init(Text *t, Ctx *cx, Arena *a)
{
    *t = (Text){.cx = cx, .arena = a};
}

/* Room for n more characters and the NUL. */
static bool
reserve(Text *t, size_t n)
{
    if (t->st != ST_OK)
        return false;
    if (n < t->cap - t->n)
        return true;
    size_t cap = MAX(MAX(2 * t->cap, 256), t->n + n + 1);
    if (n > SIZE_MAX / 8) {
        t->st = fail_nomem(t->cx, n);
        return false;
    }
    if (!arena_extend(t->arena, t->p, t->cap, cap)) {
        char *p;
        t->st = new_in(t->cx, t->arena, cap, &p);
        if (t->st != ST_OK)
            return false;
        if (t->n)
            memcpy(p, t->p, t->n);
        p[t->n] = 0;
        t->p = p;
    }
    t->cap = cap;
    return true;
}

void
text_putn(Text *t, const char *s, size_t n)
{
    if (!reserve(t, n))
        return;
    if (n)
        memcpy(t->p + t->n, s, n);
    t->n += n;
    t->p[t->n] = 0;
}

void
text_puts(Text *t, const char *s)
{
    text_putn(t, s, strlen(s));
}

void
text_put(Text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    if (reserve(t, 128)) {
        size_t room = t->cap - t->n;
        int n = vsnprintf(t->p + t->n, room, fmt, ap);
        if (n < 0)
            n = 0;
        else if ((size_t)n >= room && reserve(t, (size_t)n))
            vsnprintf(t->p + t->n, (size_t)n + 1, fmt, again);
        if (t->st == ST_OK)
            t->n += (size_t)n;
        t->p[t->n] = 0;
    }
    va_end(again);
    va_end(ap);
}

void
text_int(Text *t, int64_t v)
{
    char buf[24], *p = buf + sizeof(buf);
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do
        *--p = (char)('0' + u % 10);
    while (u /= 10);
    if (v < 0)
        *--p = '-';
    text_putn(t, p, (size_t)(buf + sizeof(buf) - p));
}

void
text_indent(Text *t, int depth)
{
    for (int i = 0; i < depth; i++)
        text_putn(t, "  ", 2);
}

/* The locale's decimal point becomes '.', and a text that would read back as an integer gets one.
 */
static void
put_point(Text *t, const char *s)
{
    const char *point = localeconv()->decimal_point;
    const char *at = strcmp(point, ".") != 0 && *point ? strstr(s, point) : NULL;
    if (at) {
        text_putn(t, s, (size_t)(at - s));
        text_putn(t, ".", 1);
        text_puts(t, at + strlen(point));
        return;
    }
    text_puts(t, s);
    if (!strpbrk(s, ".e"))
        text_putn(t, ".0", 2);
}

void
text_float(Text *t, double v)
{
    char buf[64];
    if (isnan(v)) {
        text_puts(t, "nan");
    } else if (isinf(v)) {
        text_puts(t, v > 0 ? "inf" : "-inf");
    } else if (fabs(v) < 1e15 && v == (double)(int64_t)v && (v != 0 || !signbit(v))) {
        text_int(t, (int64_t)v);
        text_putn(t, ".0", 2);
    } else {
        /* %g drops trailing zeros, so 15 digits also find shorter texts; subnormals have fewer digits */
        for (int digits = fabs(v) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
            snprintf(buf, sizeof(buf), "%.*g", digits, v);
            if (strtod(buf, NULL) == v) /* the same locale on both sides */
                break;
        }
        put_point(t, buf);
    }
}

static bool
is_number_char(char c)
{
    return (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E';
}

bool
text_to_double(const char *s, size_t n, double *out)
{
    if ((n == 3 && !memcmp(s, "inf", 3)) || (n == 4 && !memcmp(s, "-inf", 4))) {
        *out = *s == '-' ? -INFINITY : INFINITY;
        return true;
    }
    if (n == 3 && !memcmp(s, "nan", 3)) {
        *out = NAN;
        return true;
    }
    char buf[512]; /* longer than any number that text_float writes */
    size_t k = 0;
    const char *point = localeconv()->decimal_point;
    size_t np = strlen(point);
    for (size_t i = 0; i < n; i++) {
        if (!is_number_char(s[i]) || k + np + 1 >= sizeof(buf))
            return false;
        if (s[i] == '.' && np) {
            memcpy(buf + k, point, np);
            k += np;
        } else {
            buf[k++] = s[i];
        }
    }
    buf[k] = 0;
    char *end;
    *out = strtod(buf, &end);
    return k > 0 && end == buf + k;
}
