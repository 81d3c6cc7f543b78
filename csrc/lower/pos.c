/* pos.c - what a value is at the current place in the nest: sizes, dtype, strides on chip, offset in HBM.
 *
 * in:   a value and its span; the row tile, panel and chunk that the nest has come to
 * out:  facts
 * rule: appends nothing
 */
#include "lower/context.h"

#define SMALL_ELEMS 16 /* elements per partition that may as well be f32 */

Span
operand_span(const Lower *l, const Op *op, int i)
{
    return operand_edge(l->g, op, i, l->p->span[op->out.i]);
}

bool
is_member(const Lower *l, Val v)
{
    return l->p->group_of[l->g->vals.p[v.i].def.i] == l->group && l->p->span[v.i].role != RO_acc;
}

int64_t
span_dim(const Lower *l, const Type *t, Span s, int i)
{
    if (!in_range(s.col, i))
        return t->dim[i];
    return s.role == RO_free ? l->panel_cols : l->chunk_cols;
}

int64_t
row_elems(const Lower *l, Val v, Span s)
{
    const Type *t = val_type(l->g, v);
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= is_free_dim(s, i) ? span_dim(l, t, s, i) : 1;
    return n;
}

/* When what is known of a value with this span was found out, at the latest, to be true here. */
uint32_t
epoch_of(const Lower *l, Span s)
{
    if (s.role != RO_row)
        return l->stable;
    return has_cols(s) ? l->epoch : l->tile_epoch;
}

/* The predicated copy does not convert, so both branches would be: what is undefined in one has no room in 8 bits. */
static bool
selects_before_converting(const Op *op, DType to)
{
    return op->code == T_where && !(is_float(to) && dtypes[to].bytes >= 2);
}

/* A value that only a conversion reads is written in the dtype of that conversion, unless it has a rounding of its own.
 * Returns the conversion's result, or v. */
Val
written_as(const Lower *l, Val v)
{
    const Graph *g = l->g;
    if (l->uses[v.i] != 1 || l->p->stored[v.i] || !is_member(l, v) || !is_float(val_dtype(g, v)) ||
        !keeps_rounding(g, val_def(g, v)))
        return v;
    const Op *user = graph_op(g, l->user[v.i]);
    bool converts = user->code == T_cast || user->code == T_rcast;
    if (!converts || !is_member(l, user->out) || has_cols(l->p->span[v.i]) != has_cols(l->p->span[user->out.i]))
        return v;
    if (selects_before_converting(val_def(g, v), val_dtype(g, user->out)))
        return v;
    return user->out;
}

int64_t
per_of(const Lower *l, Span s)
{
    return s.role == RO_row ? l->per : 1;
}

bool
is_small(const Lower *l, Val v, Span s)
{
    const Type *t = val_type(l->g, v);
    int64_t n = per_of(l, s);
    for (int i = 0; i < t->rank; i++)
        n *= is_free_dim(s, i) ? t->dim[i] : 1;
    return n <= SMALL_ELEMS;
}

/* Small float values are f32, since per-row operands of instructions must be, unless that would leave out a rounding.
 */
DType
tile_dtype(const Lower *l, Val v, Span s)
{
    Val as = written_as(l, v);
    DType dt = val_dtype(l->g, as);
    if (dt == DT_bool)
        return DT_u8;
    bool rounded = !is_member(l, as) || keeps_rounding(l->g, val_def(l->g, as));
    return is_float(dt) && rounded && is_small(l, v, s) ? DT_f32 : dt;
}

int
parts_of(const Lower *l, Span s)
{
    return s.role == RO_row ? l->parts : row_lanes(l->gr, l->hw);
}

static bool
view_of_rows(const Lower *l, Val v, View *w)
{
    Val base = l->p->view_base[v.i].i ? l->p->view_base[v.i] : v;
    if (!is_member(l, v))
        return view_between(l->g, base, v, w);
    if (l->p->stored[v.i])
        *w = view_stored(l->p, v);
    return l->p->stored[v.i];
}

/* Before which dim the rows of a partition come in v's tile: 0, the first, unless they are neighbours in HBM to what
 * lies within them. Then they are neighbours on chip, too, and a DMA moves runs of rows; v's rank: of single elements.
 */
int
rows_before(const Lower *l, Val v, Span s)
{
    View w;
    int64_t stride, inner = 1;
    const Type *t = val_type(l->g, v);
    if (s.role != RO_row || l->per == 1 || row_map(l->gr, l->hw, l->per).lane == 1 || row_elems(l, v, s) == 1 ||
        !view_of_rows(l, v, &w) || !view_uniform(t, &w, s.spine, &stride))
        return 0;
    int at = t->rank;
    for (; inner < stride && at > 0; at--) {
        if (!is_free_dim(s, at - 1) || t->dim[at - 1] == 1)
            continue;
        if (w.stride[at - 1] != inner)
            return 0;
        inner *= span_dim(l, t, s, at - 1);
    }
    bool outside = false;
    for (int i = 0; i < at; i++)
        outside |= is_free_dim(s, i) && t->dim[i] > 1;
    return outside && inner == stride ? at : 0;
}

/* C-order strides over the free dims, and over the rows in their place among them; spine and outer dims get the strides
 * of the whole, see Tile. */
void
tile_strides(const Lower *l, Val v, Span s, Tile *t)
{
    const Type *ty = val_type(l->g, v);
    int64_t n = 1, all = 1;
    int at = rows_before(l, v, s);
    for (int i = ty->rank; i >= 0; i--) {
        if (i == at) {
            t->rstride = n;
            n *= at > 0 ? l->per : 1;
        }
        if (i == 0)
            break;
        t->stride[i - 1] = is_free_dim(s, i - 1) ? n : all;
        n *= is_free_dim(s, i - 1) ? span_dim(l, ty, s, i - 1) : 1;
        all *= ty->dim[i - 1];
    }
}

int
stored_bufs(const Lower *l, Val v)
{
    v = written_as(l, v);
    return l->p->stored[v.i] && l->in_loop ? l->gr->bufs : 1;
}

/* Offset of the current row tile (row) and outer index in v's view. */
Affine
hbm_offset(const Lower *l, Val v, const View *w, Span s, bool row)
{
    const Type *t = val_type(l->g, v);
    int64_t rs, os;
    view_uniform(t, w, s.spine, &rs);
    view_uniform(t, w, s.outer, &os);
    Affine off = affine_add(affine_const(w->off), affine_scale(l->outer, os));
    if (has_cols(s))
        off = affine_add(off, affine_scale(l->panel0, w->stride[s.col.lo]));
    if (has_cols(s) && row)
        off = affine_add(off, affine_scale(l->chunk0, w->stride[s.col.lo]));
    return row ? affine_add(off, affine_scale(l->row0, rs)) : off;
}

void
instr_space(const Lower *l, Val v, Instr *in)
{
    const Type *t = val_type(l->g, v);
    Span s = l->p->span[v.i];
    in->rank = t->rank;
    in->per = s.role == RO_row ? l->per : 1;
    in->parts = s.role == RO_row ? l->parts : row_lanes(l->gr, l->hw);
    for (int i = 0; i < t->rank; i++)
        in->count[i] = is_free_dim(s, i) ? span_dim(l, t, s, i) : 1;
}

void
instr_arg(Instr *in, int i, const Tile *t)
{
    in->arg[i] = *t;
    in->nargs = MAX(in->nargs, i + 1);
}

int64_t
mm_width(const Lower *l, const Mm *mm)
{
    int64_t n = span_dim(l, val_type(l->g, mm->v), l->p->span[mm->v.i], mm->m.col);
    return MIN(n, l->gr->psum_width);
}

Affine
at_offset(const Affine *at, const int64_t *stride, int rank)
{
    Affine off = affine_const(0);
    for (int i = 0; i < rank; i++)
        off = affine_add(off, affine_scale(at[i], stride[i]));
    return off;
}

uint32_t
reduced_dims(const Graph *g, const Op *op)
{
    const int64_t *axes;
    uint32_t set = 0;
    for (int n = attr_ints(g->cx, op->attr, A_axes, &axes); n-- > 0;)
        set |= 1u << axes[n];
    return set;
}
