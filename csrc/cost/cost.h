/* cost.h - what a tile program costs, modelled: cycles per instruction, engine timeline, bytes, counts.
 *
 * Times are modelled (documented formulas, see hw.def); counts and bytes are exact.
 */
#ifndef NKIGEN_COST_H
#define NKIGEN_COST_H

#include "tile/tile.h"

typedef struct Cost {
    int64_t instr[K_COUNT]; /* executed, by tile op */
    int64_t instr_total;    /* DMAs included; allocation and loop control are not instructions */
    int64_t hbm_read, hbm_write, hbm_min; /* bytes; min: inputs and outputs once, see floor.c */
    int64_t flops;                        /* of nc_matmul */
    double time_us;                       /* end of the last instruction */
    double engine_us[EN_COUNT];           /* busy; EN_dma: share of all DMA engines together */
    double tensor_us;                     /* its tensor work at the peak */
    double roofline_us; /* max of: hbm_min at DMA bandwidth, tensor_us; of a function also the passes that it needs */
    int64_t sbuf_peak;                    /* bytes per partition */
    int psum_peak_banks;
} Cost;

/* instr.c - one instruction, by its access patterns; loop variables do not matter */
typedef struct InstrCost {
    double issue_us;   /* how long it holds its engine; DMA: its share of all DMA engines */
    double latency_us; /* from there until another engine may use the result */
    double span_us;    /* DMA: shortest time from first to last byte on the engines it uses */
    int64_t hbm_read, hbm_write; /* bytes moved on the HBM side; broadcast reads count every time */
    int64_t flops;               /* of nc_matmul */
} InstrCost;
InstrCost cost_instr(const Graph *g, const Op *op);
InstrCost cost_instr_with(const Graph *g, const Op *op, const Ap *const *ap); /* ap: by operand, instead of its own */
double cost_matmul_peak(const Hw *hw, DType dt); /* flops per us of the tensor engine */
double cost_dma_bandwidth(const Hw *hw);         /* bytes per us between HBM and the core */

/* totals.c - what needs no timeline: counts, bytes, busy times, roofline, memory peaks; the rest of *out is zero */
Status cost_totals(const Graph *g, Cost *out);

/* floor.c - hbm_min and roofline_us from the function that the program computes, as its graph is before decomposition;
 * *out is the cost of the program already */
Status cost_floor(const Graph *canonical, const Graph *tile, Cost *out);

/* timeline.c - the whole program: engines as in-order queues, DMA queues, dependences by buffer region,
 * loops extrapolated from their steady state. Time is linear in program text, not in iterations. */
Status cost_program(const Graph *g, Cost *out);

#endif
