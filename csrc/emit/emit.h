/* emit.h - one file per output form. */
#ifndef NKIGEN_EMIT_H
#define NKIGEN_EMIT_H

#include "tile/tile.h"

/* What the user's code says about a place in it; the texts live until the next call. Both may give "". */
typedef struct Source {
    void *env;
    const char *(*variable)(void *env, LocId loc); /* the name that the expression there is assigned to */
    const char *(*line)(void *env, LocId loc);     /* "model.py:12: y = np.exp(x)" */
} Source;

/* nki.c - Python source of an `@nki.jit` kernel, NKI 0.6 (nisa-facts section 3). Parameters: the inputs in order.
 * Returns the outputs in order, those without elements left out. Constants of more than NKI_EMBED bytes are read from
 * KERNEL_constN.npy beside the source, N being their place among the constants. `user` may be NULL. */
#define NKI_EMBED (16 * 1024)
Status emit_nki(const Graph *g, const Source *user, Text *t);

#endif
