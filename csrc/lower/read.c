/* read.c - an instruction that may read a product: then it is emitted for every window of it.
 *
 * in:   an instruction over an index space
 * out:  tile ops
 * rule: a product is read from PSUM, by one operand of one instruction
 */
#include "lower/context.h"

/* Which window begins at the column `at`, which is a multiple of their width. */
static Affine
window_index(Affine at, int64_t width)
{
    at.c /= width;
    for (uint32_t i = 0; i < at.nterms; i++)
        at.term[i].coef /= width;
    return at;
}

static Status
emit_window(void *env, Lower *l, Tile psum, const Affine *at, Affine row, int64_t width)
{
    const Instr *in = env;
    Instr w = *in;
    w.per = 1;
    for (int i = 0; i < w.rank; i++)
        w.count[i] = i == in->mm->m.col ? width : 1;
    for (int a = 0; a < w.nargs; a++) {
        Tile *t = &w.arg[a];
        if (a == in->mm_arg) {
            *t = psum;
            continue;
        }
        t->off = affine_add(t->off, affine_scale(row, t->rstride));
        for (int i = 0; i < w.rank; i++)
            t->off = affine_add(t->off, affine_scale(at[i], t->stride[i]));
        if (a > 0 && a == in->by_window)
            t->off = affine_add(t->off, window_index(at[in->mm->m.col], mm_width(l, in->mm)));
    }
    return emit_flat(l, &w);
}

Status
emit_instr(Lower *l, Instr *in)
{
    return in->mm ? mm_windows(l, in->mm, emit_window, in) : emit_flat(l, in);
}
