/* machine.h - the inside of the simulator: decoded instructions, the memory, streams of elements, vector kernels.
 *
 * Only files of eval/ include this. A program is decoded once into an array of Instr, parallel to the graph's ops; the
 * loop interpreter (eval.c) resolves an instruction's operands to memory (bounds, poison) before its handler runs, so a
 * handler checks shapes and then may touch every element of its operands.
 */
#ifndef NKIGEN_EVAL_MACHINE_H
#define NKIGEN_EVAL_MACHINE_H

#include "eval/eval.h"
#include "tile/access.h"

#include <string.h>

enum {
    CHUNK = 2048,    /* elements that are staged at a time: a few arrays of them stay in the first-level cache */
    NSTAGE = 8,      /* staging areas: one per operand, then free ones for handlers */
    FLAT_BELOW = 64, /* rows shorter than this are gathered across partitions before computing */
    MAX_PARTS = 128, /* partitions of any operand */
    MAX_STEPS = 64,  /* iterations of an accumulation loop that are multiplied at a time */
};

/* The vector kernels are compiled for several instruction sets; the loader picks one. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif
/* The kernels work in place: dst may be exactly one of the sources, so iterations are independent. */
#if defined(__GNUC__) && !defined(__clang__)
#define IVDEP _Pragma("GCC ivdep")
#elif defined(__clang__)
#define IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define IVDEP
#endif

/* ---- memory ---- */
typedef struct Store { /* a buffer while it exists */
    uint8_t *data;     /* partition 0 of the current copy, or element 0 in HBM; NULL: does not exist now */
    uint64_t *valid;   /* what was written: a bit per byte on chip, per element in HBM; NULL: everything */
    int64_t vbit;      /* bit of the copy's first byte in each row of `valid` */
    int64_t pitch;     /* bytes from one partition to the next */
    int64_t vwords;    /* words of bits in a row; after them a bit for each word that is all ones */
    int64_t row;       /* elements per partition; HBM: all elements */
    int32_t parts;     /* HBM: 1 */
    uint8_t space, kind, dtype, bytes; /* bytes of one element */
    int64_t addr;      /* -1: memory of its own */
    int64_t bufs, copy_bytes;
    int64_t times;     /* how often the buffer op ran */
    bool fresh;        /* on chip: nothing has touched this copy since; it is poisoned when something does */
    void *own;         /* memory of its own, from the pool */
    size_t own_bytes;
    LocId loc;
} Store;

/* ---- decoded program ---- */
typedef struct Opnd { /* an operand, everything about it that does not change between executions */
    const Ap *ap;     /* NULL: absent, or a loop variable */
    Val v;            /* 0: absent */
    uint8_t role, dtype, bytes, space;
    int32_t nparts;   /* HBM: 1 */
    int64_t count;    /* elements per partition */
    int64_t lo, hi;   /* offsets reached, relative to the first element */
    int ndim;         /* merged: at least one dim */
    ApDim dim[MAX_AP_DIMS];
} Opnd;

typedef struct Machine Machine;
typedef struct Instr Instr;
typedef Status EvalFn(Machine *m, const Instr *in);

struct Instr {
    const Op *op;
    EvalFn *fn;         /* NULL: a control op */
    Opnd *opnd;
    uint16_t code;
    uint8_t nopnd;
    bool marks_self;    /* the handler marks what it wrote */
    bool batch;         /* loop: its body is one nc_matmul that accumulates over the iterations */
    uint32_t id, mate;  /* mate: the end of a loop, the loop of an end */
    uint32_t var;       /* loop: its variable; buffer: its value */
    int64_t count;      /* loop */
    uint8_t op0, op1, func, engine; /* `op` of single-op instructions is op0 */
    bool reverse0, reverse1, has_imm0, has_imm1, has_bias, negate, accumulate, reverse_pred;
    double imm0, imm1;  /* activation: scale, bias */
    int64_t naxes, offset, channel;
    const int64_t *ints; /* mask of a shuffle, pattern of an affine index */
    int nints;
    int64_t work;       /* elements touched, for polling */
};

typedef struct View { /* where an operand of the instruction at hand is */
    Store *st;
    uint8_t *p;         /* its first element */
    int64_t part, off;  /* first partition, offset in elements */
} View;

typedef struct Rows { /* rows of elements in memory, one per partition */
    const uint8_t *p;
    int64_t pitch;      /* bytes from row to row */
    int64_t stride;     /* elements from one to the next in a row */
    int n;              /* rows */
    int cols;
    DType dtype;
} Rows;

typedef struct Pool Pool;

typedef struct Spare { void *p; size_t bytes; } Spare;

enum { PANEL_STATIONARY, PANEL_MOVING, PANEL_DST, PANEL_HELD, NPANEL };

struct Machine {
    Ctx *cx;
    const Graph *g;
    const EvalOptions *opt;
    const void *const *in;
    void *const *out;
    Arena arena;
    Instr *code;
    Store *store;       /* by value id */
    int64_t *var;       /* loop variables, by value id */
    int64_t ninputs, noutputs;
    uint32_t *free_at, *free_next; /* by op: first buffer to release after it; by value: the next one */
    struct { uint8_t *data; uint64_t *valid; int64_t pitch, vwords; } chip[2]; /* SBUF, PSUM: with addresses */
    Spare spare[16];    /* released memory kept for the next buffer */
    size_t spare_bytes;
    View view[MAX_OPERANDS];
    uint8_t *stage[NSTAGE]; /* 8 * CHUNK bytes each */
    float *panel[NPANEL]; /* packed and converted matmul operands, grown on demand */
    size_t panel_bytes[NPANEL];
    Rows held[MAX_STEPS]; /* what is packed in PANEL_HELD, */
    int64_t held_at;      /* and `sbuf_writes` then */
    int64_t sbuf_writes;
    Pool *pool;         /* NULL: the caller's thread alone */
    bool pool_tried;
    int64_t work;       /* since the last poll */
    const Instr *undefined_by; /* the first activation outside of its range, */
    float undefined_arg;       /* and what it was given */
    bool undefined_lost;       /* such a result was converted */
};

/* machine.c - memory: which bytes a buffer has, what was written */
Status machine_memory(Machine *m);                    /* SBUF and PSUM for the buffers with addresses */
void machine_free(Machine *m);
Status buffer_enter(Machine *m, const Instr *in);     /* executes a buffer op: next copy, poisoned */
void buffer_release(Machine *m, uint32_t val);
Status operand_view(Machine *m, const Instr *in, int i); /* fills view[i]; bounds; poison when the operand is read */
Status check_written(Machine *m, const Instr *in, int i);
void mark_written(Machine *m, const Instr *in, int i);
void mark_partition(Machine *m, const Instr *in, int i, int p);
Status machine_check_outputs(Machine *m);
Status panel_reserve(Machine *m, int which, size_t bytes);
Status bad(Machine *m, const Instr *in, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
const char *opnd_name(const Machine *m, const Instr *in, int i, char buf[64]); /* "%x" for messages */

/* stream.c - the elements of an operand in order */
#define MAX_WALK (MAX_AP_DIMS + 1)
typedef struct Walk {
    uint8_t *p;          /* the next element */
    int64_t left;        /* elements left in the innermost run */
    int64_t step;        /* bytes between elements of a run */
    int64_t run;         /* elements of a whole run */
    int n;               /* outer dims */
    int bytes;           /* of an element */
    int64_t idx[MAX_WALK], count[MAX_WALK], stride[MAX_WALK]; /* outer dims, innermost first; strides in bytes */
} Walk;
void walk_start(Walk *w, uint8_t *p, int bytes, const ApDim *dim_bytes, int ndim); /* outermost first, byte strides */
void walk_open(Walk *w, const Machine *m, const Instr *in, int i); /* all partitions of operand i */
void walk_skip(Walk *w, int64_t n);
void walk_gather(Walk *w, int64_t n, void *out);  /* raw elements */
void walk_scatter(Walk *w, int64_t n, const void *src);
void walk_copy(Walk *d, Walk *s, int64_t n);      /* n raw elements, equal sizes; both walks are new */
void copy_strided(int bytes, int64_t n, uint8_t *d, int64_t dstep, const uint8_t *s, int64_t sstep);

typedef struct Stream { /* a walk that reads or writes f32 */
    Walk w;
    Machine *m;
    DType dt;
    bool in_place;       /* the chunk handed out last is memory itself */
    uint8_t *raw;        /* 4 * CHUNK bytes, elements in the operand's dtype */
    float *f32;          /* CHUNK floats */
} Stream;
void stream_open(Stream *s, Machine *m, const Instr *in, int i);
const float *stream_in(Stream *s, int64_t n);     /* the next n <= CHUNK elements */
float *stream_out(Stream *s, int64_t n);          /* where to compute the next n elements ... */
void stream_put(Stream *s, int64_t n, const float *from); /* ... and done: rounds and stores when not in place */

/* [P, 1] operands, immediates: one value per partition */
typedef struct Scalars {
    const Machine *m;
    const Instr *in;
    int i;               /* operand, or -1: the constant */
    float value;
    bool flat;
    Stream s;            /* flat: repeated over each row */
} Scalars;
void scalars_open(Scalars *s, Machine *m, const Instr *in, int i, float constant, bool flat, int64_t count);

/* How an instruction over nparts rows of count elements is cut: flat, across rows, when rows are short. */
typedef struct Chunks {
    bool flat, row_start;
    int64_t n;           /* elements of this chunk */
    int64_t part;        /* not flat: the row, */
    int64_t in_row;      /*           elements of it done before this chunk */
    int64_t count, most, left;
} Chunks;
void chunks_start(Chunks *c, const Instr *in, const int *opnds, int n, int64_t nparts, int64_t count);
bool chunks_next(Chunks *c);
const float *scalars_next(Scalars *s, const Chunks *c); /* flat: c->n floats, else one */

/* alu.c - d[i] = a[i] op b[i] */
typedef enum AluMode { VV, VS, SV } AluMode; /* which side is a single value */
typedef void AluFn(float *d, const float *a, const float *b, int64_t n, AluMode mode);
extern AluFn *const alu_fns[ALU_COUNT];
bool is_bitvec(int op);
static inline bool
is_logic(int op)
{
    return op == ALU_logical_and || op == ALU_logical_or || op == ALU_logical_xor;
}
int64_t alu_int(int op, int64_t a, int64_t b, int bits); /* exact; comparisons and logic give 1 or 0 */
bool has_alu_int(int op);
/* x op f, or f op x when reversed; f a single value unless flat */
void alu_apply(int op, float *d, const float *x, const float *f, int64_t n, bool flat, bool reverse);
/* one value from n; op is one of add multiply maximum minimum logical_* (the last ones for 0 and 1) */
bool is_reduction(int op);
double reduce_first(int op);                               /* the neutral element */
double reduce_more(int op, double acc, const float *x, int64_t n); /* 1 <= n <= CHUNK */

/* math.c - d[i] = f(a[i]), in place allowed */
typedef void ActFn(float *d, const float *a, int64_t n);
extern ActFn *const act_fns[ACT_COUNT];
void map_rsqrt(float *d, const float *a, int64_t n);
void map_power(float *d, const float *a, const float *b, int64_t n, AluMode mode);

/* undefined.c - what the device leaves undefined is marked */
#define MARK 0x7fe50000u /* sign aside; survives in bf16, */
#define MARK_F16 0x7f28u /* and in f16 as its upper bits */
static inline bool
is_mark(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return (u & 0x7fffffffu) == MARK;
}
/* y = func(x); results outside of the function's range are marked. x is not read again: y may be x. */
Status act_apply(Machine *m, const Instr *in, float *y, const float *x, int64_t n);
void round_to(Machine *m, DType dt, const float *from, int64_t n, void *to); /* dtype_from_f32 that keeps marks */
Status bad_result(Machine *m, const char *use); /* fails at the activation that made the first mark */
Status check_kept(Machine *m);                  /* after the handler */
Status check_logic(Machine *m, const Instr *in, int op, const float *x, int64_t n); /* and or xor: 0 and 1 only */

/* uses.c - who may not be given a mark */
Status check_defined(Machine *m, const Instr *in); /* before the handler, once there are marks */
Status check_logic_operand(Machine *m, const Instr *in, int op, int i);

/* pe.c - the iterations of a `batch` loop as one product */
bool is_batch(const Instr *loop, const Instr *mm);
Status eval_batch(Machine *m, const Instr *loop, const Instr *mm);

/* pool.c - fn(env, 0) .. fn(env, count - 1), on several threads at once */
typedef void TaskFn(void *env, int task);
void pool_run(Machine *m, int count, TaskFn *fn, void *env);
void pool_free(Machine *m);

/* gemm.c - products of at most MAX_PARTS rows (k) by MAX_PARTS columns (m) of a; any number of columns of b */
size_t gemm_packed(int k, int m);                   /* floats */
void gemm_pack(const Rows *a, float *to);
/* c[m, n] = (or +=) a[k, m].T b[k, n]; pa: a packed */
void gemm_product(const float *pa, int m, const Rows *b, float *c, int64_t ldc, bool accumulate);
/* d[c, r] = s[r, c]; all strides in bytes */
void transpose_2d(int bytes, int64_t rows, int64_t cols, uint8_t *d, int64_t d_col, int64_t d_row, const uint8_t *s,
                  int64_t s_row, int64_t s_col);

/* ew.c */

/* one handler per instruction: eval_<name>, in dma.c, ew.c, reduce.c, pe.c */
#define OP(id, ...) EvalFn eval_##id;
#include "tile/ops.def"
#undef OP

/* shape checks shared by the handlers */
static inline bool
has_opnd(const Instr *in, int i)
{
    return i < in->nopnd && in->opnd[i].ap;
}
Status need_same(Machine *m, const Instr *in, int i, int j);       /* partitions and elements per partition */

#endif
