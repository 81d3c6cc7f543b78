/* machine.h - the queues that instructions run on, as clocks: what the timeline and the schedulers have in common. */
#ifndef NKIGEN_COST_MACHINE_H
#define NKIGEN_COST_MACHINE_H

#include "cost/cost.h"
#include "tile/access.h"

/* In-order queues: the engines, the DMA queues by direction; LN_mixed stands for several. */
enum { LN_tensor, LN_vector, LN_scalar, LN_gpsimd, LN_load, LN_store, LN_mixed, LN_COUNT };
#define CK_bus LN_COUNT        /* clock of the shared DMA bandwidth, after those of the lanes */
#define CK_work (LN_COUNT + 1) /* and the DMA work so far, which may fill idle time of before */
#define CK_COUNT (LN_COUNT + 2)
#define MAX_GAPS 32

typedef struct Work {   /* an instruction, as its queue sees it */
    double issue, span; /* us; see InstrCost */
    uint8_t lane, engine;
    uint8_t ports; /* memories that it may have to share, as a set of spaces */
    uint8_t table; /* 1 + activation function that needs its own table, or 0 */
} Work;
typedef struct Gap {
    double a, b;
} Gap;
typedef struct Lags {                         /* us an instruction of a lane waits after the end of one of another */
    double us[DEP_COUNT][LN_COUNT][LN_COUNT]; /* [why][from][to] */
} Lags;
typedef struct Machine {
    const Hw *hw;
    double clock[LN_COUNT];
    Gap port[SP_COUNT][LN_COUNT]; /* when the lane used this memory last */
    Gap gap[MAX_GAPS];            /* when the DMA engines are idle; the last is open-ended */
    int ngaps;
    double dma_work;
    int table;
} Machine;

/* machine.c */
Work work_of(const Graph *g, const Op *op, const Ap *const *ap); /* ap: by operand, instead of its own; or NULL */
void lags_of(const Hw *hw, Lags *out);
void machine_init(Machine *m, const Hw *hw);
/* Runs w as soon as its queue is free, but not before *start, which becomes the start; returns the end. */
double machine_run(Machine *m, const Work *w, double *start);
void machine_clocks(const Machine *m, double out[CK_COUNT]);
void machine_shift(Machine *m, const double by[CK_COUNT]);
double machine_end(const Machine *m); /* when all is done, the last store delivered */

#endif
