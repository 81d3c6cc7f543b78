/* pipeline.h - for the files that put a straight program in order: what they hand to each other.
 *
 * expand -> (split) -> link -> list_schedule, forwards and backwards -> place -> write. All numbers of nodes and values
 * are positions in the order of the program as it was lowered, the naive order.
 */
#ifndef NKIGEN_LOWER_PIPELINE_H
#define NKIGEN_LOWER_PIPELINE_H

#include "cost/machine.h"
#include "lower/lower.h"

#define MAX_ENGINES 3 /* that one instruction may run on */
#define NO_VALUE UINT32_MAX

typedef struct Touch { /* an operand of a node, the loop variables put in */
    const Ap *ap;      /* its dims; of the lowered program, or of a piece of a DMA */
    int64_t off, part; /* where the pattern starts: elements, partition */
    Extent at;
    uint32_t value; /* what orders accesses; NO_VALUE: nothing does */
    uint32_t buf;   /* Value of the buffer, also when nothing orders it */
    uint8_t role, operand;
} Touch;

typedef struct Value { /* a buffer, or one turn of a buffer that a loop's body declares */
    Val val;           /* of the lowered program */
    uint32_t turn;
    uint32_t user, nuser; /* on chip: the nodes that touch it, in Straight.users */
    int64_t bytes;        /* of every partition, as it is placed; 0 in HBM */
    uint8_t space;
    bool chip;
} Value;

typedef struct Node { /* one execution of an instruction */
    uint32_t op;      /* of the lowered program */
    uint32_t touch, ntouch;
    uint32_t value, nvalue; /* on chip, each once: in Straight.used */
    uint32_t pred, npred, succ, nsucc;
    Work work[MAX_ENGINES]; /* [0]: the engine chosen before */
    uint8_t nwork;
    bool adds; /* a matmul that accumulates */
} Node;

typedef struct Arc { /* why: a set of 1 << DEP_* */
    uint32_t node;
    uint8_t why;
} Arc;

typedef struct Straight {
    const Graph *g;
    const Hw *hw;
    Arena *a, *scratch; /* scratch: of one schedule */
    VEC(Node) node;
    VEC(Touch) touch;
    VEC(Value) value;
    VEC(uint32_t) used;
    uint32_t *users;
    VEC(Arc) pred;
    Arc *succ;
    uint32_t *turns; /* by val of g: how many values it became */
    Lags lags;
} Straight;

typedef struct Limits { /* of a schedule */
    uint32_t alive;     /* values of one buffer under way at a time */
    int64_t room[SP_COUNT];
    bool choose;           /* the engine of each node anew */
    const uint8_t *engine; /* by node, otherwise; NULL: those chosen before */
} Limits;

typedef struct Order {   /* a schedule */
    uint32_t *node;      /* in the order of the text */
    double *start, *end; /* by node */
    uint8_t *engine;     /* by node: an index into its work */
    int64_t *addr;       /* by value; NULL: not placed yet */
    double us;           /* when all is done */
} Order;

/* pipeline_expand.c: *fits is false when the program has more than `most` instructions */
Status straight_expand(const Graph *g, const Graph *lowered, Arena *a, Arena *scratch, uint32_t most, Straight *out,
                       bool *fits);
/* pipeline_split.c: DMAs of more than `us` in pieces */
Status straight_split(const Straight *in, double us, Straight *out);
/* pipeline_link.c: users, edges */
Status straight_link(Straight *s);
/* pipeline_pool.c: the memory of a schedule in the making */
#define MAX_ALIVE 4
typedef struct Chunk { /* memory that is free from `at` on */
    double at;
    int64_t bytes;
} Chunk;
typedef struct Slots { /* from when on one more value may be under way */
    double at[MAX_ALIVE];
} Slots;
typedef struct Pool {
    const Straight *s;
    const Limits *lim;
    bool back;                  /* time runs backwards: the last node is the first */
    VEC(Chunk) free[SP_COUNT];  /* as a fluid; earliest first */
    int64_t *profile[SP_COUNT]; /* by position: bytes that are live were the rest run in the naive order */
    uint32_t low;               /* the first position that has not run */
    bool *done;                 /* by position */
    uint32_t *left, *far;       /* by value: users that have not run; index of the last of them */
    double *closing;            /* by value */
    bool *open;                 /* by value */
    Slots *slots;               /* by val */
    double *room;               /* by node: when there is room, as of version `looked` */
    uint32_t *looked, *unsafe;  /* by node; unsafe: the version at which the test failed */
    uint32_t version;           /* of the memory; changes with every value that opens or closes */
} Pool;
Status pool_init(const Straight *s, const Limits *lim, bool back, Pool *out);
double pool_room(Pool *p, uint32_t node);  /* when there is room for the values that it opens; INFINITY: not yet */
bool pool_is_safe(Pool *p, uint32_t node); /* whether the rest, in the naive order, fits once it has run */
Status pool_commit(Pool *p, uint32_t node, int lane, double end);

/* pipeline_list.c: `key` by node, least first. Backwards: from the end of the program, edges turned around. *ok: it
 * fits. */
Status list_schedule(const Straight *s, const Limits *lim, const double *key, bool backwards, Order *out, bool *ok);
/* pipeline_place.c */
Status place_values(const Straight *s, Order *o, bool *ok);
/* pipeline_write.c */
Status straight_write(const Straight *s, const Order *o, Graph **out);

/* schedule.c: the engines that op, which was given none, may run on; returns how many, at most MAX_ENGINES */
int engine_choices(const Graph *g, const Op *op, Engine out[MAX_ENGINES]);

#endif
