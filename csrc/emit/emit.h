/* emit.h - one file per output form. */
#ifndef NKIGEN_EMIT_H
#define NKIGEN_EMIT_H

#include "tile/tile.h"

/* nki.c - Python source of an `@nki.jit` kernel, NKI 0.6 (nisa-facts section 3). Parameters: the inputs in order, then
 * the constants too large for source text (the docstring names them). Returns the outputs in order. */
Status emit_nki(const Graph *g, Text *t);

#endif
