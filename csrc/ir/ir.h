/* ir.h - what tensor IR and tile IR share: ids, interned things, the graph arrays, text form, parser, common checks.
 *
 * A Graph is a flat array of ops in a legal order. Control flow of the tile IR is a pair of marker ops (loop ... end).
 * Ids, not pointers: arrays move when they grow. Graphs are append-only; passes read one graph and build another.
 */
#ifndef NKIGEN_IR_H
#define NKIGEN_IR_H

#include "base/base.h"

typedef struct Val { uint32_t i; } Val;       /* 0 is "none" for all of these */
typedef struct OpId { uint32_t i; } OpId;
typedef struct TyId { uint32_t i; } TyId;
typedef struct AttrId { uint32_t i; } AttrId;
typedef struct StrId { uint32_t i; } StrId;
typedef struct ApId { uint32_t i; } ApId;

#define MAX_RANK 8
#define MAX_NEST 16 /* loops inside each other, in any graph */

/* ---- vocabulary: small enumerations with names, one list each in enums.def ---- */
typedef enum Space {
#define SPACE(id) SP_##id,
#include "ir/enums.def"
    SP_COUNT
} Space;
typedef enum Engine {
#define ENGINE(id, ...) EN_##id,
#include "ir/enums.def"
    EN_COUNT
} Engine;
typedef enum Alu { /* operators of op0=, op1=, op=, reduce_op= */
#define ALU(id, ...) ALU_##id,
#include "ir/enums.def"
    ALU_COUNT
} Alu;
typedef enum Act { /* activation functions */
#define ACT(id, ...) ACT_##id,
#include "ir/enums.def"
    ACT_COUNT
} Act;
typedef enum BufKind {
#define BUFKIND(id) BK_##id,
#include "ir/enums.def"
    BK_COUNT
} BufKind;
typedef enum Target {
#define TARGET(id, ...) TG_##id,
#include "ir/enums.def"
    TG_COUNT
} Target;

/* ---- types ---- */
typedef enum TyKind { TY_none, TY_tensor, TY_buffer, TY_index } TyKind;
/* tensor: dtype + dims. buffer: also a space; dims are [partition, free...] on chip. index: a loop variable */
typedef struct Type {
    uint8_t kind, dtype, space, rank;
    int64_t dim[MAX_RANK];
} Type;

/* ---- attributes: an interned dictionary sorted by key ---- */
typedef enum AttrKind { AK_int, AK_bool, AK_float, AK_ints, AK_str, AK_data,
                        AK_dtype, AK_engine, AK_alu, AK_act, AK_bufkind } AttrKind;
typedef enum Key {
    A_none,
#define ATTR(id, kind, doc) A_##id,
#include "ir/attrs.def"
#undef ATTR
    A_COUNT
} Key;
typedef struct Data { /* an array constant; C order */
    uint64_t hash; /* of dtype, bytes and content */
    size_t bytes;
    const void *p;
    uint8_t dtype;
} Data;
/* Whether the brief form leaves the bytes out. */
static inline bool is_long_data(const Data *d) { return d->bytes >= 128; }
typedef struct AttrItem {
    uint16_t key; /* Key; its kind stands in attrs.def */
    uint16_t n;   /* AK_ints: how many */
    union {
        int64_t i; /* int, bool and the enumerations */
        double f;
        const int64_t *ints;
        StrId s;
        const Data *data;
    };
} AttrItem;

/* ---- access patterns (tile IR) ---- */
/* Loops around an instruction: outer, panel, rows, chunk; a batch or looped dim per dim of the value; the window of
 * columns, rows per partition, steps of the contraction and 128 rows of one. */
#define MAX_TERMS (8 + MAX_RANK)
#define MAX_AP_DIMS 6
typedef struct Term { Val var; int64_t coef; } Term;
typedef struct Affine { /* c + sum coef * loop variable; terms sorted by var, no zero coefficients */
    int64_t c;
    uint32_t nterms;   /* above MAX_TERMS: a sum of too many variables, which no pattern takes */
    Term term[MAX_TERMS];
} Affine;
typedef struct ApDim { int64_t count, stride; } ApDim; /* stride in elements; 0 broadcasts; of a legal program never negative */
/* On chip (SBUF, PSUM): partitions [part, part + nparts), in each the same free pattern, `off` elements into the
 * buffer's row. HBM: nparts is 0, `off` and the dims address the buffer's elements in C order. Dims outermost first;
 * ndim 0 is one element. The buffer's shape does not matter beyond its bounds: a reshape is another pattern. */
typedef struct Ap {
    Affine part, off;
    int32_t nparts;
    uint32_t ndim;
    ApDim dim[MAX_AP_DIMS];
} Ap;

/* ---- the op tables ---- */
typedef struct Graph Graph;
typedef struct Op Op;
typedef Status InferFn(Ctx *cx, const Graph *g, const Op *op, TyId *out); /* result type of a single-result op */

enum OpFlags {
    F_PURE = 1,      /* no effect: may be shared, folded, dropped */
    F_COMM = 2,      /* first two operands may be swapped */
    F_CORE = 4,      /* tensor op that lowering knows; decompose leaves only these */
    F_EW = 8,        /* element-wise with broadcasting; tile: element k of dst is made from elements k of the sources */
    F_LAYOUT = 16,   /* moves elements, computes nothing */
    F_REDUCE = 32,
    F_CONTROL = 64,  /* tile: loop, end, buffer: not an instruction */
    F_DMA = 128,     /* tile: runs on the DMA queues */
};

enum OperandRole { R_none = 0, R_read = 1, R_write = 2, R_update = 3, R_optional = 4 }; /* update: reads and writes */
#define MAX_OPERANDS 6
typedef struct OperandDef {
    const char *name;
    uint8_t role;    /* OperandRole */
    uint8_t spaces;  /* bit set of 1 << Space; tile IR only */
} OperandDef;

typedef struct OpDef { /* a row of tensor/ops.def or tile/ops.def */
    const char *name;
    const char *cls;
    int8_t nin;              /* operands; -1: any number */
    uint8_t nout;            /* results */
    uint16_t flags;
    uint16_t attrs[16];      /* Keys the op may carry */
    InferFn *infer;          /* tensor IR */
    const char *np;          /* tensor IR: NumPy function, or one of nkigen.ops when it starts with '.' */
    const char *isa;         /* tile IR: name in nki.isa */
    OperandDef operand[MAX_OPERANDS];
    uint8_t min_gen;         /* tile IR: 2, 3 or 4 */
    uint16_t engines;        /* tile IR: bit set of 1 << Engine that may run it, */
    uint8_t engine;          /*          and the default */
    const char *doc;
} OpDef;

struct Op {
    uint16_t code, nin;
    uint16_t nout, flags;
    uint32_t in;  /* first operand, an index into Graph.operands */
    Val out;      /* first result; results are consecutive */
    AttrId attr;
    LocId loc;
};
typedef struct Operand { Val v; ApId ap; } Operand; /* v 0: an optional operand that is absent */
typedef struct ValDef { TyId type; OpId def; StrId name; } ValDef;

typedef struct Dialect {
    const char *name; /* "tensor", "tile" */
    const OpDef *ops; /* indexed by op code; code 0 is "none" */
    int nops;
    Status (*verify)(const Graph *g); /* structural and type rules; first violation fails */
} Dialect;

struct Graph {
    Ctx *cx;
    Arena arena;
    const Dialect *dialect;
    StrId name;
    uint8_t target;         /* Target; tile IR */
    VEC(Op) ops;            /* [0] is none */
    VEC(Operand) operands;
    VEC(ValDef) vals;       /* [0] is none */
    VEC(Val) inputs, outputs;
    VEC(int32_t) aliases;   /* per output: the input it updates, or -1 */
    Map cse;                /* pure ops by content */
};

int dialect_find(const Dialect *d, const char *name, size_t n); /* op code; 0: no such op. graph.c */

/* intern.c - types, attributes, strings, locations and access patterns; equal things have equal ids within a Ctx */
typedef struct Loc { /* a code object (opaque here) and an instruction offset in it, or a line of IR text */
    const void *code;
    int32_t offset; /* bytes into the code; for text: the column */
    int32_t line;   /* of IR text; 0 for code */
} Loc;
Status intern_init(Ctx *cx);   /* after ctx_init, before anything else of ir/ */
/* Fails for a rank above MAX_RANK and for more bytes than fit in 2^62: products of dims never overflow. */
Status type_make(Ctx *cx, TyKind kind, Space space, DType dt, int rank, const int64_t *dim, TyId *out);
const Type *type_get(const Ctx *cx, TyId t); /* stable pointer */
Status tensor_type(Ctx *cx, DType dt, int rank, const int64_t *dim, TyId *out);
int64_t type_numel(const Type *t);
Status str_make(Ctx *cx, const char *s, size_t n, StrId *out);
const char *str_get(const Ctx *cx, StrId s); /* NUL-terminated; "" for none */
Status loc_make(Ctx *cx, const void *code, int32_t offset, int32_t line, LocId *out);
const Loc *loc_get(const Ctx *cx, LocId l);
Status attr_make(Ctx *cx, const AttrItem *item, int n, AttrId *out); /* copies; sorts by key */
const AttrItem *attr_find(const Ctx *cx, AttrId a, Key k);           /* NULL: absent */
const AttrItem *attr_items(const Ctx *cx, AttrId a, int *n);
AttrKind attr_kind(Key k);
const char *attr_name(Key k);
int64_t attr_int(const Ctx *cx, AttrId a, Key k, int64_t absent);    /* also bool and enumerations */
double attr_float(const Ctx *cx, AttrId a, Key k, double absent);
int attr_ints(const Ctx *cx, AttrId a, Key k, const int64_t **out);  /* how many; 0 when absent */
Status attr_with(Ctx *cx, AttrId a, AttrItem item, AttrId *out);     /* add or replace one entry */
Status attr_without(Ctx *cx, AttrId a, Key key, AttrId *out);        /* without that entry, if there is one */
Status data_make(Ctx *cx, DType dt, const void *p, size_t bytes, const Data **out); /* copies; shares equal content */
/* Normalises terms; keeps dims as given. Counts are at least 1; what a pattern reaches stays below 2^60. */
Status ap_make(Ctx *cx, const Ap *ap, ApId *out);
const Ap *ap_get(const Ctx *cx, ApId a);          /* stable pointer */
/* AttrItem literals */
#define AT_INT(k, v) ((AttrItem){.key = (k), .i = (int64_t)(v)})
#define AT_FLT(k, v) ((AttrItem){.key = (k), .f = (v)})
#define AT_INTS(k, v, cnt) ((AttrItem){.key = (k), .n = (uint16_t)(cnt), .ints = (v)})
#define AT_DATA(k, v) ((AttrItem){.key = (k), .data = (v)})

/* affine.c */
Affine affine_const(int64_t c);
Affine affine_var(Val var, int64_t coef);
Affine affine_add(Affine a, Affine b);  /* a term too many: a sum that ap_make refuses (ST_LIMIT) */
Affine affine_scale(Affine a, int64_t k);
int64_t affine_eval(const Affine *a, const int64_t *value_of); /* value_of[var.i] */
int64_t ap_count(const Ap *ap);      /* elements per partition on chip, elements in all in HBM */
/* Free offsets reached, without the loop terms of off: [lo, hi]. */
void ap_extent(const Ap *ap, int64_t *lo, int64_t *hi);
int ap_merge(Ap *ap);                /* fuse neighbouring dims that are one run; returns ndim */

/* graph.c */
Status graph_new(Ctx *cx, const Dialect *d, const char *name, Graph **out); /* memory of its own arena */
void graph_free(Graph *g);
Status graph_end(Status st, Graph **out); /* frees *out on failure; returns st */
/* Inputs, outputs and aliases of a copy; map: from the values of `in` to those of `out`, NULL when they are the same.
 */
Status graph_copy_interface(const Graph *in, const Val *map, Graph *out);
/* Appends an op. Operands: `in` with access patterns in tile IR (ap 0 in tensor IR). Result types in `types`. */
Status graph_append(Graph *g, int code, const Operand *in, int nin, AttrId attr, LocId loc,
                    const TyId *types, int nout, OpId *out);
Status graph_name_val(Graph *g, Val v, const char *name);
static inline const Op *graph_op(const Graph *g, OpId o) { return &g->ops.p[o.i]; }
static inline const OpDef *op_def(const Graph *g, const Op *op) { return &g->dialect->ops[op->code]; }
static inline const Operand *op_in(const Graph *g, const Op *op, int i) { return &g->operands.p[op->in + (uint32_t)i]; }
static inline Val op_val(const Graph *g, const Op *op, int i) { return g->operands.p[op->in + (uint32_t)i].v; }
static inline const Type *val_type(const Graph *g, Val v) { return type_get(g->cx, g->vals.p[v.i].type); }
static inline DType val_dtype(const Graph *g, Val v) { return (DType)val_type(g, v)->dtype; }
static inline const Op *val_def(const Graph *g, Val v) { return &g->ops.p[g->vals.p[v.i].def.i]; }
#define FOR_OPS(g, o) for (OpId o = {1}; o.i < (g)->ops.n; o.i++)

/* print.c / parse.c - the text form; print(parse(print(g))) is print(g), parse keeps everything but locations */
Status graph_print(const Graph *g, Text *t);
/* Without the bytes of long constants, and with at most max_ops ops: to look at. Does not read back. */
Status graph_print_brief(const Graph *g, uint32_t max_ops, Text *t);
Status print_op(const Graph *g, OpId o, Text *t);    /* one line, no newline, brief: for messages */
Status print_val(const Graph *g, Val v, Text *t);    /* as the text of the graph names it */
/* The same for many values: by val, 0 or the number that stands for its name. */
Status val_numbers(const Graph *g, Arena *a, uint32_t **number);
void print_numbered(const Graph *g, const uint32_t *number, Val v, Text *t);
void print_type(const Type *ty, Text *t);
Status graph_parse(Ctx *cx, const char *text, size_t n, const Dialect *const *dialects, int ndialects, Graph **out);
const char *enum_name(AttrKind kind, int value);      /* "vector" for AK_engine, EN_vector */
int enum_value(AttrKind kind, const char *s, size_t n); /* -1: no such name */
extern const char *const space_names[SP_COUNT];
extern const char *const target_names[TG_COUNT];
int target_from_name(const char *s, size_t n);        /* "trn2", "gen3", -1 */

/* check.c - checks for any graph: operand counts, use after definition, known attributes, loop nesting, interface */
Status graph_check(const Graph *g);
/* BK_input or BK_output for the op that declares one, of either dialect; BK_tile for every other op */
BufKind interface_kind(const Graph *g, const Op *op);

#endif
