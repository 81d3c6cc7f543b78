/* timeline.h - for the files of the timeline: who used which part of a buffer until when. */
#ifndef NKIGEN_COST_TIMELINE_H
#define NKIGEN_COST_TIMELINE_H

#include "cost/machine.h"

/* Someone used a region: until t0 at its low end, until t1 at its high end, in between linearly. */
typedef struct Access {
    Extent r;
    double t0, t1;
    uint32_t stamp; /* number of the instruction */
    uint8_t lane;
    bool write;
} Access;
typedef struct Track { /* the region list of one copy of a buffer, oldest first */
    Access *a;
    uint32_t n, cap;
    uint32_t shifted; /* the last jump that moved it */
} Track;

typedef struct Tracker {
    Ctx *cx;
    Arena *arena;
    Lags lags;
} Tracker;

/* track.c */
Status track_push(Tracker *k, Track *t, Access a);
/* A write hides what it covers, because it waited for it; a read hides earlier reads of its own queue. */
Status track_record(Tracker *k, Track *t, Access a);
/* The earliest start after everything in the list that an access of r by the lane has to wait for. */
double track_wait(const Tracker *k, const Track *t, const Extent *r, int role, int lane);
double track_end(const Tracker *k, const Track *t); /* when everybody may use all of it */

#endif
