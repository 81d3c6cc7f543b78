/* reverse.c - elements that move within HBM the other way round, with no stride that is negative.
 *
 * in:   a move, some of whose dims are read backwards
 * out:  loads of rows along one of the dims, forwards; on chip they are turned around; a store of all of them. Rows
 * that go backwards are loaded 32 at a time, the quadrants in the order that the result has, and a shuffle turns each
 *       quadrant around. What goes backwards within a row is turned digit by digit, by copies from buffer to buffer.
 *       Other dims that go backwards become loops that begin at their end
 * rule: what lies behind the rows is a run on chip; the part of it that does not fit becomes loops. Data is not
 * computed with, so that every bit pattern stays.
 */
#include "lower/context.h"
#include "lower/digits.h"

#define RUN_BYTES 16384 /* of a row at a time: two tiles of it, twice each, are a third of a partition */
#define RUN_DIMS 4      /* behind the rows, in the pattern of a DMA */
#define FAR_BYTES 512   /* of what lies behind a dim: its elements are rows, and nothing is turned within them */

typedef struct Flip { /* a move of rows, one of which has the dims from `first` on */
    Move m;           /* m.from of what goes backwards counts forwards: row k of the result is row n - 1 - k of it */
    int row, first;
    int64_t width; /* elements of a row at a time */
    DType dt;      /* on chip */
    bool in_loop;  /* then tiles rotate */
    bool back[MAX_RANK]; /* by dim: the rows go backwards, or what is in one of them */
} Flip;

static Ref
flip_rows(const Flip *t, const Ref *base, const int64_t *stride, Affine row, int64_t rows)
{
    Ref r = *base;
    r.ap.off = affine_add(r.ap.off, affine_scale(row, stride[t->row]));
    r.ap.ndim = 0;
    r.ap.dim[r.ap.ndim++] = (ApDim){rows, stride[t->row]};
    for (int i = t->first; i < t->m.dims.n; i++)
        r.ap.dim[r.ap.ndim++] = (ApDim){t->m.dims.count[i], stride[i]};
    return r;
}

/* The same dims, as a run. */
static Ref
rows_on_chip(const Flip *t, Val buf, Affine part, int64_t rows)
{
    Ref r = {.buf = buf, .ap = {.part = part, .nparts = (int32_t)rows}};
    int64_t stride = t->width;
    for (int i = t->first; i < t->m.dims.n; i++) {
        stride /= t->m.dims.count[i];
        r.ap.dim[r.ap.ndim++] = (ApDim){t->m.dims.count[i], stride};
    }
    return r;
}

static Status
new_rows(Lower *l, const Flip *t, Affine at, int64_t rows, Ref *out)
{
    Val buf;
    TRY(new_buffer(l, SP_sbuf, t->dt, (int)rows, t->width, t->in_loop || at.nterms ? 2 : 1, &buf));
    *out = rows_on_chip(t, buf, affine_const(0), rows);
    return ST_OK;
}

/* Rows [at, at + rows) of the result, in the order of the source: whole quadrants, or less than one. */
static Status
load_backwards(Lower *l, const Flip *t, Affine at, int64_t rows, Ref *out)
{
    int64_t lanes = MIN(rows, SHUFFLE_LANES), quads = rows / lanes;
    Affine q;
    TRY(new_rows(l, t, at, rows, out));
    TRY(loop_begin(l, quads, &q));
    Affine last = affine_add(affine_scale(at, -1), affine_scale(q, -SHUFFLE_LANES));
    last = affine_add(last, affine_const(t->m.dims.count[t->row] - lanes));
    Ref src = flip_rows(t, &t->m.src, t->m.dims.from, last, lanes);
    Ref dst = rows_on_chip(t, out->buf, affine_scale(q, SHUFFLE_LANES), lanes);
    TRY(transfer(l, &dst, &src));
    return loop_end_of(l, quads);
}

static Status
load_forwards(Lower *l, const Flip *t, Affine at, int64_t rows, Ref *out)
{
    Ref src = flip_rows(t, &t->m.src, t->m.dims.from, at, rows);
    TRY(new_rows(l, t, at, rows, out));
    return transfer(l, out, &src);
}

/* A row as [before][digit][after], the digit the other way round in another buffer; the rows as well when `shuffles`.
 */
static Status
turn_digit(Lower *l, const Flip *t, Affine at, int64_t digit, int64_t after, bool shuffles, Ref *rows)
{
    int64_t mask[SHUFFLE_LANES] = {0}, lanes = MIN((int64_t)rows->ap.nparts, SHUFFLE_LANES);
    Ref to, io[2];
    for (int i = 0; i < lanes; i++)
        mask[i] = lanes - 1 - i;
    AttrItem attr = AT_INTS(A_mask, mask, SHUFFLE_LANES);
    TRY(new_rows(l, t, at, rows->ap.nparts, &to));
    for (int64_t i = 0; i < digit; i++) {
        Ap ap = {.nparts = rows->ap.nparts, .off = affine_const(i * after)};
        if (t->width > digit * after)
            ap.dim[ap.ndim++] = (ApDim){t->width / digit / after, digit * after};
        ap.dim[ap.ndim++] = (ApDim){after, 1};
        io[1] = (Ref){.buf = rows->buf, .ap = ap};
        ap.off = affine_const((digit - 1 - i) * after);
        io[0] = (Ref){.buf = to.buf, .ap = ap};
        TRY(emit(l, shuffles ? K_nc_stream_shuffle : K_tensor_copy, io, 2, shuffles ? &attr : NULL, shuffles));
    }
    *rows = to;
    return ST_OK;
}

/* Digit by digit; rows that go backwards along with the first of them. */
static Status
turn_within(Lower *l, const Flip *t, Affine at, Ref *rows)
{
    int64_t after = 1, digit[MAX_DIGITS];
    bool shuffles = t->back[t->row];
    for (int i = t->m.dims.n; i-- > t->first;) {
        int n = t->back[i] ? digits_of(t->m.dims.count[i], digit) : 0;
        int64_t below = after;
        for (int k = 0; k < n; k++, shuffles = false) {
            TRY(turn_digit(l, t, at, digit[k], below, shuffles, rows));
            below *= digit[k];
        }
        after *= t->m.dims.count[i];
    }
    return shuffles ? turn_digit(l, t, at, 1, t->width, true, rows) : ST_OK;
}

static Status
turn_tile(Lower *l, const Flip *t, Affine at, int64_t rows)
{
    Ref now;
    TRY(t->back[t->row] ? load_backwards(l, t, at, rows, &now) : load_forwards(l, t, at, rows, &now));
    TRY(turn_within(l, t, at, &now));
    now = rows_on_chip(t, now.buf, affine_const(0), rows);
    Ref dst = flip_rows(t, &t->m.dst, t->m.dims.to, at, rows);
    return transfer(l, &dst, &now);
}

static Status
turn_rows(Lower *l, const Flip *t)
{
    int64_t n = t->m.dims.count[t->row], tiles = n / l->hw->pmax, whole = tiles * l->hw->pmax;
    int64_t lanes = t->back[t->row] ? n % SHUFFLE_LANES : 0, quads = n - whole - lanes;
    Affine i;
    if (tiles > 0) {
        TRY(loop_begin(l, tiles, &i));
        TRY(turn_tile(l, t, affine_scale(i, l->hw->pmax), l->hw->pmax));
        TRY(loop_end_of(l, tiles));
    }
    if (quads > 0)
        TRY(turn_tile(l, t, affine_const(whole), quads));
    return lanes > 0 ? turn_tile(l, t, affine_const(whole + quads), lanes) : ST_OK;
}

/* From now on dim i is read forwards. */
static void
set_back(Flip *t, int i)
{
    Move *m = &t->m;
    m->src.ap.off = affine_add(m->src.ap.off, affine_const(m->dims.from[i] * (m->dims.count[i] - 1)));
    m->dims.from[i] = -m->dims.from[i];
    t->back[i] = true;
}

/* The dim at which a row begins that turns around within itself: the last one that goes backwards, if the elements
 * behind it leave room; only a run of it, which becomes a dim of its own. 0: there is none. */
static int
split_run(Flip *t)
{
    Strided *d = &t->m.dims;
    int at = d->n - 1;
    int64_t behind = dtypes[t->dt].bytes, before = 1;
    for (; at >= 0 && d->from[at] > 0; at--)
        behind *= d->count[at];
    if (at < 0 || behind >= FAR_BYTES || d->n == MAX_RANK || d->n - at >= RUN_DIMS)
        return 0;
    for (int i = 0; i < at; i++)
        before *= d->count[i];
    int64_t n = d->count[at], run = run_to_turn(n, before, behind);
    if (n % run != 0)
        return 0;
    for (int i = d->n++; i > at; i--) {
        d->count[i] = d->count[i - 1];
        d->to[i] = d->to[i - 1];
        d->from[i] = d->from[i - 1];
    }
    d->count[at] = n / run;
    d->to[at] *= run;
    d->from[at] *= run;
    d->count[at + 1] = run;
    return at + 1;
}

/* The rows are the dim that fills the partitions best, of those before dim `run`, and come first: of others that go
 * forwards, rows have as many as fit. */
static void
choose_rows(Flip *t, int run)
{
    Strided *d = &t->m.dims, old = *d;
    int best = 0, n = 1;
    for (int i = 1; i < run; i++) {
        int64_t lanes = MIN(d->count[i], 128), most = MIN(d->count[best], 128);
        if (lanes > most || (lanes == most && d->from[i] > 0 && d->from[best] < 0))
            best = i;
    }
    for (int i = 0; i < old.n; i++) {
        int to = i == best ? 0 : n++;
        d->count[to] = old.count[i];
        d->to[to] = old.to[i];
        d->from[to] = old.from[i];
    }
    t->row = 0;
}

/* As many dims at the end as fit; *cut of the one before them, 1 when it is a loop. */
static void
choose_run(Flip *t, int64_t bytes, int64_t *cut)
{
    const Move *m = &t->m;
    int64_t most = bytes / dtypes[t->dt].bytes;
    t->width = *cut = 1;
    for (t->first = m->dims.n; t->first > t->row + 1 && t->first > m->dims.n - RUN_DIMS; t->first--) {
        int64_t count = m->dims.count[t->first - 1];
        if (m->dims.from[t->first - 1] < 0)
            return;
        if (t->width * count > most) {
            *cut = most / t->width;
            return;
        }
        t->width *= count;
    }
}

static Status
begin_dim(Lower *l, Flip *t, int i, int64_t count, int64_t step)
{
    Affine at;
    TRY(loop_begin(l, count, &at));
    t->in_loop |= count > 1;
    t->m.dst.ap.off = affine_add(t->m.dst.ap.off, affine_scale(at, step * t->m.dims.to[i]));
    t->m.src.ap.off = affine_add(t->m.src.ap.off, affine_scale(at, step * t->m.dims.from[i]));
    return ST_OK;
}

/* Elements [from, from + count * size) of the dim before the run, size at a time. */
static Status
turn_pieces(Lower *l, const Flip *t, int64_t from, int64_t count, int64_t size)
{
    Flip p = *t;
    int i = --p.first;
    if (count == 0 || size == 0)
        return ST_OK;
    p.m.dst.ap.off = affine_add(p.m.dst.ap.off, affine_const(from * p.m.dims.to[i]));
    p.m.src.ap.off = affine_add(p.m.src.ap.off, affine_const(from * p.m.dims.from[i]));
    TRY(begin_dim(l, &p, i, count, size));
    p.m.dims.count[i] = size;
    p.width *= size;
    TRY(turn_rows(l, &p));
    return loop_end_of(l, count);
}

Status
move_reversed(Lower *l, const Move *m, DType dt)
{
    Flip t = {.m = *m, .dt = dt == DT_bool ? DT_u8 : dt};
    int64_t cut;
    int run = split_run(&t);
    choose_rows(&t, run > 0 ? run : MAX(t.m.dims.n - 1, 1));
    if (t.m.dims.from[t.row] < 0)
        set_back(&t, t.row);
    if (run > 0)
        set_back(&t, run);
    choose_run(&t, run > 0 ? TURNED_BYTES : RUN_BYTES, &cut);
    int piece = cut > 1 ? t.first - 1 : -1;
    for (int i = 0; i < t.first; i++)
        if (i != t.row && i != piece)
            TRY(begin_dim(l, &t, i, t.m.dims.count[i], 1));
    if (piece < 0) {
        TRY(turn_rows(l, &t));
    } else {
        int64_t n = t.m.dims.count[piece];
        TRY(turn_pieces(l, &t, 0, n / cut, cut));
        TRY(turn_pieces(l, &t, n / cut * cut, 1, n % cut));
    }
    for (int i = 0; i < t.first; i++)
        if (i != t.row && i != piece)
            TRY(loop_end_of(l, t.m.dims.count[i]));
    return ST_OK;
}
