/* cover.h - sets of elements of a buffer: what was written, what an accumulation was started on.
 *
 * Partitions are sets of bits; elements of the row are an interval, or bits where an interval does not do.
 */
#ifndef NKIGEN_TILE_COVER_H
#define NKIGEN_TILE_COVER_H

#include "tile/tile.h"

__extension__ typedef unsigned __int128 Parts; /* a set of partitions; HBM: partition 0 */
enum { MAX_LATTICE = MAX_AP_DIMS + MAX_TERMS };

/* base + sum of i * stride, 0 <= i < count, per dim; strides ascend and are positive */
typedef struct Lattice {
    int64_t base, count[MAX_LATTICE], stride[MAX_LATTICE];
    int n;
} Lattice;

typedef struct Swath { /* all of these elements in all of these partitions */
    Parts parts;
    Lattice at;
} Swath;

typedef struct Strip { /* partitions that have the same elements */
    Parts parts;
    int64_t lo, hi; /* [lo, hi) when bits is NULL */
    uint64_t *bits; /* by element of the row */
} Strip;

typedef struct Cover {
    Strip *p;
    uint32_t n, cap;
} Cover;

typedef struct Covers { /* what the sets of a program share */
    Ctx *cx;
    Arena *arena;
    int64_t work; /* steps that may be spent on bits; once they are used up, sets become hulls */
} Covers;

typedef struct Hole { /* an element that is not in a set */
    int part;
    int64_t element;
} Hole;

void lattice_add(Lattice *l, int64_t count,
                 int64_t stride);       /* one more dim, of any sign; count 1 and stride 0 add nothing */
void lattice_merge(Lattice *l);         /* dims that continue each other, or overlap, are one */
int64_t lattice_last(const Lattice *l); /* the greatest element */

/* row: elements of a row of the buffer. A set becomes no smaller than it should by adding, and no smaller by removing.
 */
Status cover_add(Covers *s, Cover *c, const Swath *x, int64_t row);
Status cover_remove(Covers *s, Cover *c, const Swath *x, int64_t row);
/* True: an element of x is certainly not in the set, *hole. */
bool cover_misses(Covers *s, const Cover *c, const Swath *x, Hole *hole);
bool swaths_meet(Covers *s, const Swath *a, const Swath *b); /* they certainly share an element */

#endif
