/* reverse.c - elements that move within HBM the other way round, with no stride that is negative.
 *
 * in:   a move, some of whose dims are read backwards
 * out:  loads of 32 rows along the longest of these dims, forwards, the quadrants in the order that the result has; a
 *       shuffle that turns each quadrant around; a store of all its rows. Other such dims become loops that begin at
 *       their end
 * rule: what lies behind the rows is a run on chip; the part of it that does not fit becomes loops. Data is not
 * computed with, so that every bit pattern stays.
 */
#include "lower/context.h"

#define RUN_BYTES 16384 /* of a row at a time: two tiles of it, twice each, are a third of a partition */
#define RUN_DIMS 4      /* behind the rows, in the pattern of a DMA */

typedef struct Flip { /* a move of rows, one of which has the dims from `first` on */
    Move m;           /* m.from[row] counts forwards: row k of the result is row n - 1 - k of the source */
    int row, first;
    int64_t width; /* elements of a row at a time */
    DType dt;      /* on chip */
    bool in_loop;  /* then tiles rotate */
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

/* Rows [at, at + rows) of the result: whole quadrants, or less than one. */
static Status
turn_tile(Lower *l, const Flip *t, Affine at, int64_t rows)
{
    int64_t lanes = MIN(rows, SHUFFLE_LANES), quads = rows / lanes, mask[SHUFFLE_LANES] = {0};
    int bufs = t->in_loop || at.nterms ? 2 : 1;
    Val in, out;
    Affine q;
    for (int i = 0; i < lanes; i++)
        mask[i] = lanes - 1 - i;
    TRY(new_buffer(l, SP_sbuf, t->dt, (int)rows, t->width, bufs, &in));
    TRY(new_buffer(l, SP_sbuf, t->dt, (int)rows, t->width, bufs, &out));
    TRY(loop_begin(l, quads, &q));
    Affine last = affine_add(affine_scale(at, -1), affine_scale(q, -SHUFFLE_LANES));
    last = affine_add(last, affine_const(t->m.dims.count[t->row] - lanes));
    Ref src = flip_rows(t, &t->m.src, t->m.dims.from, last, lanes);
    Ref dst = rows_on_chip(t, in, affine_scale(q, SHUFFLE_LANES), lanes);
    TRY(dma(l, K_dma_copy, &dst, &src));
    TRY(loop_end_of(l, quads));
    Ref io[2] = {rows_on_chip(t, out, affine_const(0), rows), rows_on_chip(t, in, affine_const(0), rows)};
    AttrItem attr = AT_INTS(A_mask, mask, SHUFFLE_LANES);
    TRY(emit(l, K_nc_stream_shuffle, io, 2, &attr, 1));
    dst = flip_rows(t, &t->m.dst, t->m.dims.to, at, rows);
    return dma(l, K_dma_copy, &dst, &io[0]);
}

static Status
turn_rows(Lower *l, const Flip *t)
{
    int64_t n = t->m.dims.count[t->row], tiles = n / l->hw->pmax, whole = tiles * l->hw->pmax;
    int64_t lanes = n % SHUFFLE_LANES, quads = n - whole - lanes;
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

/* The dim read backwards that has the most rows, from then on read forwards. */
static void
choose_rows(Flip *t)
{
    Move *m = &t->m;
    t->row = -1;
    for (int i = 0; i < m->dims.n; i++)
        if (m->dims.from[i] < 0 && (t->row < 0 || m->dims.count[i] > m->dims.count[t->row]))
            t->row = i;
    m->src.ap.off = affine_add(m->src.ap.off, affine_const(m->dims.from[t->row] * (m->dims.count[t->row] - 1)));
    m->dims.from[t->row] = -m->dims.from[t->row];
}

/* As many dims at the end as fit; *cut of the one before them, 1 when it is a loop. */
static void
choose_run(Flip *t, int64_t *cut)
{
    const Move *m = &t->m;
    int64_t most = RUN_BYTES / dtypes[t->dt].bytes;
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
    choose_rows(&t);
    choose_run(&t, &cut);
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
