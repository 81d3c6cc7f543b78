/* verify.h - what the verifier's own files share; not an interface of the layer. */
#ifndef NKIGEN_TILE_VERIFY_H
#define NKIGEN_TILE_VERIFY_H

#include "tile/tile.h"

#define BIT(x) (1u << (x))

/* A box in a buffer: partitions [plo, phi), elements [lo, hi) of the row. phi 0: nothing. In HBM
 * the partitions are [0, 1). */
typedef struct Region {
    int32_t plo, phi;
    int64_t lo, hi;
} Region;

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
    Region written, started;  /* hulls so far: of all writes, of overwriting matmuls */
    Region read, accumulated; /* hulls of what reads, and accumulating matmuls, reach in all */
    uint32_t read_op, accumulate_op; /* the op that last widened them */
    uint32_t writes, nwrites; /* output: head of the chain in Check.writes, 0 is none; its length */
} VInfo;

typedef struct Opnd { /* one operand of the instruction at hand */
    const Ap *ap;      /* NULL: absent */
    VInfo *v;
    int role;          /* R_read | R_write */
    int64_t count;     /* elements per partition */
    int64_t near, far; /* offsets its dims reach below and above their start */
    Region all, first; /* reached over all iterations, and in the first one */
} Opnd;

typedef struct Write { /* a write to an output */
    uint32_t op, next;
    const Ap *ap;
} Write;

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
    VEC(Write) writes;
    VEC(Val) io;      /* the buffers of the interface */
    /* the instruction at hand */
    OpId at;
    const Op *op;
    const OpDef *def;
    int engine;
    Opnd in[MAX_OPERANDS];
} Check;

/* verify_report.c */
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

/* verify_memory.c: what is declared, addressed, written and read */
void check_buffer_decl(Check *c);
void check_access(Check *c);    /* of the instruction at hand */
void check_buffers(Check *c);   /* after the walk */

/* verify_output.c: the program's interface */
bool is_update(const Check *c, const VInfo *v); /* an output that starts as the input it updates */
void check_interface(Check *c);
void check_outputs(Check *c);

#endif
