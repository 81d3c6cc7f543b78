/* scan.h - the scanner under the parsers of text forms. Blanks and `#` comments are skipped before every token; a line
 * end is no blank. Failing functions record the error at the place in the text (fail_at). */
#ifndef NKIGEN_IR_SCAN_H
#define NKIGEN_IR_SCAN_H

#include "ir/ir.h"

typedef struct Slice { const char *p; size_t n; } Slice; /* a part of the text */

typedef struct Scan {
    Ctx *cx;
    const char *p, *end;    /* what is left of the text */
    const char *line_start;
    int line;               /* 1-based */
} Scan;

#define SCAN_FAIL(sc, at, ...) fail_at((sc)->cx, (sc)->line, scan_column((sc), (at)), __VA_ARGS__)

Scan scan_text(Ctx *cx, const char *text, size_t n);
int scan_column(const Scan *sc, const char *at);           /* 1-based, in bytes; `at` in the current line */
Status scan_expected(Scan *sc, const char *what);          /* "expected `what`, found ..." */
Status scan_placed(Scan *sc, Status st, const char *at);   /* gives an error from elsewhere its place in the text */
void scan_blanks(Scan *sc);
void scan_lines(Scan *sc);                                 /* blanks and line ends */
Status scan_line_end(Scan *sc);                            /* at least one line end, or the end of the text */
Status scan_end(Scan *sc);                                 /* nothing but blanks and line ends is left */
bool scan_peek(Scan *sc, char c);
bool scan_take(Scan *sc, char c);
Status scan_need(Scan *sc, char c);
Slice scan_word(Scan *sc);                                 /* letters, digits and underscores; may be empty */
Status scan_digits(Scan *sc, bool negative, int64_t *out); /* the digits of an integer whose sign was read */
Status scan_int(Scan *sc, int64_t *out);
Status scan_float(Scan *sc, double *out);
Status scan_string(Scan *sc, Arena *tmp, StrId *out);      /* "quoted", on one line */
bool slice_is(Slice s, const char *text);
int hex_digit(char c);                                     /* -1: none */

/* parse.c: the program that begins here; what comes behind it is left. *return_line: where its outputs stand.
 * *names, if it is wanted: by value, what the text calls it, in the graph's memory */
Status graph_scan(Scan *sc, const Dialect *const *dialects, int ndialects, int *return_line, Slice **names,
                  Graph **out);

static inline int shown(Slice s) { return (int)MIN(s.n, 60); } /* for %.*s in messages */
static inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool
is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
}

#endif
