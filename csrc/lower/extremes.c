/* extremes.c - row maxima and minima that ride along with the instruction that writes the row.
 *
 * in:   a value that is about to be written by a chain of at most one step
 * out:  the same instruction, delivering the extreme of what it writes; one per window of a product
 * rule: only where the row is f32, so that what is compared is what is stored, and where one instruction writes all of
 *       it, or all of one window
 */
#include "lower/context.h"

#define FOLD_ELEMS 128 /* an extreme of shorter rows is reduced for all rows of the tile at once instead */

static bool
folds(Alu op)
{
    return op == ALU_add || op == ALU_multiply || op == ALU_maximum || op == ALU_minimum;
}

/* All free dims of v are reduced, and v has no columns: the extreme is one element per row. */
static bool
is_of_whole_row(const Lower *l, Val v, const Op *reduce)
{
    const Type *t = val_type(l->g, v);
    Span s = l->p->span[v.i];
    uint32_t set = reduced_dims(l->g, reduce);
    bool whole = s.role == RO_row && !has_cols(s);
    for (int i = 0; i < t->rank && whole; i++)
        whole = !is_free_dim(s, i) || t->dim[i] == 1 || (set >> i & 1);
    return whole;
}

bool
carries_extreme(const Lower *l, Val v, const Node *n, const Instr *in)
{
    Val extreme = l->extreme_of[v.i];
    if (extreme.i == 0 || in->arg[0].dt != DT_f32 || in->arg[1].dt != DT_f32)
        return false;
    if (n->nops > 1 || (n->nops ? n->rev[0] || !folds((Alu)n->op[0]) : !in->mm))
        return false;
    int64_t row = row_elems(l, v, l->p->span[v.i]);
    if (row < FOLD_ELEMS || !is_of_whole_row(l, v, val_def(l->g, extreme)))
        return false;
    Instr one = *in;
    one.per = 1;
    if (!in->mm)
        return !instr_loops_over(l, &one, ~0u);
    return span_dim(l, val_type(l->g, v), l->p->span[v.i], in->mm->m.col) == row;
}

Status
emit_with_extreme(Lower *l, Val v, const Instr *in, Fold *out)
{
    const Op *reduce = val_def(l->g, l->extreme_of[v.i]);
    Instr fold = {.op = K_tensor_scalar_reduce, .nargs = 4, .mm = in->mm, .mm_arg = 2, .rank = in->rank};
    fold.parts = in->parts;
    fold.per = in->per;
    for (int i = 0; i < in->rank; i++)
        fold.count[i] = in->count[i];
    *out = (Fold){.n = in->mm ? CEIL_DIV(row_elems(l, v, l->p->span[v.i]), mm_width(l, in->mm)) : 1};
    out->tile = (Tile){.dt = DT_f32, .rstride = out->n};
    TRY(new_buffer(l, SP_sbuf, DT_f32, in->parts, out->n * in->per, 1, &out->tile.buf));
    fold.arg[0] = in->arg[0];
    fold.arg[1] = out->tile;
    fold.is_scal[1] = true;
    fold.by_window = in->mm ? 1 : 0;
    fold.arg[2] = in->arg[1];
    fold.at[fold.nat++] = AT_INT(A_op0, in->op == K_tensor_scalar ? in->at[0].i : ALU_multiply);
    if (in->op == K_tensor_scalar && in->arg[2].buf.i) {
        fold.arg[3] = in->arg[2];
        fold.is_scal[3] = true;
    } else {
        fold.at[fold.nat++] = AT_FLT(A_imm0, in->op == K_tensor_scalar ? in->at[1].f : 1.0);
    }
    fold.at[fold.nat++] = AT_INT(A_op1, reduce->code == T_reduce_max ? ALU_maximum : ALU_minimum);
    return emit_instr(l, &fold);
}
