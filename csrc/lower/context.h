/* context.h - what the files of the lowering share. See lower.c for the whole. */
#ifndef NKIGEN_LOWER_CONTEXT_H
#define NKIGEN_LOWER_CONTEXT_H

#include "lower/blocks.h"
#include "lower/lower.h"

#define PE                                                                                                             \
    128 /* rows of the contraction, and columns of the stationary operand, per pass: mm_k, mm_m of every target */
#define CARRY_ELEMS 64 /* a row shorter than this is summed for all rows of the tile at once instead */

/* A value's row tile on chip. Strides are in elements along a partition, by dim of the value; those of spine and outer
 * dims are there only to keep reshapes consistent and never reach an access pattern. */
typedef struct Tile {
    Val buf;
    Affine off;
    int64_t stride[MAX_RANK];
    int64_t rstride; /* from one row of the tile to the next in the same partition */
    DType dt;
    bool psum;
} Tile;

typedef struct Scal { /* a [P, 1] operand: an immediate or a tile with one element per row */
    bool is_imm;
    double imm;
    Tile tile;
} Scal;

/* A matmul whose columns are computed window by window, when the instruction that reads them is known. */
typedef struct Mm {
    Val v; /* the result */
    OpId op;
    Mat m; /* which operand is which */
    Span full_span, row_span;
    Tile lhs;   /* row operand, contraction on the partitions: stride[] by result batch dim, then k tile, row */
    bool steps; /* both operands come in steps of the contraction */
    Tile rhs;   /* full operand computed by this group: stride[] by result batch dim; buf 0: it is in HBM */
    int64_t rhs_col, rhs_ktile;
    int64_t lhs_ktile; /* elements from one 128 rows of the contraction to the next, */
    int64_t lhs_row;   /* and from one row to the next */
} Mm;

typedef struct Fold { /* extremes of the rows of a tile: one per window of the product that they were read from */
    Tile tile;
    int64_t n;
} Fold;

typedef enum NodeKind { N_none, N_tile, N_lazy, N_mm } NodeKind;
typedef struct Node { /* what is known of a value in the current row tile */
    uint32_t epoch;   /* valid when it is the current one */
    uint8_t kind;     /* NodeKind */
    bool negated;     /* the tile holds -value */
    bool own;         /* nothing else refers to the tile's buffer: the last reader may write over it */
    bool rotates;     /* the buffer has copies, so a store from it does not hold up the next row tile */
    uint8_t nops;     /* lazy: (base op[0] scal[0]) op[1] scal[1], computed by whoever reads it */
    uint8_t op[2];    /* Alu */
    bool rev[2];
    Scal *scal; /* lazy: two of them */
    Tile tile;  /* the value, or what the lazy chain starts from */
    Fold *fold; /* what extremes.c found on the way; or NULL */
    Mm *mm;     /* the matmul that the value is, or that the lazy chain starts from; else NULL */
} Node;

typedef struct Leaf { /* a value from HBM as an operand sees it; the same value may be seen through several spans */
    Val v;
    Span span;
    uint32_t next; /* index of the next leaf of the same value; 0: none */
    Node node;
    Node view; /* a free value with columns, at the current chunk */
    Tile lhs;  /* its rows with the contraction on the partitions, for matmuls */
    uint32_t lhs_epoch;
} Leaf;

typedef struct LeafWindow { /* what leaves that are shifted against each other have in common; see window.c */
    TyId type;
    Span span;
    View view;      /* of the first that was seen */
    int64_t lo, hi; /* elements before the first of them, and before the last */
    int64_t leaves;
    uint32_t epoch; /* of the tile */
    Tile tile;
} LeafWindow;

typedef struct Chip {   /* a value's home: row r in lane r % 128, slot r / 128; see home.c */
    Val v, buf;         /* buf 0: not begun */
    int64_t rows, post; /* elements of the value from one row to the next */
    int64_t slot;       /* elements of a row */
} Chip;

typedef struct Lower {
    Ctx *cx;
    const Plan *p;
    const Graph *g; /* tensor */
    Graph *out;     /* tile */
    const Hw *hw;
    const Group *gr;
    uint32_t group;    /* 1 + its index */
    Arena *a;          /* scratch */
    Node *node;        /* by val */
    Val *hbm;          /* by val: its buffer in HBM */
    VEC(Val) in_hbm;   /* those that have one of the kind tile */
    Chip *chip;        /* by val: its home */
    VEC(Val) chips;    /* that have begun */
    bool *refused;     /* by val: its home cannot serve; NULL: that is an error */
    uint32_t *uses;    /* by val: uses by ops of its own group */
    uint32_t *left;    /* by val: of these, how many are still to come in the current pass over the members */
    OpId *user;        /* by val: the first of them */
    uint32_t *leaf_of; /* by val: its first leaf; 0: none */
    VEC(Leaf) leaves;  /* of this group; [0] is none */
    VEC(LeafWindow) windows; /* of this group */
    bool *multiplied;  /* by val: an operand of a matmul of its own group, which takes operands of one dtype */
    Val *extreme_of;   /* by val: the reduce_max or reduce_min of this group that reads it */
    Val *sum_of;       /* by val: the reduce_sum of this group that reads it */
    Tile *acc;         /* by val: accumulator of a reduction over the spine */
    Tile *lhs;         /* by val: a computed row operand with the contraction on the partitions */
    uint32_t *lhs_epoch;
    uint8_t *lhs_kdim;
    Tile *resident; /* by op: the full operand of a matmul, kept on chip */
    uint32_t epoch;
    uint32_t stable;     /* epoch of what holds for the whole group or outer iteration */
    uint32_t tile_epoch; /* epoch of what holds for all column chunks of a row tile */
    Affine panel0;       /* first column of the current panel, */
    Affine chunk0;       /* and of the current chunk within it */
    int64_t panel_cols, chunk_cols;
    Affine row0;  /* of the current row tile */
    int parts;    /* rows on partitions, 1..128 */
    int64_t per;  /* rows per partition */
    bool in_loop; /* inside a row loop: what is declared there may rotate */
    Affine outer; /* index of the outer loop */
    LocId loc;
} Lower;

/* ---- one instruction over a row tile ---- */
#define MAX_ARGS 5
typedef struct Instr {
    KOp op;
    Tile arg[MAX_ARGS];     /* buf 0: absent */
    bool is_scal[MAX_ARGS]; /* the operand must be [P, 1] where the instruction runs */
    const Mm *mm;           /* arg[mm_arg] is a matmul, window by window */
    int mm_arg, nargs;
    AttrItem at[8];
    int nat;
    int64_t count[MAX_RANK]; /* the index space: per dim of the result, spine and outer dims 1 */
    int rank, parts;
    int64_t per;  /* rows per partition */
    int by_window; /* the operand that has one element per window of mm; 0: none */
    int trailing; /* tensor_reduce: how many index dims at the end are reduced (dst has stride 0 there) */
} Instr;

/* ---- matrices ---- */
typedef struct Matrix { /* in HBM as an operand sees it: k elements for the partitions, n along the other dim */
    Val buf;
    Affine off;
    int64_t k, ks, n, ns;
} Matrix;
typedef struct Rows { /* how the row operand's elements lie in its tile or in HBM */
    Val v;
    Span span;
    int kdim;
} Rows;
typedef struct Full {
    View w;
    Val buf;
    const Type *t;
    DType dt;
    int64_t k, ks, cs;
} Full;
typedef struct InHome { /* a matrix in a home, as it stands */
    Val buf;
    Affine off;
    int64_t slot; /* elements from 128 of what lies on the lanes to the next: k, or n when turned */
    int64_t step; /* and along the other */
    bool turned;
} InHome;
typedef struct Turn { /* a matrix [row][k] on chip, rows on the partitions, becomes [k mod 128][k / 128][row] */
    Val src;
    Affine from;
    int64_t k, ks; /* columns, and elements of src from one to the next */
    int rows;      /* at most 128 */
    Val dst;
    Affine to;
    int64_t step, rs; /* elements of dst from one 128 columns to the next, and from one row to the next */
} Turn;
/* Operands of products go over the tensor engine; the exact way keeps all bits, for k up to 128. */
typedef enum TurnBy { TURN_multiplied, TURN_exact } TurnBy;
/* Calls `emit` for every window of the result, with the PSUM tile that holds it. */
typedef Status WindowFn(void *env, Lower *l, Tile psum, const Affine *at /* by result dim */, Affine row,
                        int64_t width);

typedef struct Move { /* the same elements on both sides */
    Ref dst, src;
    Strided dims;
} Move;

/* ---- sizes ---- */
/* f32 columns of a PSUM bank, and of one pass of the moving operand */
static inline int64_t
bank_columns(const Lower *l)
{
    return (int64_t)l->hw->psum_bank_bytes / 4;
}
static inline bool
in_range(Range r, int i)
{
    return i >= r.lo && i < r.hi;
}
static inline bool
has_cols(Span s)
{
    return s.col.lo < s.col.hi;
}
static inline bool
is_free_dim(Span s, int i)
{
    return !in_range(s.spine, i) && !in_range(s.outer, i);
}

/* ---- what each file does for those after it ---- */
/* code.c */
Status emit(Lower *l, KOp op, const Ref *in, int nin, const AttrItem *at, int nat);
Status loop_begin(Lower *l, int64_t count, Affine *index); /* count 1: no loop */
Status loop_end_of(Lower *l, int64_t count);
Status new_buffer(Lower *l, Space sp, DType dt, int parts, int64_t elems, int bufs, Val *out);
Status dma(Lower *l, KOp op, const Ref *dst, const Ref *src);
Status const_tile(Lower *l, double value, DType dt, Tile *out); /* [128, 1], anew where it is asked for */

/* pos.c */
Span operand_span(const Lower *l, const Op *op, int i);
bool is_member(const Lower *l, Val v);                          /* computed by this group */
int64_t span_dim(const Lower *l, const Type *t, Span s, int i); /* its size here: columns come in chunks */
int64_t row_elems(const Lower *l, Val v, Span s);
uint32_t epoch_of(const Lower *l, Span s);
Val written_as(const Lower *l, Val v);        /* v, or the conversion that alone reads it */
int64_t per_of(const Lower *l, Span s);       /* rows per partition */
int parts_of(const Lower *l, Span s);         /* rows on partitions */
bool is_small(const Lower *l, Val v, Span s); /* few elements per partition */
DType tile_dtype(const Lower *l, Val v, Span s);
int rows_before(const Lower *l, Val v, Span s); /* the dim before which a partition's rows come in the tile */
void tile_strides(const Lower *l, Val v, Span s, Tile *t);
int stored_bufs(const Lower *l, Val v); /* copies of v's buffer: a store rotates in a loop */
Affine hbm_offset(const Lower *l, Val v, const View *w, Span s, bool row);
void instr_space(const Lower *l, Val v, Instr *in); /* the index space of v */
void instr_arg(Instr *in, int i, const Tile *t);
int64_t mm_width(const Lower *l, const Mm *mm);                      /* columns of one window */
Affine at_offset(const Affine *at, const int64_t *stride, int rank); /* of the element at[] */

uint32_t reduced_dims(const Graph *g, const Op *op); /* the axes of a reduction, as a set */

/* instr.c */
Status emit_flat(Lower *l, const Instr *in);                           /* no operand is a product */
bool instr_loops_over(const Lower *l, const Instr *in, uint32_t dims); /* it takes a loop along any of these dims */

/* home.c */
const Chip *chip_of(const Lower *l, Val buf);                                     /* NULL: that is no home */
bool home_rows(const Lower *l, Val v, const View *w, Val buf, Span s, Tile *out); /* the current row tile in place */
bool home_matrix(const Lower *l, const Matrix *m, InHome *out);
bool home_stride(const Lower *l, Val buf, int64_t elems, int64_t *out); /* false: from row to row */
Status transfer(Lower *l, const Ref *dst, const Ref *src); /* a DMA; either side may be in a home, or both */
Status refuse_home(Lower *l, Val buf);                     /* it cannot be read or written as somebody wants it */
Status home_declare(Lower *l, Val v);

/* turn.c */
Status turn(Lower *l, const Turn *t);
Status turn_exact(Lower *l, const Turn *t); /* for k up to 128, of any bits */
/* m, with ks 1, from HBM; to: where it goes (dst, to, step, rs). */
Status load_turned(Lower *l, const Matrix *m, const Turn *to, TurnBy by);

/* io.c */
Status tile_of(Lower *l, Val v, Span s, DType dt, int bufs, Tile *out); /* a new tile for v, of dtype dt, */
Status plain_tile(Lower *l, Val v, Span s, int bufs, Tile *out);        /* of the dtype that v has on chip */
Status load_rows(Lower *l, Val v, Span s, Tile *out);                   /* the current row tile */
Status load_free(Lower *l, Val v, Span s, Tile *out);                   /* what all rows share, to every partition */
Status fill_tile(Lower *l, Val v, Span s, double value, Tile *out);
bool home_tile(const Lower *l, Val v, Tile *out);
Status store_tile(Lower *l, Val v, const Tile *t, Span s, int parts, int64_t per);
Status hbm_buffer(Lower *l, Val base, Val *buf);
Status view_in_hbm(Lower *l, Val v, View *w, Val *buf);

/* window.c */
Status note_leaf(Lower *l, Val v, Span s); /* the group reads v, which it does not compute */
Status leaf_in_window(Lower *l, Val v, Span s, Tile *out, bool *found);

/* product.c */
/* To [k mod 128][k / 128][n]; `step` elements from one 128 of k to the next. */
Status load_matrix(Lower *l, const Matrix *m, Val dst, Affine dst0, int64_t step);
Status rows_in_hbm(Lower *l, const Rows *r, const Affine *at, Affine row, Matrix *m);
Status full_operand(Lower *l, const Mm *mm, Full *f);
Matrix columns_in_hbm(const Lower *l, const Mm *mm, const Full *f, const Affine *at, Affine col, int64_t width);
int64_t batch_count(const Lower *l, const Mm *mm, const Full *f);
Status mm_windows(Lower *l, const Mm *mm, WindowFn *emit, void *env);

/* read.c */
Status emit_instr(Lower *l, Instr *in);

/* extremes.c */
/* Whether `in`, which writes v with the chain n, may find the extreme of its rows as well. */
bool carries_extreme(const Lower *l, Val v, const Node *n, const Instr *in);
Status emit_with_extreme(Lower *l, Val v, const Instr *in, Fold *out);

/* values.c */
Status new_tile(Lower *l, Val v, Tile *out); /* where v's rows go; into a concat when that is the only reader */
Node *set_node(Lower *l, Val v, NodeKind kind);
Tile aligned(const Lower *l, const Tile *t, Val v, Val result); /* v's tile, broadcast to the dims of result */
void put_scal(Instr *in, int arg, const Scal *s, Key imm);      /* a [P, 1] operand, or the immediate `imm` */
void put_base(Instr *in, int arg, const Node *n);               /* what a chain stands on; a matmul by windows */
Status copy_tile(Lower *l, Val v, const Tile *src, const Tile *dst);
bool is_last_use(const Lower *l, const Op *op, int i);            /* and the operand has the form of the result */
Status chain_tile(Lower *l, Val v, const Node *chain, Node *out); /* where a waiting chain goes when it is forced */
Status force(Lower *l, Val v, Node *n);                           /* make the node of v a tile */
/* Where op's result goes: over operand i when this is its last use and it has the same form, else a new tile. */
Status result_tile(Lower *l, const Op *op, uint32_t operands, Node *out);
Status find_leaf(Lower *l, Val v, Span s, uint32_t *out);
Status load_leaf(Lower *l, Val v, Span s, Node **out);
/* The node of operand i; loads leaves. Valid until the next call that loads. */
Status operand(Lower *l, const Op *op, int i, Node **out);
Status operand_tile(Lower *l, const Op *op, int i, Tile *out);                    /* forced, aligned to op's result */
Status dense_copy(Lower *l, Val v, Span s, DType dt, const Tile *src, Tile *out); /* C-order copy of a tile, as dt */
Status store_row(Lower *l, Val v);

/* chain.c - ops that wait for their reader */
bool is_same_size(const Lower *l, Val v, Val result); /* v may be taken in element for element */
/* What a reader of operand i may extend: the chain that waits, of at most `room` steps, else one of none on its tile.
 */
Status take_chain(Lower *l, const Op *op, int i, int room, Node *out);
Status own_base(Lower *l, const Op *op, int i, Node *chain); /* `chain`, made of operand i, is to wait */
Status as_scal(Lower *l, const Op *op, int i, Scal *out,
               bool *ok);                /* operand i as a [P, 1] operand, if it can be one */
Status settle(Lower *l, Val v, Node *n); /* v is the chain n; forced unless it may wait */
Status append_step(Lower *l, const Op *op, int data, Alu alu, const Scal *s, bool rev); /* operand `data`, then alu s */

/* sums.c */
Tile by_operand_dims(const Lower *l, const Op *op, const Tile *t);
/* The reduce_sum that the instruction computing v can carry along: it sums all of each row. */
bool carried_sum(const Lower *l, Val v, Val *sum);
Status new_sum(Lower *l, Val sum, Tile *out);

/* elementwise.c */
Status lower_elementwise(Lower *l, const Op *op);
Status lower_concat(Lower *l, const Op *op);
Status lower_layout(Lower *l, const Op *op);

/* reduce.c */
Status lower_reduce(Lower *l, const Op *op);
Status acc_begin(Lower *l, const Op *op);
Status acc_add(Lower *l, const Op *op);
Status acc_end(Lower *l, const Op *op);

/* matmul.c */
Status lower_matmul(Lower *l, const Op *op);
Status mm_prepare(Lower *l, const Op *op);                  /* its row operand, ahead of the column loop */
Status mm_preload(Lower *l, const Op *op, int64_t *budget); /* keep the full operand on chip if it fits */

/* lower.c */
Status lower_alloc(Lower *l); /* the tables by val and op */
Status lower_group(Lower *l);
void forget_uses(Lower *l); /* by the members of the group */

/* move.c */
Status lower_move(Lower *l, const Op *op); /* the member of a group that moves elements within HBM */

/* reverse.c */
Status move_reversed(Lower *l, const Move *m, DType dt); /* dims of the source may have negative strides */

/* restride.c */
Status move_blocks(Lower *l, const Move *m, const Blocks *b, DType dt);

#endif
