/* tile.h - tile IR: a NeuronCore program as the hardware sees it. A memory machine, not an SSA of tiles.
 *
 * Buffers (op `buffer`) live in HBM, SBUF or PSUM; instructions read and write access patterns on them; `loop` ... `end`
 * bracket a body that runs `count` times with the loop variable 0, 1, ... A buffer declared inside a loop body is a new
 * one each iteration; with bufs > 1 its copies rotate. What an instruction depends on is what its operands' roles say.
 */
#ifndef NKIGEN_TILE_H
#define NKIGEN_TILE_H

#include "ir/ir.h"

typedef enum KOp {
    K_none,
#define OP(id, ...) K_##id,
#include "tile/ops.def"
#undef OP
    K_COUNT
} KOp;
extern const Dialect tile_dialect;

/* hw.c - the hardware table; the only place for hardware numbers (source: nisa-facts sections 1 and 2) */
typedef struct Hw {
    const char *name;
    int gen;
#define HW(field, ...) double field;
#include "tile/hw.def"
#undef HW
} Hw;
const Hw *hw_get(int target); /* Target */

/* Where an activation function is defined: from lo to hi, or from lo to hi and from -hi to -lo. Source: act.def. */
typedef struct Domain {
    double lo, hi;
    bool bounded; /* false: everywhere */
    bool of_magnitude;
} Domain;
const Domain *act_domain(int func); /* Act */

enum { SHUFFLE_LANES = 32, SHUFFLE_KEEP = 255 }; /* nc_stream_shuffle: group size; mask entry that leaves dst alone */

/* operand numbers, by name of the row: the order in tile/ops.def */
enum { KI_dst = 0, KI_src = 1 };                                       /* dma_copy dma_transpose tensor_copy ... */
enum { KM_stationary = 1, KM_moving = 2, KM_first = 3 };               /* nc_matmul */
enum { KA_reduce_res = 1, KA_data = 2, KA_bias = 3, KA_scale = 4 };    /* activation */

/* build.c - one k_* per instruction form; a missing operand is a zero Ref */
typedef struct Ref { Val buf; Ap ap; } Ref;
Status k_buffer(Graph *g, Space sp, BufKind kind, DType dt, int rank, const int64_t *dim, int bufs, int index,
                const char *name, LocId loc, Val *out);
Status k_const_buffer(Graph *g, const Data *d, DType dt, int rank, const int64_t *dim, int index, LocId loc, Val *out);
Status k_loop(Graph *g, int64_t count, LocId loc, Val *var);
Status k_end(Graph *g, LocId loc);
/* the general form: operands in the row's order, attributes as given */
Status k_emit(Graph *g, KOp op, const Ref *in, int nin, const AttrItem *at, int nat, LocId loc);

/* instr.c - questions about an instruction or a buffer */
static inline bool is_instr(const Graph *g, const Op *op) { return !(op_def(g, op)->flags & F_CONTROL); }
int64_t buffer_bytes(const Type *t); /* on chip: bytes per partition of one copy; HBM: all bytes */
/* On chip: bytes from one of the rotating copies to the next. Copy k of a buffer is at addr + k * buffer_stride, and the
 * buffer occupies bufs * buffer_stride bytes. */
int64_t buffer_stride(const Type *t);
int instr_engine(const Graph *g, const Op *op); /* Engine: attribute or the row's default; EN_dma for DMAs */
/* The row with its roles: does operand i read / write? nc_matmul's dst reads when it accumulates. */
int operand_role(const Graph *g, const Op *op, int i);

/* verify.c - the hardware's rules. A violation is text with the op and its location. */
typedef struct Violation { OpId op; LocId loc; int code; const char *rule; const char *text; } Violation;
typedef VEC(Violation) Violations;
/* All violations (at most `max`), in program order. Allocation rules (capacity, overlap, banks) apply once buffers have
 * addresses. Runs in time linear in the program, not in the data. */
Status tile_verify_all(const Graph *g, Arena *a, int max, Violations *out);
Status tile_verify(const Graph *g); /* the first as a ST_LIMIT failure */

/* live.c - what is live when: per buffer the first and last op that touches it (whole loop body when it lives across) */
typedef struct Live { OpId first, last; } Live;
Status tile_liveness(const Graph *g, Arena *a, Live **by_val);

#endif
