/* nki_text.c - pieces of Python text: formatted strings, numbers, indentation, lines that wrap. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "emit/nki.h"

const char *
nki_format(Py *py, const char *fmt, ...)
{
    char *p;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    p = arena_alloc(&py->arena, (size_t)MAX(n, 0) + 1);
    if (!p) {
        py->out->st = fail_nomem(py->g->cx, (size_t)n + 1);
        return "";
    }
    va_start(ap, fmt);
    vsnprintf(p, (size_t)MAX(n, 0) + 1, fmt, ap);
    va_end(ap);
    return p;
}

const char *
nki_written(Py *py, const Text *t)
{
    if (t->st != ST_OK)
        py->out->st = t->st;
    return t->st == ST_OK && t->p ? t->p : "";
}

void
nki_indent(Py *py)
{
    for (int i = 0; i < py->depth; i++)
        text_puts(&py->body, "    ");
}

void
nki_line(Py *py, const char *s)
{
    nki_indent(py);
    text_puts(&py->body, s);
    text_puts(&py->body, "\n");
    py->empty = false;
}

const char *
nki_tuple(Py *py, const int64_t *v, int n)
{
    Text t;

    text_init(&t, py->g->cx, &py->arena);
    text_puts(&t, "(");
    for (int i = 0; i < n; i++)
        text_put(&t, "%s%lld", i ? ", " : "", (long long)v[i]);
    text_puts(&t, n == 1 ? ",)" : ")");
    return nki_written(py, &t);
}

size_t
nki_wrapped(Text *t, const char *s, size_t col, int deeper, size_t tail)
{
    for (const char *end; *s; s = end) {
        const char *comma = strstr(s, ", ");
        size_t len;
        end = comma ? comma + 2 : s + strlen(s);
        len = (size_t)(end - s);
        if (col + len + (comma ? 0 : tail + 1) > NKI_WIDTH + 1 && col > (size_t)deeper) {
            while (t->n && t->p[t->n - 1] == ' ')
                t->p[--t->n] = 0;
            text_put(t, "\n%*s", deeper, "");
            col = (size_t)deeper;
        }
        text_putn(t, s, len);
        col += len;
    }
    return col;
}

const char *
nki_float(Py *py, double v)
{
    Text t;

    if (isnan(v)) {
        py->nan = true;
        return "NAN";
    }
    if (isinf(v)) {
        py->inf = true;
        return v > 0 ? "INF" : "-INF";
    }
    text_init(&t, py->g->cx, &py->arena);
    text_float(&t, v);
    return nki_written(py, &t);
}
