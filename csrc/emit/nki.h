/* nki.h - for the files of the NKI emitter. */
#ifndef NKIGEN_EMIT_NKI_H
#define NKIGEN_EMIT_NKI_H

#include "emit/emit.h"

#define NKI_WIDTH 100 /* columns of the source */
#define NKI_DEPTH (MAX_NEST + 8) /* rolled copies nest deeper than the program */
#define NKI_DIMS 5    /* of a tensor or a view */

typedef struct Shape { /* as Python sees a tensor or a view */
    int64_t dim[NKI_DIMS + MAX_AP_DIMS];
    int n;
} Shape;

typedef struct View { /* an operand as Python sees it */
    const char *text;
    Shape shape;
} View;

typedef struct Py {
    const Graph *g;
    const Source *user;
    Arena arena;
    Text *out;
    Text body, consts;
    const char *kernel;
    const char **name;       /* by value: what instructions call it */
    const char **given;      /* by value: HBM buffers, as parameter and result */
    Map taken;
    VEC(const char *) names; /* by id in `taken`; [0] is none */
    VEC(OpId) hbm;           /* inputs, outputs and constants, in program order */
    int nconsts;
    int depth;               /* of Python indentation, in levels */
    int nest;                /* open loops */
    const char *loop_name[NKI_DEPTH];
    const char *said;               /* the user's line that stands above the code */
    bool empty;                     /* the innermost block has no statement yet */
    bool np, base64, ml, inf, nan, path, rows; /* what the head has to import or define */
} Py;

/* nki_text.c */
const char *nki_format(Py *py, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *nki_written(Py *py, const Text *t); /* what it holds; a failure becomes that of the whole source */
const char *nki_float(Py *py, double v);
const char *nki_tuple(Py *py, const int64_t *v, int n);
void nki_indent(Py *py);
void nki_line(Py *py, const char *s); /* a statement */
/* Text that may break after any comma, because a bracket is open; `col` is where it begins, `deeper` where lines go on,
 * `tail` how much follows. Returns the column after it. */
size_t nki_wrapped(Text *t, const char *s, size_t col, int deeper, size_t tail);

/* nki_names.c */
Status nki_reserve_words(Py *py);
/* A free identifier as close to `want` as possible; `number` tells equal wishes apart. */
Status nki_pick_name(Py *py, const char *want, uint32_t number, const char **out);
Status nki_name_buffers(Py *py);
static inline int
nki_kind(const Graph *g, const Op *op)
{
    return (int)attr_int(g->cx, op->attr, A_kind, BK_tile);
}

/* nki_const.c */
Status nki_constant(Py *py, const Op *op, const char *name); /* the array `name` of the module */

/* nki_view.c: operand i of an op */
Shape nki_shape(const Type *ty);                         /* as a buffer is declared */
View nki_any_view(Py *py, const Op *op, int i);
View nki_exact_view(Py *py, const Op *op, int i, Ap ap); /* with exactly the dims of ap */
const char *nki_flat_text(Py *py, const Op *op, int i);  /* [P, F] when the pattern allows: for the tensor engine */
void nki_pair(Py *py, const Op *op, View *dst, View *src); /* operands 0 and 1 with the same dims where views can */

/* nki_instr.c */
void nki_instr(Py *py, const Op *op);

#endif
