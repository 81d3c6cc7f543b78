/* text.h - what the printer of a plan and its reader share. */
#ifndef NKIGEN_PLAN_TEXT_H
#define NKIGEN_PLAN_TEXT_H

#include "plan/plan.h"

enum {
    KB_per_tile,
    KB_in_place,
    KB_scalar_sums,
    KB_bufs,
    KB_psum_width,
    KB_psum_bufs,
    KB_resident,
    KB_panel,
    KB_COUNT
};
typedef struct Knob { /* a decision of a group */
    const char *name;
    int64_t lo, hi, step;
} Knob;
extern const Knob knobs[KB_COUNT];
int64_t knob_most(const Group *gr, int k);
bool has_knob(const Group *gr, int k); /* of a group that is decided */
void set_knobs(Group *gr, const int64_t value[KB_COUNT]);

extern const char *const role_words[RO_COUNT];
bool is_loose(const Plan *p,
              OpId o); /* in no group, but in HBM: a view, or a concat whose parts are written in place */

#endif
