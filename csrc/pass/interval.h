/* interval.h - what each value may be. */
#ifndef NKIGEN_INTERVAL_H
#define NKIGEN_INTERVAL_H

#include "ir/ir.h"

/* interval.c */
typedef struct Interval {
    double lo, hi; /* no element that is a number is outside */
    bool nan;      /* an element may be NaN */
    bool moment;   /* a sum of squares, maybe scaled and shifted up */
} Interval;
Status intervals(const Graph *g, Arena *a, Interval **by_val);

#endif
