/* nki.h - for the files of the NKI emitter. */
#ifndef NKIGEN_EMIT_NKI_H
#define NKIGEN_EMIT_NKI_H

#include "emit/emit.h"

#define NKI_WIDTH 100 /* columns of the source */

typedef struct Py {
    const Graph *g;
    Arena arena;
    Text *out;
    Text body, consts;
    const char **name;       /* by value */
    Map taken;
    VEC(const char *) names; /* by id in `taken`; [0] is none */
    VEC(OpId) hbm;           /* inputs, outputs and constants, in program order */
    int depth;               /* of Python indentation, in levels */
    int nest;                /* open loops */
    const char *loop_name[MAX_NEST];
    bool empty;                     /* the innermost block has no statement yet */
    bool np, base64, ml, inf, nan;  /* what the head of the file has to import or define */
} Py;

typedef struct View { /* an operand as Python sees it */
    const char *text;
    int64_t dim[MAX_RANK + 1];
    int ndim;
} View;

/* nki_text.c */
const char *nki_format(Py *py, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *nki_written(Py *py, const Text *t); /* what it holds; a failure becomes that of the whole source */
const char *nki_float(Py *py, double v);
void nki_indent(Py *py);
/* Text that may break after any comma, because a bracket is open; `col` is where it begins, `deeper` where lines go on,
 * `tail` how much follows. Returns the column after it. */
size_t nki_wrapped(Text *t, const char *s, size_t col, int deeper, size_t tail);

/* nki_view.c: operand i of an op */
View nki_any_view(Py *py, const Op *op, int i);
View nki_exact_view(Py *py, const Op *op, int i, Ap ap); /* with exactly the dims of ap */
View nki_ap_view(Py *py, const char *name, const Type *ty, const Ap *ap);
const char *nki_flat_text(Py *py, const Op *op, int i);  /* [P, F] when the pattern allows: for the tensor engine */

/* nki_instr.c */
void nki_instr(Py *py, const Op *op);

#endif
