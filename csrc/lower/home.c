/* home.c - values that live in SBUF between groups.
 *
 * A home holds row r of a value in lane r % 128, in slot r / 128; a slot is one row's elements in C order. Whoever
 * reads or writes such a value describes it as if it lay in HBM, by elements in C order (a Ref without partitions);
 * what that means on chip is found out here.
 *
 * in:   patterns of elements of a value that has a home
 * out:  the tile or the matrix that they are in the home as it stands, else DMAs within SBUF
 * rule: a pattern is taken apart into rows and elements of a row. It is a tile when its rows begin with a lane 0, one
 *       per partition; any other goes by DMA, cut where its lanes wrap around. What neither can say is refused: the
 *       planner gives the home back.
 */
#include "lower/context.h"

#include <string.h>

#define MAX_AXES 16    /* dims of both sides of a transfer, refined */
#define LANE_LOOPS 256 /* DMAs for dims of lanes beyond the first */

/* ---- rows and elements ---- */
typedef struct Step { /* along a dim: lanes or rows, and elements on chip */
    int64_t row, off;
} Step;

const Chip *
chip_of(const Lower *l, Val buf)
{
    uint32_t lo = 0, hi = l->chips.n;
    while (lo < hi) { /* buffers are made in order: ascending */
        uint32_t mid = (lo + hi) / 2;
        if (l->chip[l->chips.p[mid].i].buf.i < buf.i)
            lo = mid + 1;
        else
            hi = mid;
    }
    const Chip *h = lo < l->chips.n ? &l->chip[l->chips.p[lo].i] : NULL;
    return h && h->buf.i == buf.i ? h : NULL;
}

static Step
step_of(const Chip *h, int64_t elems)
{
    int64_t whole = h->rows * h->post;
    return (Step){elems % whole / h->post, elems / whole * h->post + elems % h->post};
}

static int64_t
trips(const Lower *l, Val var)
{
    return attr_int(l->cx, val_def(l->out, var)->attr, A_count, 1);
}

typedef struct Reach { /* where a pattern begins */
    Affine row, off;
    int64_t last_row, last_elem; /* the farthest that it gets to: what a dim adds must not carry over */
} Reach;

static bool
spot_of(const Lower *l, const Chip *h, const Affine *elems, Reach *out)
{
    Step c = step_of(h, elems->c);
    *out = (Reach){affine_const(c.row), affine_const(c.off), c.row, elems->c % h->post};
    if (elems->c < 0)
        return false;
    for (uint32_t i = 0; i < elems->nterms; i++) {
        const Term *t = &elems->term[i];
        if (t->coef < 0)
            return false;
        Step s = step_of(h, t->coef);
        int64_t more = trips(l, t->var) - 1;
        out->row = affine_add(out->row, affine_scale(affine_var(t->var, 1), s.row));
        out->off = affine_add(out->off, affine_scale(affine_var(t->var, 1), s.off));
        out->last_row += more * s.row;
        out->last_elem += more * (t->coef % h->post);
    }
    return true;
}

static bool
spot_extend(const Chip *h, Reach *at, int64_t count, int64_t elems)
{
    at->last_row += (count - 1) * step_of(h, elems).row;
    at->last_elem += (count - 1) * (elems % h->post);
    return elems >= 0;
}

static bool
is_inside_home(const Chip *h, const Reach *at)
{
    return at->last_row < h->rows && at->last_elem < h->post;
}

/* The elements before the slot of a row that is in lane 0 for all iterations. */
static bool
slot_offset(const Lower *l, const Chip *h, const Affine *row, Affine *off)
{
    int64_t lanes = (int64_t)l->hw->pmax;
    bool whole = row->c % lanes == 0;
    *off = affine_const(row->c / lanes * h->slot);
    for (uint32_t i = 0; i < row->nterms; i++) {
        whole = whole && row->term[i].coef % lanes == 0;
        *off = affine_add(*off, affine_scale(affine_var(row->term[i].var, 1), row->term[i].coef / lanes * h->slot));
    }
    return whole;
}

/* ---- in place ---- */
bool
home_rows(const Lower *l, Val v, const View *w, Val buf, Span s, Tile *out)
{
    const Chip *h = chip_of(l, buf);
    const Type *t = val_type(l->g, v);
    Affine at = hbm_offset(l, v, w, s, s.role == RO_row), slot;
    Reach spot;
    int64_t rs;
    if (!h || s.role != RO_row || !spot_of(l, h, &at, &spot) || !view_uniform(t, w, s.spine, &rs))
        return false;
    Step rows = step_of(h, rs);
    bool steps = range_size(t, s.spine) == 1 || (rs > 0 && rows.row == 1 && rows.off == 0);
    if (!steps || (l->per > 1 && row_map(l->gr, l->hw, l->per).lane != 1) || !slot_offset(l, h, &spot.row, &slot))
        return false;
    spot_extend(h, &spot, l->parts * l->per, rs);
    *out = (Tile){.dt = tile_dtype(l, v, s)};
    tile_strides(l, v, s, out);
    for (int i = 0; i < t->rank; i++) {
        if (!is_free_dim(s, i) || t->dim[i] == 1)
            continue;
        Step step = step_of(h, w->stride[i]);
        if (!spot_extend(h, &spot, span_dim(l, t, s, i), w->stride[i]) || step.row != 0)
            return false;
        out->stride[i] = step.off;
    }
    out->buf = buf;
    out->off = affine_add(spot.off, slot);
    out->rstride = h->slot;
    return is_inside_home(h, &spot) && val_dtype(l->out, buf) == out->dt;
}

bool
home_matrix(const Lower *l, const Matrix *m, InHome *out)
{
    const Chip *h = chip_of(l, m->buf);
    Reach spot;
    Affine slot;
    if (!h || !spot_of(l, h, &m->off, &spot) || !spot_extend(h, &spot, m->k, m->ks) ||
        !spot_extend(h, &spot, m->n, m->ns) || !is_inside_home(h, &spot) || !slot_offset(l, h, &spot.row, &slot))
        return false;
    Step k = step_of(h, m->ks), n = step_of(h, m->ns);
    bool by_k = (m->k == 1 || (k.row == 1 && k.off == 0)) && (m->n == 1 || n.row == 0);
    bool by_n = (m->n == 1 || (n.row == 1 && n.off == 0)) && (m->k == 1 || k.row == 0);
    *out = (InHome){.buf = m->buf, .off = affine_add(spot.off, slot), .slot = h->slot, .turned = !by_k};
    out->step = by_k ? n.off : k.off;
    return by_k || by_n;
}

/* Elements on chip along a dim that stays in its row. */
bool
home_stride(const Lower *l, Val buf, int64_t elems, int64_t *out)
{
    Step s = step_of(chip_of(l, buf), elems);
    *out = s.off;
    return s.row == 0;
}

/* ---- by DMA ---- */
typedef struct Axis { /* a dim that both sides have; [0] of dst, [1] of src */
    int64_t n, lane[2], off[2];
} Axis;
typedef struct Dim {
    int64_t n, lane, off;
} Dim;
typedef struct Side {
    Val buf;
    const Chip *home;
    Affine off;
    Affine part;  /* first lane, of a tile */
    int64_t lane; /* and of a home */
    bool chip;
} Side;
typedef struct Transfer {
    Side side[2];
    Axis ax[MAX_AXES];
    int n;
} Transfer;

static bool
push_axis(Transfer *t, Axis a)
{
    if (a.n == 1)
        return true;
    if (t->n < MAX_AXES)
        t->ax[t->n++] = a;
    return t->n < MAX_AXES;
}

/* Dims of a pattern over a home, none of which carries from elements to rows, or from rows to what is before them. */
static int
home_dims(const Chip *h, const Ap *ap, Reach *spot, Dim *out)
{
    int n = 0;
    int64_t limit[2] = {h->rows * h->post, h->post};
    for (uint32_t i = 0; i < ap->ndim; i++) {
        int64_t count = ap->dim[i].count, step = ap->dim[i].stride;
        for (int k = 0; k < 2; k++) {
            if (step <= 0 || step >= limit[k] || count * step <= limit[k] || limit[k] % step)
                continue;
            int64_t inner = limit[k] / step;
            if (count % inner)
                return -1;
            out[n++] = (Dim){count / inner, 0, limit[k]};
            count = inner;
        }
        out[n++] = (Dim){count, 0, step};
    }
    for (int i = 0; i < n; i++) {
        if (!spot_extend(h, spot, out[i].n, out[i].off))
            return -1;
        Step s = step_of(h, out[i].off);
        out[i].lane = s.row;
        out[i].off = s.off;
    }
    return n;
}

/* Dims of one side, the outermost first; of a home, lanes are rows as yet. */
static int
side_dims(const Lower *l, const Ref *r, Side *s, Dim *out)
{
    *s = (Side){.buf = r->buf, .off = r->ap.off, .part = r->ap.part};
    s->chip = val_type(l->out, r->buf)->space != SP_hbm;
    s->home = r->ap.nparts == 0 && s->chip ? chip_of(l, r->buf) : NULL;
    if (s->home) {
        Reach spot;
        Affine slot, row;
        if (!spot_of(l, s->home, &r->ap.off, &spot))
            return -1;
        int n = home_dims(s->home, &r->ap, &spot, out);
        s->lane = spot.row.c % (int64_t)l->hw->pmax;
        row = affine_add(spot.row, affine_const(-s->lane));
        bool whole = slot_offset(l, s->home, &row, &slot);
        s->off = affine_add(spot.off, slot);
        return whole && is_inside_home(s->home, &spot) ? n : -1;
    }
    int n = 0;
    if (s->chip)
        out[n++] = (Dim){r->ap.nparts, 1, 0};
    for (uint32_t i = 0; i < r->ap.ndim; i++)
        out[n++] = (Dim){r->ap.dim[i].count, 0, r->ap.dim[i].stride};
    return n;
}

/* The same dims for both: each is cut where the other's end. */
static bool
refine(Transfer *t, Dim *a, int na, Dim *b, int nb)
{
    while (na > 0 && nb > 0) {
        Dim *x = &a[na - 1], *y = &b[nb - 1];
        int64_t n = MIN(x->n, y->n);
        if (x->n == 1 || y->n == 1) {
            na -= x->n == 1;
            nb -= y->n == 1 && x->n != 1;
            continue;
        }
        if (x->n % n || y->n % n || !push_axis(t, (Axis){n, {x->lane, y->lane}, {x->off, y->off}}))
            return false;
        *x = (Dim){x->n / n, x->lane * n, x->off * n};
        *y = (Dim){y->n / n, y->lane * n, y->off * n};
    }
    for (int i = 0; i < t->n / 2; i++) { /* outermost first */
        Axis swap = t->ax[i];
        t->ax[i] = t->ax[t->n - 1 - i];
        t->ax[t->n - 1 - i] = swap;
    }
    return true;
}

/* Rows that are a multiple of all lanes away are in another slot. */
static void
lanes_to_slots(const Lower *l, Transfer *t)
{
    int64_t lanes = (int64_t)l->hw->pmax;
    for (int i = 0; i < t->n; i++)
        for (int s = 0; s < 2; s++)
            if (t->side[s].home && t->ax[i].lane[s] % lanes == 0) {
                t->ax[i].off[s] += t->ax[i].lane[s] / lanes * t->side[s].home->slot;
                t->ax[i].lane[s] = 0;
            }
}

/* The axis whose elements lie one per partition: the longest; -1: none. */
static int
lane_axis(const Transfer *t)
{
    int best = -1;
    for (int i = 0; i < t->n; i++) {
        bool lanes = t->ax[i].lane[0] == 1 || t->ax[i].lane[1] == 1;
        if (lanes && t->ax[i].lane[0] <= 1 && t->ax[i].lane[1] <= 1 && (best < 0 || t->ax[i].n > t->ax[best].n))
            best = i;
    }
    return best;
}

static Ref
side_ref(const Side *s, int k, const Axis *ax, int n, const Axis *main)
{
    bool spread = s->chip && main && main->lane[k] == 1;
    Ref r = {.buf = s->buf, .ap = {.off = s->off, .part = affine_add(s->part, affine_const(s->lane))}};
    if (s->chip)
        r.ap.nparts = spread ? (int32_t)main->n : 1;
    if (main && !spread)
        r.ap.dim[r.ap.ndim++] = (ApDim){main->n, main->off[k]};
    for (int i = 0; i < n; i++)
        r.ap.dim[r.ap.ndim++] = (ApDim){ax[i].n, ax[i].off[k]};
    if (r.ap.ndim == 0)
        r.ap.dim[r.ap.ndim++] = (ApDim){1, 1};
    return r;
}

/* Along how many free axes the DMA has to be repeated: a pattern does not hold them all. */
static int
axes_to_loop(const Lower *l, const Transfer *t, const Axis *main)
{
    int n = 0, most = (int)l->hw->ap_free_dims;
    for (int s = 0; s < 2 && main; s++)
        if (t->side[s].chip && main->lane[s] == 0)
            most = (int)l->hw->ap_free_dims - 1;
    for (int i = 0; i < t->n; i++)
        n += t->ax[i].lane[0] == 0 && t->ax[i].lane[1] == 0;
    return MAX(n - most, 0);
}

static Status
emit_piece(Lower *l, const Transfer *t, const Axis *main)
{
    Side side[2] = {t->side[0], t->side[1]};
    Axis rest[MAX_AXES] = {{0}};
    int n = 0, loops = 0, over = axes_to_loop(l, t, main);
    for (int i = 0; i < t->n; i++) {
        const Axis *a = &t->ax[i];
        bool is_free = a->lane[0] == 0 && a->lane[1] == 0;
        Affine at;
        if (is_free && over-- <= 0) {
            rest[n++] = *a;
            continue;
        }
        TRY(loop_begin(l, a->n, &at));
        loops++;
        for (int s = 0; s < 2; s++) {
            side[s].off = affine_add(side[s].off, affine_scale(at, a->off[s]));
            side[s].part = affine_add(side[s].part, affine_scale(at, a->lane[s]));
        }
    }
    Ref dst = side_ref(&side[0], 0, rest, n, main), src = side_ref(&side[1], 1, rest, n, main);
    TRY(dma(l, K_dma_copy, &dst, &src));
    for (; loops > 0; loops--)
        TRY(k_end(l->out, l->loc));
    return ST_OK;
}

/* n rows further along the main axis. */
static void
advance(const Lower *l, Side *s, int k, const Axis *main, int64_t n)
{
    int64_t lanes = (int64_t)l->hw->pmax;
    if (s->home && main->lane[k] == 1) {
        s->off = affine_add(s->off, affine_const((s->lane + n) / lanes * s->home->slot));
        s->lane = (s->lane + n) % lanes;
    } else if (main->lane[k] == 1) {
        s->part = affine_add(s->part, affine_const(n));
    } else {
        s->off = affine_add(s->off, affine_const(n * main->off[k]));
    }
}

/* The main axis in pieces that wrap around in no home; whole slots together. */
static Status
emit_pieces(Lower *l, Transfer *t, const Axis *main)
{
    int64_t lanes = (int64_t)l->hw->pmax;
    for (int64_t left = main->n, n; left > 0; left -= n) {
        Transfer one = *t;
        Axis piece = *main;
        n = left;
        for (int s = 0; s < 2; s++)
            if (t->side[s].home && main->lane[s] == 1)
                n = MIN(n, lanes - t->side[s].lane);
        piece.n = n;
        int64_t slots = n == lanes ? left / lanes : 1;
        Axis slot = {.n = slots};
        for (int s = 0; s < 2; s++)
            slot.off[s] = t->side[s].home && main->lane[s] == 1 ? t->side[s].home->slot : lanes * main->off[s];
        one.n = 0;
        push_axis(&one, slot);
        for (int i = 0; i < t->n; i++)
            push_axis(&one, t->ax[i]);
        TRY(emit_piece(l, &one, &piece));
        n *= slots;
        for (int s = 0; s < 2; s++)
            advance(l, &t->side[s], s, main, n);
    }
    return ST_OK;
}

/* What lies along lanes beyond the main axis: few enough DMAs, and within the lanes that there are. */
static bool
may_loop_lanes(const Lower *l, const Transfer *t, const Axis *main)
{
    int64_t times = 1, last[2] = {0, 0};
    for (int i = 0; i < t->n; i++) {
        if (t->ax[i].lane[0] || t->ax[i].lane[1])
            times *= t->ax[i].n;
        for (int s = 0; s < 2; s++)
            last[s] += (t->ax[i].n - 1) * t->ax[i].lane[s];
    }
    for (int s = 0; s < 2; s++) {
        int64_t own = main && main->lane[s] ? main->n - 1 : 0;
        if (t->side[s].home && last[s] && t->side[s].lane + last[s] + own >= (int64_t)l->hw->pmax)
            return false;
    }
    return times <= LANE_LOOPS;
}

static bool
match_sides(const Lower *l, const Ref *dst, const Ref *src, Transfer *t)
{
    Dim a[MAX_AXES], b[MAX_AXES];
    int na = side_dims(l, dst, &t->side[0], a), nb = side_dims(l, src, &t->side[1], b);
    t->n = 0;
    if (na < 0 || nb < 0 || !refine(t, a, na, b, nb))
        return false;
    lanes_to_slots(l, t);
    return true;
}

Status
refuse_home(Lower *l, Val buf)
{
    const Chip *h = chip_of(l, buf);
    if (!l->refused)
        return fail(l->cx, ST_LIMIT, l->loc,
                    "NKI-4022 lower: a value cannot be moved to or from where it lives in SBUF");
    l->refused[h->v.i] = true;
    return ST_OK;
}

static bool
is_in_home(const Lower *l, const Ref *r)
{
    return r->ap.nparts == 0 && val_type(l->out, r->buf)->space == SP_sbuf;
}

/* From lanes to a row of one lane, or back, within SBUF: both operands of a DMA have one shape, lanes first. */
static bool
turns_on_chip(const Lower *l, const Ref *dst, const Ref *src, const Axis *main)
{
    bool sbuf = val_type(l->out, dst->buf)->space == SP_sbuf && val_type(l->out, src->buf)->space == SP_sbuf;
    return sbuf && main->lane[0] != main->lane[1];
}

Status
transfer(Lower *l, const Ref *dst, const Ref *src)
{
    Transfer t;
    Axis main;
    bool to = is_in_home(l, dst), from = is_in_home(l, src);
    if (!to && !from)
        return dma(l, K_dma_copy, dst, src);
    bool ok = match_sides(l, dst, src, &t);
    int k = ok ? lane_axis(&t) : -1;
    if (k >= 0 && turns_on_chip(l, dst, src, &t.ax[k]))
        k = -1;
    if (k >= 0) {
        main = t.ax[k];
        memmove(&t.ax[k], &t.ax[k + 1], (size_t)(--t.n - k) * sizeof(Axis));
    }
    if (!ok || !may_loop_lanes(l, &t, k >= 0 ? &main : NULL))
        return refuse_home(l, to ? dst->buf : src->buf);
    return k >= 0 ? emit_pieces(l, &t, &main) : emit_piece(l, &t, NULL);
}

/* ---- where homes begin ---- */
Status
home_declare(Lower *l, Val v)
{
    const Type *t = val_type(l->g, v);
    const Home *home = &l->p->home[v.i];
    DType dt = t->dtype == DT_bool ? DT_u8 : (DType)t->dtype;
    Chip *h = &l->chip[v.i];
    if (h->buf.i)
        return ST_OK;
    *h = (Chip){.v = v, .rows = range_size(t, home->rows), .post = 1};
    for (int i = home->rows.hi; i < t->rank; i++)
        h->post *= t->dim[i];
    h->slot = type_numel(t) / h->rows;
    int64_t lanes = (int64_t)l->hw->pmax;
    TRY(new_buffer(l, SP_sbuf, dt, (int)MIN(h->rows, lanes), CEIL_DIV(h->rows, lanes) * h->slot, 1, &h->buf));
    VEC_PUSH(l->cx, l->a, &l->chips, v);
    return ST_OK;
}
