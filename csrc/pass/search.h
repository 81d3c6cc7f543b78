/* search.h - for choose.c: the decisions of one group. */
#ifndef NKIGEN_PASS_SEARCH_H
#define NKIGEN_PASS_SEARCH_H

#include "pass/price.h"

typedef struct Bounds { /* of a search */
    int64_t work;       /* that it may do, as Pricer.work counts */
    int64_t taken;      /* bytes of SBUF per partition that are not the group's */
    int64_t others;     /* instructions that all other groups execute, */
    int64_t copies;     /* beside so many groups that are like this one */
    bool orders;        /* the program is short enough to be pipelined */
} Bounds;

/* Cuts *gr down until it fits; *out has no times. ST_LIMIT: it never does. */
Status fit_group(Pricer *pr, uint32_t k, int64_t taken, Group *gr, Price *out);
/* From *gr, with which the group fits, to better decisions, and their price; first: what sizes suggest. */
Status search_group(Pricer *pr, uint32_t k, const Bounds *b, const Group *first, Group *gr, Price *out);

#endif
