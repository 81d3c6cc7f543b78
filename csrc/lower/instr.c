/* instr.c - one tensor-sized instruction onto the hardware: loops and access patterns.
 *
 * in:   an instruction over an index space (rows per partition, then the dims of the result), a stride per operand
 *       and dim, and which operands must be [P, 1]
 * out:  tile ops: dims are merged where all operands allow it; dims along which a [P, 1] operand moves, and dims
 *       beyond what an access pattern holds, become loops (unrolled up to UNROLL)
 */
#include "lower/context.h"

#define UNROLL 4
#define CHIP_DIMS 4    /* free dims of an access pattern */
#define MAX_FREE 32768 /* elements per partition of one instruction; half of what counts can say */

typedef struct Dim {
    int64_t count, stride[MAX_ARGS];
    uint32_t of; /* bit set of the index space's dims that it is made of */
} Dim;
typedef struct Space2 {
    Dim d[MAX_RANK + 1];
    int n;
} DimList;

static void
list_dims(const Instr *in, DimList *all)
{
    all->n = 0;
    for (int i = -1; i < in->rank; i++) {
        Dim d = {.count = i < 0 ? in->per : in->count[i], .of = i < 0 ? 0 : 1u << i};
        if (d.count == 1)
            continue;
        for (int a = 0; a < in->nargs; a++)
            d.stride[a] = i < 0 ? in->arg[a].rstride : in->arg[a].stride[i];
        all->d[all->n++] = d;
    }
}

static bool
moves_scalar(const Instr *in, const Dim *d)
{
    for (int a = 0; a < in->nargs; a++)
        if (in->is_scal[a] && in->arg[a].buf.i && d->stride[a] != 0)
            return true;
    return false;
}

static bool
can_merge(const Instr *in, const Dim *a, const Dim *b)
{
    for (int k = 0; k < in->nargs; k++)
        if (in->arg[k].buf.i && a->stride[k] != b->stride[k] * b->count)
            return false;
    return true;
}

/* Split the dims into loops and the instruction's own. A reduction's trailing dims never become loops. */
static void
split_dims(const Instr *in, const DimList *all, DimList *loops, DimList *own, int *trailing)
{
    int64_t elems = 1;
    loops->n = own->n = 0;
    int keep = all->n - *trailing; /* dims before the reduced ones */
    for (int i = 0; i < all->n; i++) {
        const Dim *d = &all->d[i];
        if (moves_scalar(in, d)) {
            loops->d[loops->n++] = *d;
            continue;
        }
        Dim *last = own->n ? &own->d[own->n - 1] : NULL;
        if (last && i != keep && last->count * d->count <= MAX_FREE && can_merge(in, last, d)) {
            for (int a = 0; a < in->nargs; a++)
                last->stride[a] = d->stride[a];
            last->count *= d->count;
            last->of |= d->of;
            if (i > keep)
                --*trailing;
        } else {
            own->d[own->n++] = *d;
        }
        elems *= d->count;
    }
    while (own->n > *trailing && (own->n > CHIP_DIMS || elems > MAX_FREE) && (own->n > 1 || loops->n < MAX_RANK)) {
        if (own->n == 1)
            break;
        elems /= own->d[0].count;
        loops->d[loops->n++] = own->d[0];
        for (int i = 1; i < own->n; i++)
            own->d[i - 1] = own->d[i];
        own->n--;
    }
}

static Status
emit_once(Lower *l, const Instr *in, const DimList *own, int trailing, const Affine *off)
{
    Ref ref[MAX_ARGS] = {0};
    for (int a = 0; a < in->nargs; a++) {
        const Tile *t = &in->arg[a];
        if (t->buf.i == 0)
            continue;
        Ap *ap = &ref[a].ap;
        ref[a].buf = t->buf;
        ap->off = off[a];
        ap->nparts = in->parts;
        int n = in->is_scal[a] ? 0 : (trailing && a == 0) ? own->n - trailing : own->n;
        for (int i = 0; i < n; i++)
            ap->dim[ap->ndim++] = (ApDim){own->d[i].count, own->d[i].stride[a]};
    }
    AttrItem at[9];
    int nat = in->nat;
    for (int i = 0; i < nat; i++)
        at[i] = in->at[i];
    if (in->trailing)
        at[nat++] = AT_INT(A_naxes, trailing);
    return emit(l, in->op, ref, in->nargs, at, nat);
}

static Status
emit_unrolled(Lower *l, const Instr *in, const DimList *loops, const DimList *own, int trailing, int64_t total)
{
    for (int64_t k = 0; k < total; k++) {
        Affine off[MAX_ARGS];
        for (int a = 0; a < in->nargs; a++) {
            off[a] = in->arg[a].off;
            int64_t rest = k;
            for (int i = loops->n - 1; i >= 0; i--) {
                off[a] = affine_add(off[a], affine_const(rest % loops->d[i].count * loops->d[i].stride[a]));
                rest /= loops->d[i].count;
            }
        }
        TRY(emit_once(l, in, own, trailing, off));
    }
    return ST_OK;
}

static Status
emit_looped(Lower *l, const Instr *in, const DimList *loops, const DimList *own, int trailing)
{
    Affine off[MAX_ARGS], var;
    for (int a = 0; a < in->nargs; a++)
        off[a] = in->arg[a].off;
    for (int i = 0; i < loops->n; i++) {
        TRY(loop_begin(l, loops->d[i].count, &var));
        for (int a = 0; a < in->nargs; a++)
            off[a] = affine_add(off[a], affine_scale(var, loops->d[i].stride[a]));
    }
    TRY(emit_once(l, in, own, trailing, off));
    for (int i = loops->n - 1; i >= 0; i--)
        TRY(loop_end_of(l, loops->d[i].count));
    return ST_OK;
}

Status
emit_flat(Lower *l, const Instr *in)
{
    DimList all, loops, own;
    list_dims(in, &all);
    int trailing = 0;
    for (int i = 0; i < in->trailing; i++)
        trailing += in->count[in->rank - 1 - i] > 1;
    int64_t total = 1;
    split_dims(in, &all, &loops, &own, &trailing);
    for (int i = 0; i < loops.n; i++)
        total *= loops.d[i].count;
    if (total <= UNROLL)
        return emit_unrolled(l, in, &loops, &own, trailing, total);
    return emit_looped(l, in, &loops, &own, trailing);
}

bool
instr_loops_over(const Lower *l, const Instr *in, uint32_t dims)
{
    DimList all, loops, own;
    Instr once = *in;
    int trailing = 0;
    for (int i = 0; in->mm && i < in->rank; i++) { /* windows of columns, for each of the other dims */
        once.count[i] = i == in->mm->m.col ? in->count[i] : 1;
        bool whole = i == in->mm->m.col ? mm_width(l, in->mm) >= in->count[i] : in->count[i] == 1;
        if ((dims >> i & 1) && !whole)
            return true;
    }
    once.per = in->mm ? 1 : in->per;
    list_dims(&once, &all);
    split_dims(&once, &all, &loops, &own, &trailing);
    for (int i = 0; i < loops.n; i++)
        if (loops.d[i].of & dims)
            return true;
    return false;
}
