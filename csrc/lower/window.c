/* window.c - leaves that are shifted views of one array: a window of it holds the rows of all of them.
 *
 * in:   the operands of a group that lie in HBM; then a leaf that is to be loaded
 * out:  its tile within the window, which is loaded once per row tile, with what lies around the rows
 * rule: the leaves have the same dims and strides and begin near each other. A partition gets one run of the array,
 * from the first element that any of them needs to the last, so that a shift along rows and one along columns are both
 *       an offset on chip. Only where the window has clearly fewer elements than the leaves would be read for.
 */
#include "lower/context.h"

#define REACH_BYTES 32768  /* from where the first leaf begins to where the last one does */
#define WINDOW_BYTES 65536 /* in a partition */
#define RECENT 8           /* windows that a leaf is looked for in: shifted views come together */

static bool
same_spans(Span a, Span b)
{
    return a.role == b.role && a.spine.lo == b.spine.lo && a.spine.hi == b.spine.hi && a.outer.lo == b.outer.lo &&
           a.outer.hi == b.outer.hi;
}

static bool
same_strides(const Type *t, const View *a, const View *b)
{
    bool same = a->base.i == b->base.i;
    for (int i = 0; i < t->rank; i++)
        same = same && (a->stride[i] == b->stride[i] || t->dim[i] == 1);
    return same;
}

static bool
leaf_view(const Lower *l, Val v, View *w)
{
    return view_between(l->g, l->p->view_base[v.i].i ? l->p->view_base[v.i] : v, v, w);
}

/* The window that v lies in, or may be added to; NULL: none. */
static LeafWindow *
find_window(Lower *l, Val v, const View *w, Span s)
{
    const Type *t = val_type(l->g, v);
    for (uint32_t k = l->windows.n; k-- > 0 && k + RECENT >= l->windows.n;) {
        LeafWindow *x = &l->windows.p[k];
        int64_t lo = MIN(x->lo, w->off), hi = MAX(x->hi, w->off);
        if (x->type.i == l->g->vals.p[v.i].type.i && same_spans(x->span, s) && same_strides(t, &x->view, w) &&
            (hi - lo) * dtypes[t->dtype].bytes <= REACH_BYTES)
            return x;
    }
    return NULL;
}

Status
note_leaf(Lower *l, Val v, Span s)
{
    View w;
    if (s.role != RO_row || has_cols(s) || l->gr->has_matmul || is_splat(l->g, v, NULL) || !leaf_view(l, v, &w))
        return ST_OK;
    LeafWindow *x = find_window(l, v, &w, s);
    if (!x) {
        VEC_PUSH(
            l->cx, l->a, &l->windows,
            (LeafWindow){.type = l->g->vals.p[v.i].type, .span = s, .view = w, .lo = w.off, .hi = w.off, .leaves = 1});
        return ST_OK;
    }
    x->lo = MIN(x->lo, w.off);
    x->hi = MAX(x->hi, w.off);
    x->leaves++;
    return ST_OK;
}

/* Elements of the array from the first of a partition's rows to the last. */
static int64_t
extent(const Lower *l, const LeafWindow *x, const Type *t, int64_t row_stride)
{
    int64_t n = (l->per - 1) * row_stride + 1;
    for (int i = 0; i < t->rank; i++)
        n += is_free_dim(x->span, i) ? (t->dim[i] - 1) * x->view.stride[i] : 0;
    return n + x->hi - x->lo;
}

static Status
load_window(Lower *l, LeafWindow *x, const View *w, Val v, int64_t row_stride, int64_t elems)
{
    const Type *t = val_type(l->g, v);
    View first = *w, any;
    Val buf;
    TRY(view_in_hbm(l, v, &any, &buf));
    first.off = x->lo;
    x->tile = (Tile){.dt = (DType)t->dtype, .rstride = row_stride};
    int64_t all = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        x->tile.stride[i] = is_free_dim(x->span, i) ? w->stride[i] : all;
        all *= t->dim[i];
    }
    TRY(new_buffer(l, SP_sbuf, x->tile.dt, l->parts, elems, l->in_loop ? l->gr->bufs : 1, &x->tile.buf));
    Ref src = {.buf = buf, .ap = {.off = hbm_offset(l, v, &first, x->span, true), .ndim = 2}};
    src.ap.dim[0] = (ApDim){l->parts, row_stride * row_map(l->gr, l->hw, l->per).lane};
    src.ap.dim[1] = (ApDim){elems, 1};
    Ref dst = {.buf = x->tile.buf, .ap = {.nparts = l->parts, .ndim = 1, .dim = {{elems, 1}}}};
    x->epoch = l->tile_epoch;
    return dma(l, K_dma_copy, &dst, &src);
}

Status
leaf_in_window(Lower *l, Val v, Span s, Tile *out, bool *found)
{
    View w;
    LeafWindow *x = NULL;
    int64_t row_stride;
    *found = false;
    bool apart_rows = l->per > 1 && row_map(l->gr, l->hw, l->per).slot != 1;
    if (l->windows.n && s.role == RO_row && !has_cols(s) && !apart_rows && leaf_view(l, v, &w))
        x = find_window(l, v, &w, s);
    if (!x || x->leaves < 2 || l->chip[w.base.i].buf.i)
        return ST_OK;
    const Type *t = val_type(l->g, v);
    view_uniform(t, &w, s.spine, &row_stride);
    int64_t elems = extent(l, x, t, row_stride), apart = x->leaves * l->per * row_elems(l, v, s);
    bool narrow = row_stride <= 0 || tile_dtype(l, v, s) != val_dtype(l->g, w.base) || elems > apart * 3 / 4;
    if (narrow || elems * dtypes[t->dtype].bytes > WINDOW_BYTES)
        return ST_OK;
    if (x->epoch != l->tile_epoch)
        TRY(load_window(l, x, &w, v, row_stride, elems));
    *out = x->tile;
    out->off = affine_const(w.off - x->lo);
    *found = true;
    return ST_OK;
}
