/* access.h - what an instruction touches: one decoder and one dependence test for all that ask.
 *
 * An operand is a value, what is done to it, and a box: bytes of a row times partitions, which moves with the loop
 * variables. Boxes are hulls: what they do not share is not shared, while a box may hold bytes that are left out.
 */
#ifndef NKIGEN_TILE_ACCESS_H
#define NKIGEN_TILE_ACCESS_H

#include "tile/tile.h"

typedef struct Extent {
    int64_t lo, hi;
    int32_t p0, p1;
} Extent; /* bytes [lo, hi) of partitions [p0, p1); HBM: [0, 1) */

typedef struct Use { /* an operand, decoded */
    const Ap *ap;
    int64_t count;  /* elements per partition; HBM: in all */
    int64_t lo, hi; /* bytes, without the loop terms */
    Val val;
    uint8_t elem, space, dtype; /* elem: bytes of an element */
    uint8_t role;        /* R_read | R_write */
    uint8_t operand;     /* its number in the row */
} Use;

enum { DEP_raw, DEP_war, DEP_waw, DEP_COUNT }; /* a read after a write, a write after a read, a write after a write */

/* Operand i; false: it is absent, or a loop variable. */
bool operand_use(const Graph *g, const Op *op, int i, Use *out);
/* The operands of op that are buffers, in the row's order; returns how many. */
int op_uses(const Graph *g, const Op *op, Use out[MAX_OPERANDS]);
/* Whether a loop variable is an operand: where it is 0, the instruction overwrites. */
Val op_first(const Graph *g, const Op *op);

Extent use_at(const Use *u, const int64_t *value_of); /* where each loop variable has one value, value_of[var.i] */
/* The hull while each variable goes from first[var.i] to last[var.i]. */
Extent use_over(const Use *u, const int64_t *first, const int64_t *last);
int64_t affine_coef(const Affine *a, Val var);

bool extents_overlap(const Extent *a, const Extent *b);
bool extent_contains(const Extent *a, const Extent *b);
Extent extent_hull(const Extent *a, const Extent *b);

/* A set of 1 << DEP_*: why an access with role `after` waits for an earlier one with role `before` of the same bytes.
 */
unsigned role_deps(int before, int after);

/* Whether two patterns on one buffer in HBM, which start at elements off_a and off_b, may share elements. Sharper than
 * extents: boxes in the axes of the buffer's shape, so that tiles of columns are apart. */
bool hbm_overlap(const Type *ty, const Ap *a, int64_t off_a, const Ap *b, int64_t off_b);

/* The least d from `least` to `count` - 1 for which b in iteration i + d of a loop may touch what a touches in
 * iteration i; -1: none. No variable: the same iteration. All other variables: the same value for both, or, if `inner`
 * says so by value, any of the loop's. */
int64_t use_distance(const Graph *g, const Use *a, const Use *b, Val var, int64_t least, const bool *inner);

/* depend.c - all of a program, to look at: the number of pairs is what it takes. */
typedef struct Dependence {
    OpId before, after;
    Val loop;         /* the loop that carries it; none: within one iteration of all loops around both */
    int64_t distance; /* iterations of it, at least */
    unsigned why;     /* a set of 1 << DEP_* */
} Dependence;
typedef VEC(Dependence) Dependences;
Status tile_dependences(const Graph *g, Arena *a, Dependences *out);

#endif
