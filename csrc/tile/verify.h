/* verify.h - what the verifier's own files share; not an interface of the layer. */
#ifndef NKIGEN_TILE_VERIFY_H
#define NKIGEN_TILE_VERIFY_H

#include "tile/access.h"
#include "tile/cover.h"

#define BIT(x) (1u << (x))

enum { V_OTHER, V_BUFFER, V_LOOP };

typedef struct VInfo { /* what a value is; filled when its op is reached */
    uint8_t is;               /* V_* */
    uint8_t space, dtype, kind;
    uint8_t esize;            /* bytes per element */
    bool initialised;         /* holds data before the program starts */
    bool readonly;            /* an input or a constant */
    bool has_addr;
    int32_t parts;            /* on chip: partitions */
    int32_t bufs;
    uint32_t decl;            /* its op */
    int64_t row;              /* elements of a row; HBM: of the buffer */
    int64_t count;            /* loop: iterations */
    int64_t addr;
    Cover written;            /* when the op at hand runs for the first time */
    Cover started, ever;      /* PSUM: by a matmul that overwrites; and not written by another engine since */
    uint32_t moved;           /* PSUM: the loop that ended last and moved the start of an accumulation */
    struct Banks *banks;      /* PSUM: the accumulation groups that are open; NULL: none */
    uint32_t writes, nwrites; /* output: head of the chain in Check.writes, 0 is none; its length */
} VInfo;

typedef struct Opnd { /* one operand of the instruction at hand */
    Use use;          /* ap NULL: absent */
    VInfo *v;
    Extent all; /* reached over all iterations */
} Opnd;

typedef struct Write { /* a write to an output */
    uint32_t op, next;
    const Ap *ap;
} Write;

typedef struct Swept { /* a write that loops move, or that starts an accumulation in a loop */
    uint32_t val, op;
    bool starts;
    const Ap *ap;
} Swept;

typedef struct Late { /* a read that loops move: all of it is looked at once they are over */
    uint32_t op;
    uint8_t operand;
    bool accumulates;
} Late;

typedef struct Frame { /* an open loop */
    Val var;
    uint32_t decl;
    uint32_t swept;   /* the first write in it */
    bool accumulates; /* a matmul in it continues an accumulation that began outside of one iteration */
} Frame;

/* Which executions of an op: loops declared at `from` or after it run through all their iterations, or stand at their
 * last one; `var` stands at `value`, all others at 0. */
typedef struct When {
    uint32_t from;
    bool last;
    Val var;
    int64_t value;
} When;
#define WHEN_FIRST ((When){.from = UINT32_MAX})

typedef struct Check {
    const Graph *g;
    Ctx *cx;
    Arena *a;         /* of the violations */
    Arena work;       /* dies with the check */
    const Hw *hw;
    const char *target;
    Violations *out;
    uint32_t max;
    Status st;        /* ST_NOMEM sticks */
    VInfo *val;       /* by value */
    int64_t *first_of, *last_of; /* by value: of a loop variable 0, and what it is at last */
    VEC(Write) writes;
    VEC(Swept) swept;
    VEC(Late) late;
    Covers covers;
    Frame frame[MAX_NEST];
    int depth;
    VEC(Val) io;      /* the buffers of the interface */
    /* the instruction at hand */
    OpId at;
    const Op *op;
    const OpDef *def;
    int engine;
    Opnd in[MAX_OPERANDS];
} Check;

/* verify_report.c */
bool was_said(const Check *c, OpId o, const char *rule);
void report(Check *c, const char *rule, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void report_at(Check *c, OpId o, const char *rule, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static inline bool is_full(const Check *c) { return c->st != ST_OK || c->out->n >= c->max; }
static inline const char *operand_name(const Check *c, int i) { return c->def->operand[i].name; }
static inline bool is_chip(int space) { return space == SP_sbuf || space == SP_psum; }
/* The largest value of a mod `mod` over all loops. */
int64_t affine_residue_max(const Check *c, const Affine *a, int64_t mod);

/* verify_operand.c: engine, and spaces and patterns of the operands; true: its own rules can be applied */
bool check_operands(Check *c);

/* verify_instr.c: all rules of the instruction at hand */
void check_instr(Check *c);

/* verify_number.c: immediates, and integers of index patterns */
void need_int_value(Check *c, Key k, DType dt); /* an attribute that is there is a value of dt */
void check_immediates(Check *c);
void index_pattern(Check *c, int i);

/* verify_memory.c: what is declared and addressed */
void check_buffer_decl(Check *c);
void check_buffers(Check *c); /* after the walk */

/* verify_swath.c: which elements a pattern reaches */
Swath swath_of(const Check *c, const Ap *ap, When when);
bool swath_fits(const Swath *x, const VInfo *v); /* in the buffer */
bool ranges(const Check *c, Val var, When when);
bool is_moved_by(const Affine *a, Val var);
Val diagonal(const Ap *ap); /* a loop that moves partitions and elements together: its iterations make no swath */
Parts parts_moved(Parts p, int64_t coef, int64_t count); /* p + coef * i for all i < count */

/* verify_access.c: what is written before it is read */
void check_access(Check *c); /* of the instruction at hand */
void enter_loop(Check *c);   /* the op at hand is one */
void leave_loop(Check *c);   /* its end */

/* verify_group.c: accumulation in PSUM */
/* A matmul overwrites, accumulates, or, in the iterations of `second` after the first, does what `first` says. */
bool accumulates_in(const Check *c, const Op *op, Val second);
void check_psum_write(Check *c, int i); /* operand i of the instruction at hand writes PSUM, for the first time */
/* Operand i of o writes PSUM in the second iteration of a loop; inner: in the first one of loops inside of it. */
void check_psum_again(Check *c, OpId o, int i, const Frame *loop, bool inner);
void lose_groups(VInfo *v);                               /* which is the last group in a bank is not known */
void start_last(Check *c, const Swept *s, uint32_t loop); /* as the last iteration of a loop leaves it */

/* verify_hazard.c: one instruction that writes what it writes or reads */
void check_hazards(Check *c, uint32_t good); /* good: operands within bounds, a bit each */

/* verify_output.c: the program's interface */
bool is_update(const Check *c, const VInfo *v); /* an output that starts as the input it updates */
void check_interface(Check *c);
void check_outputs(Check *c);

#endif
