/* uses.c - who may not be given a mark (undefined.c): whoever would turn it into something else.
 *
 * in:   an instruction about to run
 * out:  a failure when an operand is marked, or is no truth value, and the instruction does not hand that on
 * rule: before the first mark of a program nobody asks, but logic on values other than 0 and 1.
 */
#include "eval/machine.h"

/* An operator whose result need not be NaN when an operand is. */
static bool
is_decision(int op)
{
    return (op >= ALU_equal && op <= ALU_less) || is_logic(op) || is_bitvec(op) || op == ALU_power || op == ALU_rsqrt;
}

/* What the instruction does with operand i that a mark does not outlive; NULL: it hands it on. */
static const char *
use_of(const Machine *m, const Instr *in, int i)
{
    switch (in->code) {
    case K_dma_copy:
        return m->view[KI_dst].st->kind == BK_output ? "is stored to an output" : NULL;
    case K_nc_matmul:
        return "is multiplied with a matrix";
    case K_tensor_reduce:
    case K_tensor_partition_reduce:
    case K_tensor_scalar_reduce:
        return "is reduced";
    case K_tensor_copy_predicated:
        return i == 2 ? "is a predicate" : NULL;
    case K_select_reduce:
        return i == 1 ? "is a predicate" : NULL;
    case K_tensor_tensor:
    case K_tensor_scalar:
    case K_scalar_tensor_tensor:
        return is_decision(in->op0) || is_decision(in->op1) ? "is compared" : NULL;
    default:
        return NULL;
    }
}

static bool
has_mark(Machine *m, const Instr *in, int i)
{
    const Opnd *o = &in->opnd[i];
    Stream s;
    if (o->dtype != DT_f32 && o->dtype != DT_bf16 && o->dtype != DT_f16)
        return false;
    stream_open(&s, m, in, i);
    for (int64_t left = o->nparts * o->count, n; left > 0; left -= n) {
        n = MIN(left, CHUNK);
        const float *x = stream_in(&s, n);
        for (int64_t k = 0; k < n; k++)
            if (is_mark(x[k]))
                return true;
    }
    return false;
}

Status
check_defined(Machine *m, const Instr *in)
{
    for (int i = 0; i < in->nopnd; i++) {
        const Opnd *o = &in->opnd[i];
        const char *use = o->ap && (o->role & R_read) ? use_of(m, in, i) : NULL;
        if (use && has_mark(m, in, i))
            return bad_result(m, use);
    }
    return ST_OK;
}

Status
check_logic_operand(Machine *m, const Instr *in, int op, int i)
{
    Stream s;
    stream_open(&s, m, in, i);
    for (int64_t left = is_logic(op) ? in->opnd[i].nparts * in->opnd[i].count : 0, n; left > 0; left -= n) {
        n = MIN(left, CHUNK);
        TRY(check_logic(m, in, op, stream_in(&s, n), n));
    }
    return ST_OK;
}
