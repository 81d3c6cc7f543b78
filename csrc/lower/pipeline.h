/* pipeline.h - for the files that put a program in order: what they hand to each other.
 *
 * expand -> (split) -> link -> list_schedule, forwards and backwards -> place -> write. All numbers of nodes and values
 * are positions in the order of the program as it was lowered, the naive order. A straight program is a whole program,
 * or a piece of one: then buffers that others use are "outer", and loops around the piece are "kept".
 */
#ifndef NKIGEN_LOWER_PIPELINE_H
#define NKIGEN_LOWER_PIPELINE_H

#include "cost/machine.h"
#include "lower/gaps.h"
#include "lower/lower.h"

#define MAX_ENGINES 3 /* that one instruction may run on */
#define NO_VALUE UINT32_MAX

typedef struct Touch { /* an operand of a node, the loop variables put in; those of kept loops as in an iteration that
                        * stands for all */
    const Ap *ap;      /* its dims; of the lowered program, or of a piece of a DMA */
    int64_t off, part; /* where the pattern starts: elements, partition */
    Extent at;
    uint32_t value; /* what orders accesses; NO_VALUE: nothing does */
    uint32_t buf;   /* Value of the buffer, also when nothing orders it */
    uint8_t role, operand;
    bool moves; /* with a kept loop */
} Touch;

typedef struct Value { /* a buffer, or one turn of a buffer that a loop's body declares */
    Val val;           /* of the lowered program */
    uint32_t kin;      /* the same for all turns of a buffer */
    uint32_t user, nuser; /* on chip: the nodes that touch it, in Straight.users */
    int64_t bytes;        /* of every partition, as it is placed; 0 in HBM */
    int64_t elems;        /* of every partition, of a part of a buffer; 0: it is all of it */
    uint8_t space;
    bool chip;
    bool outer; /* not this program's to place: it lives on before or after */
} Value;

typedef struct Node { /* one execution of an instruction */
    uint32_t op;      /* of the lowered program */
    uint32_t touch, ntouch;
    uint32_t value, nvalue; /* on chip, not outer, each once: in Straight.used */
    uint32_t pred, npred, succ, nsucc;
    uint32_t turn;          /* the iteration of the loop that is cut in blocks */
    int64_t first;          /* of a matmul that overwrites in one iteration: which one this is */
    Work work[MAX_ENGINES]; /* [0]: the engine chosen before */
    uint8_t nwork;
    bool adds; /* a matmul that accumulates */
} Node;

typedef struct Arc { /* why: a set of 1 << DEP_* */
    uint32_t node;
    uint8_t why;
} Arc;

typedef struct Source { /* a program that is put in order, and what is found out about it once */
    const Graph *g, *lowered;
    const Hw *hw;
    Lags lags;
    uint32_t *end;               /* by loop op: its end */
    int64_t *inside;             /* by loop op: instructions that one execution of it runs; [0]: the program */
    uint32_t *orders;            /* by val in HBM: the val whose accesses it is ordered with; 0: none */
    bool *outer;                 /* by val on chip: more than one piece touches it */
    bool *kept;                  /* by loop variable */
    int64_t *value_of;           /* loop variables */
    uint32_t *made;              /* by op: 1 + its last node */
    uint32_t *cur, *kin, *stamp; /* by val: its Value at the moment, its kin, and in which straight program */
    uint32_t stamps;
    Gaps room[SP_COUNT]; /* all memory */
    bool quick;          /* orders are not improved */
} Source;

typedef struct Hole { /* free bytes, and from when on */
    int64_t lo, hi;
    double since;
} Hole;
typedef struct Carry {        /* what a straight program leaves behind; time 0 is when its last load has ended */
    VEC(Hole) hole[SP_COUNT]; /* ascending; the rest is free when all is done */
    double clock[LN_COUNT];   /* when the queues are free */
    double us;                /* when all is done */
} Carry;

typedef struct Straight {
    Source *src;
    const Graph *g;
    const Hw *hw;
    const Lags *lags;
    Arena *a, *scratch; /* scratch: of one schedule */
    const Gaps *room;   /* by space: where values may be placed */
    const Carry *before; /* of the program that runs before it; NULL: nothing is known */
    VEC(Node) node;
    VEC(Touch) touch;
    VEC(Value) value;
    VEC(uint32_t) used;
    uint32_t *users;
    VEC(Arc) pred;
    Arc *succ;
    VEC(uint32_t) turns; /* by kin: how many values it became */
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
    Carry *left;         /* NULL: not placed yet */
} Order;

/* pipeline_expand.c */
Status source_init(const Graph *g, const Graph *lowered, const CompileOptions *opt, Arena *a, Source *out);
/* Ops [begin, end) of the program, or the first `count` iterations of a loop. `like` has the arenas and the room. */
Status straight_expand(Source *src, uint32_t begin, uint32_t end, const Straight *like, Straight *out);
Status note_used(Straight *s, Node *n, uint32_t value);
Status straight_expand_loop(Source *src, uint32_t loop, int64_t count, const Straight *like, Straight *out);
/* pipeline_split.c: DMAs of more than `us` in pieces */
Status straight_split(const Straight *in, double us, Straight *out);
/* pipeline_parts.c: large values in parts */
Status straight_parts(Straight *s);
/* pipeline_link.c: users, edges */
Status straight_link(Straight *s);
/* pipeline_carry.c */
void machine_carry(Machine *m, const Carry *before); /* a new one; NULL: nothing ran before */
/* By space, the room of s with ages, ascending; neighbours may touch while they differ in age. */
Status aged_room(const Straight *s, int space, Arena *a, Hole **out, uint32_t *n);
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
    int64_t *peak[SP_COUNT];    /* by position from low on: the most up to there, */
    uint32_t peaked[SP_COUNT];  /* and up to where that is known */
    uint32_t low;               /* the first position that has not run */
    bool *done;                 /* by position */
    uint32_t *left, *far;       /* by value: users that have not run; index of the last of them */
    double *closing;            /* by value */
    bool *open;                 /* by value */
    Slots *slots;               /* by kin */
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

/* pipeline_order.c */
typedef struct Best { /* an order with addresses */
    const Straight *s;
    Order o;
    Limits lim;
    double us; /* with its instructions */
} Best;
/* The best of `most` ways to look for one; long DMAs and instructions whole or in pieces. parts: large values are in
 * parts. *ok: one was found and has addresses. */
Status order_find(const Straight *whole, bool parts, int most, Best *best, bool *ok);
/* The best under limits like those of another order. */
Status order_like(Straight *s, const Limits *like, Best *best, bool *ok);

/* pipeline_write.c */
typedef struct Kept { /* a loop of the new program: where it is, the old variable is `scale` times its own and a
                         constant */
    Val var;
    int64_t scale;
} Kept;
typedef struct Emit {
    const Source *src;
    Graph *out;
    Arena *a;
    Val *map;   /* by val: buffers in HBM and outer ones */
    Kept *kept; /* by loop variable; var 0: it is not kept here */
} Emit;
Status emit_begin(const Source *src, Arena *a, Emit *e); /* with the buffers in HBM */
Status emit_end(Status st, Emit *e, Graph **out);
Status emit_buffer(Emit *e, Val v, int64_t addr);             /* which e->map then knows */
Status emit_place(Emit *e, const Value *v, int64_t addr, Val *out); /* a new buffer for one value */
Status emit_loop(Emit *e, uint32_t loop, int64_t count, int64_t scale);
Status emit_loop_end(Emit *e, uint32_t loop);
Status emit_op(Emit *e, uint32_t o); /* an instruction as it is */
/* cross: by value of s, outer buffers that the lowered program does not have; or NULL */
Status straight_write(Emit *e, const Straight *s, const Order *o, const Val *cross);

/* pipeline_nest.c: a program with long loops; *out is NULL when there is no room */
Status pipeline_nests(Source *src, int most, Arena *a, Arena *scratch, Graph **out);

/* schedule.c: the engines that op, which was given none, may run on; returns how many, at most MAX_ENGINES */
int engine_choices(const Graph *g, const Op *op, Engine out[MAX_ENGINES]);

#endif
