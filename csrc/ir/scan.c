/* scan.c - reads a text by characters, words, numbers and strings.
 *
 * rule: never reads past the end; every failure has a line and a column and says what was found.
 */
#include "ir/scan.h"

#include <stdio.h>
#include <string.h>

/* ---- characters and errors ---- */

Scan
scan_text(Ctx *cx, const char *text, size_t n)
{
    return (Scan){.cx = cx, .p = text, .end = text + n, .line_start = text, .line = 1};
}

int
scan_column(const Scan *sc, const char *at)
{
    return (int)(at - sc->line_start) + 1;
}

void
scan_blanks(Scan *sc)
{
    while (sc->p < sc->end && (*sc->p == ' ' || *sc->p == '\t' || *sc->p == '\r'))
        sc->p++;
    if (sc->p < sc->end && *sc->p == '#')
        while (sc->p < sc->end && *sc->p != '\n')
            sc->p++;
}

void
scan_lines(Scan *sc)
{
    for (scan_blanks(sc); sc->p < sc->end && *sc->p == '\n'; scan_blanks(sc)) {
        sc->p++;
        sc->line++;
        sc->line_start = sc->p;
    }
}

/* What stands at sc->p, for messages. */
static const char *
found(const Scan *sc, char buf[64])
{
    size_t n = 0, k = 0;
    if (sc->p >= sc->end)
        return "the end of the text";
    if (*sc->p == '\n' || *sc->p == '#')
        return "the end of the line";
    while (sc->p + n < sc->end && n < 24 && (is_word_char(sc->p[n]) || (n == 0 && *sc->p == '%')))
        n++;
    n = n ? n : 1;
    buf[k++] = '\'';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)sc->p[i];
        k += (size_t)snprintf(buf + k, 64 - k, c < 32 || c > 126 ? "\\x%02x" : "%c", c);
    }
    snprintf(buf + k, 64 - k, "'");
    return buf;
}

Status
scan_expected(Scan *sc, const char *what)
{
    char buf[64];
    return fail_at(sc->cx, sc->line, scan_column(sc, sc->p), "NKI-2552 expected %s, found %s", what, found(sc, buf));
}

/* Gives an error from elsewhere the place in the text. */
Status
scan_placed(Scan *sc, Status st, const char *at)
{
    if (st != ST_OK && st != ST_NOMEM && !sc->cx->err.line) {
        sc->cx->err.line = sc->line;
        sc->cx->err.col = scan_column(sc, at);
        if (st == ST_BUG)
            st = sc->cx->err.st = ST_USER;
    }
    return st;
}

/* ---- tokens ---- */

bool
scan_peek(Scan *sc, char c)
{
    scan_blanks(sc);
    return sc->p < sc->end && *sc->p == c;
}

bool
scan_take(Scan *sc, char c)
{
    if (!scan_peek(sc, c))
        return false;
    sc->p++;
    return true;
}

Status
scan_need(Scan *sc, char c)
{
    char what[4] = {'\'', c, '\'', 0};
    return scan_take(sc, c) ? ST_OK : scan_expected(sc, what);
}

/* A run of letters, digits and underscores; empty when there is none. */
Slice
scan_word(Scan *sc)
{
    scan_blanks(sc);
    Slice s = {sc->p, 0};
    while (sc->p < sc->end && is_word_char(*sc->p))
        sc->p++;
    s.n = (size_t)(sc->p - s.p);
    return s;
}

bool
slice_is(Slice s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

Status
scan_line_end(Scan *sc)
{
    scan_blanks(sc);
    if (sc->p < sc->end && *sc->p != '\n')
        return scan_expected(sc, "the end of the line");
    scan_lines(sc);
    return ST_OK;
}

Status
scan_end(Scan *sc)
{
    scan_lines(sc);
    return sc->p < sc->end ? scan_expected(sc, "the end of the text") : ST_OK;
}

Status
scan_digits(Scan *sc, bool negative, int64_t *out)
{
    scan_blanks(sc);
    const char *at = sc->p;
    int64_t v = 0;
    if (sc->p >= sc->end || !is_digit(*sc->p))
        return scan_expected(sc, "an integer");
    for (; sc->p < sc->end && is_digit(*sc->p); sc->p++) {
        int digit = negative ? '0' - *sc->p : *sc->p - '0'; /* towards the sign, for INT64_MIN */
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, digit, &v))
            return SCAN_FAIL(sc, at, "NKI-2553 integer is out of range");
    }
    if (sc->p < sc->end && (is_word_char(*sc->p) || *sc->p == '.')) {
        sc->p = at;
        return scan_expected(sc, "an integer");
    }
    *out = v;
    return ST_OK;
}

Status
scan_int(Scan *sc, int64_t *out)
{
    return scan_digits(sc, scan_take(sc, '-'), out);
}

int
hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One character of a string, escapes undone; -1 for a bad escape. */
static int
string_char(Scan *sc)
{
    if (*sc->p != '\\')
        return (unsigned char)*sc->p++;
    size_t left = (size_t)(sc->end - sc->p);
    char c = left > 1 ? sc->p[1] : 0;
    if (c == 'x' && left > 3 && hex_digit(sc->p[2]) >= 0 && hex_digit(sc->p[3]) >= 0) {
        int v = hex_digit(sc->p[2]) * 16 + hex_digit(sc->p[3]);
        sc->p += v ? 4 : 0; /* strings hold no NUL */
        return v ? v : -1;
    }
    sc->p += 2;
    switch (c) {
    case 'n':
        return '\n';
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case '"':
    case '\\':
        return c;
    }
    sc->p -= 2;
    return -1;
}

Status
scan_string(Scan *sc, Arena *tmp, StrId *out)
{
    Text t;
    TRY(scan_need(sc, '"'));
    const char *at = sc->p - 1;
    text_init(&t, sc->cx, tmp);
    while (sc->p < sc->end && *sc->p != '"' && *sc->p != '\n') {
        if (*sc->p == 0)
            return SCAN_FAIL(sc, sc->p, "NKI-2554 a string cannot hold a NUL");
        int c = string_char(sc);
        if (c < 0)
            return SCAN_FAIL(sc, sc->p,
                             "NKI-2555 bad escape in a string; known are \\\" \\\\ \\n \\t \\r \\xHH (not 00)");
        char byte = (char)c;
        text_putn(&t, &byte, 1);
    }
    if (sc->p >= sc->end || *sc->p != '"')
        return SCAN_FAIL(sc, at, "NKI-2556 string is not closed on its line");
    sc->p++;
    TRY(t.st);
    return str_make(sc->cx, t.n ? t.p : "", t.n, out);
}

Status
scan_float(Scan *sc, double *out)
{
    scan_blanks(sc);
    const char *at = sc->p;
    while (sc->p < sc->end &&
           (is_word_char(*sc->p) || *sc->p == '.' || *sc->p == '-' || *sc->p == '+'))
        sc->p++;
    if (text_to_double(at, (size_t)(sc->p - at), out))
        return ST_OK;
    sc->p = at;
    return scan_expected(sc, "a number");
}
