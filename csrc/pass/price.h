/* price.h - what a group costs with the decisions that somebody has in mind. */
#ifndef NKIGEN_PASS_PRICE_H
#define NKIGEN_PASS_PRICE_H

#include "lower/lower.h"

/* Work, about in microseconds: an op of a text that is lowered, that is timed, an instruction in straight order. */
#define FIT_WORK 1
#define TIME_WORK 1
#define STRAIGHT_WORK 8

typedef enum PriceKind {
    PRICE_fit,      /* only whether there is room */
    PRICE_loops,    /* as it is lowered, in the order in which it was */
    PRICE_straight, /* in the order that pipelining finds; as lowered where it finds none */
} PriceKind;

typedef struct Price {
    double us; /* modelled time, and a little for each instruction and for DMA time hidden behind compute; < 0: it does
                * not fit */
    double busy_us, time_us; /* the busiest engine; the time alone */
    int64_t instr, ops;      /* executed; of the text as lowered */
    double full;             /* share of SBUF that one copy of everything takes at most */
    uint64_t code;           /* a key of the text but for the copies of buffers, which straight order does not have */
    Space missing;           /* where there is no room; SP_none: no form fits */
} Price;

typedef struct Pricer {
    const Plan *p;
    CompileOptions opt;
    Lower *low;
    Arena keep;
    uint32_t *number, numbers; /* by val, of one key */
    int64_t work;              /* done so far: instructions of texts, and of straight orders */
} Pricer;

/* Of pipelining it: loops of many iterations are put in order a block at a time. */
static inline int64_t
order_work(const Price *p)
{
    return STRAIGHT_WORK * MIN(p->instr, STRAIGHT_MOST);
}

Status pricer_init(Pricer *pr, const Plan *p, const CompileOptions *opt);
void pricer_free(Pricer *pr);
/* Group k alone, with the decisions gr, beside `taken` bytes of SBUF per partition that are not its own. What it takes
 * in scratch memory is given back, with all that was there. */
Status price_group(Pricer *pr, uint32_t k, const Group *gr, int64_t taken, PriceKind kind, Price *out);
/* What group k is, as a key: groups with equal keys have equal prices, whatever stands around them. */
uint64_t group_key(Pricer *pr, uint32_t k);

#endif
