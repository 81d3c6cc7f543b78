/* plan.h - what fuse and plan decide, as data: which ops share a loop nest, how its tiles are cut, where values live.
 *
 * A group is a loop nest over row tiles. Its ops share a *spine*: a run of neighbouring dims whose flattened index is
 * the row; 128 rows lie on the partitions at a time. Optionally an *outer* run of dims is looped over, one index at a
 * time, around it. All other dims are free: a row of a value lies along the free axis of its partition. An op is in a
 * group when a row of its result needs only the same row of its operands, and all of the operands without the spine.
 */
#ifndef NKIGEN_PLAN_H
#define NKIGEN_PLAN_H

#include "ir/scan.h"
#include "plan/options.h"
#include "tensor/tensor.h"
#include "tile/tile.h"

typedef struct Range {
    int8_t lo, hi;
} Range; /* dims [lo, hi) of a value; lo == hi: none */

typedef enum Role { /* how a group sees a value */
                    RO_none,
                    RO_row,  /* carries the spine */
                    RO_free, /* the same for every row: replicated over the partitions */
                    RO_mat,  /* full matmul operand: contraction on the partitions. From HBM, or computed by the same
                              * group when that has a single row tile: then all rows are there once the op has run */
                    RO_acc,  /* result of a reduction over the spine: complete after the last row tile */
                    RO_move, /* moved within HBM by a group of its own, which has no rows */
                    RO_COUNT
} Role;

typedef struct Span { /* where a group's dims lie in one value */
    uint8_t role;
    Range spine, outer;
    Range col; /* at most one dim: the columns that the group walks chunk by chunk */
} Span;

typedef struct Group {
    int64_t rows, outer; /* iterations: spine and outer sizes */
    uint32_t first, n;   /* members: Plan.member[first .. first + n), ascending op ids */
    bool has_matmul;
    bool moves; /* its member is a layout op or a concat that no spine suits: its elements move within HBM */
    /* decisions */
    int32_t per_tile;     /* rows per partition in one tile (without matmul), or 128-row blocks in one tile */
    bool in_place;        /* results overwrite operands at their last use: less room, less overlap */
    bool scalar_sums;     /* rows are summed on the scalar engine, not on the vector engine */
    int32_t bufs;         /* copies of what is loaded and stored, 1 or 2 */
    int32_t psum_width;   /* f32 columns of one matmul result in PSUM */
    int32_t psum_bufs;    /* copies of it, so that the next product may begin while this one is read */
    int64_t cols;         /* size of the column dim; 0: the group has none */
    int64_t panel, chunk; /* columns per panel (outermost loop, full operands stay for it) and per chunk (innermost) */
    bool blocked;         /* rows lie 128 apart in a partition, as in homes in SBUF, even without a matmul */
    int64_t homes;        /* SBUF bytes per partition that values living there take while the group runs */
    int64_t resident;     /* SBUF bytes per partition for full matmul operands that stay for the whole group */
    int32_t line, col;    /* in the text that the group is from; 0: the compiler's own */
} Group;

/* Undecided: formed by fuse, or by a text without numbers. */
static inline bool
is_decided(const Group *gr)
{
    return gr->per_tile > 0;
}

/* Where the rows of a tile lie: how many rows further the next partition is, and the next row within a partition. */
typedef struct RowMap {
    int64_t lane, slot;
} RowMap;
static inline RowMap
row_map(const Group *gr, const Hw *hw, int64_t per)
{
    return gr->has_matmul || gr->blocked ? (RowMap){1, (int64_t)hw->pmax} : (RowMap){per, 1};
}
/* Partitions of a full row tile. */
static inline int
row_lanes(const Group *gr, const Hw *hw)
{
    return (int)MIN(gr->rows, (int64_t)hw->pmax);
}

typedef struct Spot {             /* where a text says something of an op */
    int32_t line, at, span, home; /* columns: its name, its span, its home */
} Spot;

typedef struct Home { /* of a value between groups: in SBUF instead of HBM */
    bool chip;
    Range rows;      /* dims of which row r lies in lane r % 128, slot r / 128; none: all of it is in one lane */
    bool multiplied; /* only products read it; set by homes_settle */
    double gain;     /* the planner's: bytes of HBM that it saves, per byte of SBUF and group */
} Home;

typedef struct Plan {
    const Graph *g; /* the decomposed tensor graph it is about */
    int target;
    int64_t row_bytes, max_ops; /* the limits that fuse formed the groups under; 0: the defaults */
    VEC(Group) groups;          /* in order of execution */
    VEC(OpId) member;
    uint32_t *group_of; /* by op: 1 + index of its group; 0: source, dead, or a view of a materialised value */
    Span *span;         /* by val: in the group that computes it */
    uint8_t *stored;    /* by val: lives in HBM when its group is done (output or read by another group) */
    Home *home;         /* by val: of those stored, and of sources that several groups read */
    Val *view_base;     /* by val: a layout op's result that is a view of this stored value; 0: not a view */
    Val *part_of;       /* by val: the concat or reshape in HBM that it is written into; 0: none */
    int64_t *part_at;   /* by val: the elements of that value before it */
    Spot *spot;         /* by op: in the text that the plan was read from; NULL: the compiler's own */
    int32_t line;       /* of that text, where the plan begins behind its program */
} Plan;

/* ranges.c - how dims correspond across an op: the one rule that fusion, planning and lowering share */
typedef Span Edge; /* role RO_none: not row-local */
/* Given the span of op's result (for RO_acc: of its operand), what the op needs of operand i. */
Edge operand_edge(const Graph *g, const Op *op, int i, Span result);
int64_t range_size(const Type *t, Range r);
int64_t free_elems(const Type *t, Span s); /* elements of one row: the dims outside spine and outer */
Range trim_range(const Type *t, Range r);
/* Whether operand i carries the dims r of the result: 1 yes (*out), 0 it has none of them, -1 neither. */
int operand_dims(const Graph *g, const Op *op, int i, Range r, Range *out);

/* A contraction of more bytes per row comes from HBM in steps: 512 columns of all of it would not fit a partition. */
#define LONG_CONTRACTION (32 * 1024)

/* mat.c - a product in its group */
typedef struct Mat {
    Val row, full; /* the operand that has the rows of the group, and the one that is needed whole */
    uint8_t row_arg, full_arg;
    uint8_t row_k, full_k; /* the dims that the contraction is, */
    uint8_t full_c, col;   /* and the columns: of the full operand and of the result */
    bool by_columns;       /* the rows of the group are the columns of the product */
    int64_t k;
    DType dt; /* of both operands */
} Mat;
Mat mat_of(const Graph *g, const Op *op, Range spine); /* the spine of its result */

/* columns.c */
/* Sets gr->cols and the spans' col; 0: none. seen: zeros by val, and again on return. */
void find_columns(Plan *p, Group *gr, uint8_t *seen);
void cut_columns(const Plan *p, Group *gr); /* panel and chunk, from the other decisions */

/* homes.c - values that live in SBUF between groups */
enum { HOME_LANES = 128, HOME_SLOT = 32767, HOME_ALIGN = 64 }; /* HOME_SLOT: elements that a pattern steps over */
typedef struct Stay {                                          /* groups [first, last); last 0: none */
    uint32_t first, last;
} Stay;
Status home_lives(const Plan *p, Arena *a, Stay **out); /* by value: what computes it, or loads it, to who reads it */
int64_t home_bytes(const Graph *g, Val v, Range rows);  /* per partition; less than 0: there is no such home */
Status homes_settle(Plan *p);                           /* of every group: blocked and homes, once p->home stands */

/* fit.c - which spans a group can compute an op with */
#define MAX_ROW_BYTES (96 * 1024) /* one value's row in one partition: two of them and their copies must fit SBUF */
/* Bytes of one row of v in one partition. */
int64_t row_bytes(const Graph *g, Val v, Span s);
/* Why no group computes op with the span s, whatever its rows take; NULL: one may. */
const char *span_misfit(const Plan *p, const Graph *g, const Op *op, Span s); /* p: its parts; NULL: none */
const char *acc_misfit(const Graph *g, const Op *op, Span s);                 /* the same of an acc */

/* check.c - what a plan must keep to, decided from its tensor program alone */
/* Of a plan that was read, whose program is verified: an error with line and column. names: of values in the text;
 * NULL: as the program is printed. */
Status plan_check(Plan *p, const Slice *names);

/* engines.c */
typedef enum SelectBy {
    BY_none,
    BY_activation,
    BY_alu,
    BY_convert,
    BY_reciprocal,
    BY_rsqrt_wide,
    BY_where,
    BY_logical_not,
} SelectBy;
typedef struct Selection { /* what computes an element-wise op */
    uint8_t by;            /* SelectBy */
    uint8_t function;      /* Act or Alu */
} Selection;
extern const Selection selection[T_COUNT];
#define SUM_ELEMS 512                                /* sums of shorter rows do not pay for an instruction per row */
bool sums_on_scalar(const Plan *p, const Group *gr); /* the better guess */

/* text.c */
Status plan_print(const Plan *p, uint32_t max, bool brief, Text *t); /* of its program, and of it, at most max lines */

/* read.c - a plan from its text */
typedef struct PlanText {
    Graph *g;     /* the program that it begins with; NULL: it holds limits only */
    Slice *names; /* of its values, in the text */
    Scan body;    /* what is left to read */
    int target;
    int first_line, return_line, line; /* of the program, of its end, of the plan */
    int64_t row_bytes, max_ops;
} PlanText;
Status plan_begin(PlanText *pt);                                      /* the first line; body is behind the program */
Status plan_open(Ctx *cx, const char *text, size_t n, PlanText *out); /* up to the groups; the caller frees out->g */
/* The groups of a text, of g: out->g, or the same program. */
Status plan_read(PlanText *pt, const Graph *g, Arena *a, Plan *out);
Status plan_alloc(const Graph *g, Arena *a, Plan *p); /* its arrays by op and by value */

/* same.c */
Status plan_of_program(const PlanText *pt, const Graph *g); /* an error at the first line that is not of g */

/* What holds v between groups when it is a view. */
static inline Val
view_root(const Plan *p, Val v)
{
    return p->view_base[v.i].i ? p->view_base[v.i] : v;
}

/* Not computed: a parameter or a constant. */
static inline bool
is_source(const Graph *g, Val v)
{
    int code = val_def(g, v)->code;
    return code == T_input || code == T_const || code == T_full;
}

/* view.c - a value as a strided view of what lies in HBM */
typedef struct View {
    Val base;                 /* input, constant, or stored value */
    int64_t off;              /* elements */
    int64_t stride[MAX_RANK]; /* by dim of the viewed value */
} View;
View view_identity(const Graph *g, Val v);
View view_stored(const Plan *p, Val v); /* where a stored value is written; .base is what has a buffer */
bool view_step(const Graph *g, const Op *op, const View *from, View *to); /* op's result, given its operand */
/* v through layout ops from base; false: no strided form */
bool view_between(const Graph *g, Val base, Val v, View *out);
bool view_uniform(const Type *t, const View *w, Range r, int64_t *stride); /* the run r has one stride */
/* v's rows are neighbours in memory, seen through w or stored by itself (NULL): a tile of them moves element by
 * element, or in runs of many rows */
bool scatters_rows(const Graph *g, Val v, const View *w, Span s);
bool is_exact_cast(const Graph *g, const Op *op);
uint32_t backward_axes(const Graph *g, const Op *op); /* along which a slice goes backwards, as a set */
bool is_reversal(const Graph *g, Val v);              /* a slice with a negative step: no view */
bool is_layout(const Graph *g, Val v);                /* defined by a layout op or an exact cast: may be a view */

/* rounding.c: what an engine computes for op in f32 is a value of its dtype already */
bool keeps_rounding(const Graph *g, const Op *op);

#endif
