/* eval.h - the tile simulator: runs a tile program on the CPU as the hardware would.
 *
 * A real memory machine: SBUF and PSUM are byte arrays per partition, allocations are poisoned (a validity bit per
 * byte), reads of poison and accesses out of bounds fail with the instruction's location, results are rounded to the
 * destination dtype, arithmetic is f32.
 */
#ifndef NKIGEN_EVAL_H
#define NKIGEN_EVAL_H

#include "tile/tile.h"

enum { INSTR_WORK = 256 }; /* what an instruction counts besides the elements it touches */

typedef struct EvalOptions {
    bool (*poll)(void *env); /* called now and then; false: stop with ST_USER "interrupted" */
    void *poll_env;
} EvalOptions;

/* Units of work: elements touched, and INSTR_WORK per instruction. `all`: of a run, or just over `most`; `once`: of every
 * op executed once, OP_WORK at most for each. Linear in the program; allocates nothing of its buffers. */
typedef struct Work { int64_t once, all; } Work;
enum { OP_WORK = 1 << 20 };
Status tile_work(const Graph *g, int64_t most, Work *out);
/* in[i] / out[k]: C-order arrays of the program's input i / output k, in the buffers' dtypes. Buffers with addresses
 * live in the modelled SBUF and PSUM; before allocation every buffer has memory of its own. */
Status tile_eval(const Graph *g, const void *const *in, void *const *out, const EvalOptions *opt);

#endif
