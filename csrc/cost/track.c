/* track.c - the region list of one copy of a buffer: who used what until when.
 *
 * in:   accesses in program order
 * out:  when an access that overlaps earlier ones may start
 * rule: the list never says "done" too early for what it holds; it is short, and merging old entries only delays
 */
#include <string.h>

#include "cost/timeline.h"

#define MAX_ACCESS 32 /* entries of one region list */

/* When the access is done with the part of it that r overlaps. */
static double
access_end(const Access *a, const Extent *r)
{
    double part, len = (double)(a->r.hi - a->r.lo);

    if (a->t0 == a->t1)
        return a->t0;
    if (a->t0 < a->t1) {
        part = (double)(MIN(r->hi, a->r.hi) - a->r.lo) / len;
        return a->t0 + (a->t1 - a->t0) * part;
    }
    part = (double)(a->r.hi - MAX(r->lo, a->r.lo)) / len;
    return a->t1 + (a->t0 - a->t1) * part;
}

static void
blur_lane(const Tracker *k, Access *a)
{
    double lag = k->lags.us[DEP_raw][a->lane][LN_mixed];

    a->t0 += lag;
    a->t1 += lag;
    a->lane = LN_mixed;
}

/* b into a; a ramp when one lies after the other in memory and in time. */
static void
merge_access(const Tracker *k, Access *a, Access *b)
{
    Access m = *a;

    if (a->lane != b->lane) {
        blur_lane(k, a);
        blur_lane(k, b);
    }
    m.lane = a->lane;
    m.r = extent_hull(&a->r, &b->r);
    m.stamp = MAX(a->stamp, b->stamp);
    if (a->r.hi <= b->r.lo && MAX(a->t0, a->t1) <= MIN(b->t0, b->t1)) {
        m.t0 = a->t0;
        m.t1 = b->t1;
    } else if (b->r.hi <= a->r.lo && MAX(a->t0, a->t1) <= MIN(b->t0, b->t1)) {
        m.t0 = b->t0;
        m.t1 = a->t1;
    } else {
        m.t0 = m.t1 = MAX(MAX(a->t0, a->t1), MAX(b->t0, b->t1));
    }
    *a = m;
}

/* Makes room by merging the two oldest entries of a kind. */
static void
squeeze_track(const Tracker *k, Track *t)
{
    uint32_t j = 1;

    while (t->a[j].write != t->a[0].write && j + 1 < t->n)
        j++;
    if (t->a[j].write != t->a[0].write) /* one of a kind: merge the two that follow */
        merge_access(k, &t->a[1], &t->a[j = 2]);
    else
        merge_access(k, &t->a[0], &t->a[j]);
    memmove(&t->a[j], &t->a[j + 1], sizeof(Access) * (t->n - j - 1));
    t->n--;
}

Status
track_push(Tracker *k, Track *t, Access a)
{
    if (t->n == MAX_ACCESS)
        squeeze_track(k, t);
    if (t->n == t->cap) {
        uint32_t cap = t->cap ? 2 * t->cap : 2;
        Access *p;
        NEW(k->cx, k->arena, p, cap);
        if (t->n)
            memcpy(p, t->a, sizeof(Access) * t->n);
        t->a = p;
        t->cap = cap;
    }
    t->a[t->n++] = a;
    return ST_OK;
}

Status
track_record(Tracker *k, Track *t, Access a)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->n; i++) {
        Access *old = &t->a[i];
        bool hides = extent_contains(&a.r, &old->r) && (a.write || (!old->write && old->lane == a.lane));
        if (hides && !a.write)
            a.t0 = a.t1 = MAX(a.t1, MAX(old->t0, old->t1));
        if (!hides && n++ != i)
            t->a[n - 1] = *old;
    }
    t->n = n;
    return track_push(k, t, a);
}

double
track_wait(const Tracker *k, const Track *t, const Extent *r, int role, int lane)
{
    double start = 0;

    for (uint32_t i = 0; i < t->n; i++) {
        const Access *a = &t->a[i];
        double end;
        if (!(a->write || (role & R_write)) || !extents_overlap(&a->r, r))
            continue;
        end = access_end(a, r);
        if (a->write && (role & R_read))
            start = MAX(start, end + k->lags.us[DEP_raw][a->lane][lane]);
        if (role & R_write)
            start = MAX(start, end + k->lags.us[a->write ? DEP_waw : DEP_war][a->lane][lane]);
    }
    return start;
}

double
track_end(const Tracker *k, const Track *t)
{
    double end = 0;

    for (uint32_t i = 0; i < t->n; i++)
        end = MAX(end, MAX(t->a[i].t0, t->a[i].t1) + k->lags.us[DEP_raw][t->a[i].lane][LN_mixed]);
    return end;
}
