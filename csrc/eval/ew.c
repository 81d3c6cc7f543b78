/* ew.c - element-wise instructions: copies, fills, selects, the ALU and the activation unit.
 *
 * Operands become f32 chunks, operators run over chunks in the first-level cache, results round to the destination.
 * Bit operators, and 32-bit integers on gpsimd, use exact integers instead.
 */
#include "eval/machine.h"

#include <string.h>

Status
need_same(Machine *m, const Instr *in, int i, int j)
{
    const Opnd *a = &in->opnd[i], *b = &in->opnd[j];
    if (a->nparts == b->nparts && a->count == b->count)
        return ST_OK;
    char x[64], y[64];
    return bad(m, in, "%s: %s has %d partitions of %lld elements, %s has %d of %lld", op_def(m->g, in->op)->name,
               opnd_name(m, in, i, x), a->nparts, (long long)a->count, opnd_name(m, in, j, y), b->nparts,
               (long long)b->count);
}

/* [P, 1] with the partitions of `like` */
static Status
need_column(Machine *m, const Instr *in, int i, int like)
{
    const Opnd *a = &in->opnd[i], *b = &in->opnd[like];
    if (!has_opnd(in, i) || (a->nparts == b->nparts && a->count == 1))
        return ST_OK;
    char x[64];
    return bad(m, in, "%s: %s needs %d partitions of 1 element, has %d of %lld", op_def(m->g, in->op)->name,
               opnd_name(m, in, i, x), b->nparts, a->nparts, (long long)a->count);
}

static Status
need_op(Machine *m, const Instr *in, int op)
{
    if (op > ALU_none && op < ALU_COUNT && (alu_fns[op] || is_bitvec(op)))
        return ST_OK;
    return bad(m, in, "%s needs an operator", op_def(m->g, in->op)->name);
}

/* ---- copies and fills ---- */

Status
eval_tensor_copy(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[KI_dst];
    TRY(need_same(m, in, KI_dst, KI_src));
    if (d->dtype == in->opnd[KI_src].dtype) {
        Walk wd, ws;
        walk_open(&wd, m, in, KI_dst);
        walk_open(&ws, m, in, KI_src);
        walk_copy(&wd, &ws, d->nparts * d->count);
        return ST_OK;
    }
    Chunks c;
    Stream sd, ss;
    chunks_start(&c, in, (const int[]){0, 1}, 2, d->nparts, d->count);
    stream_open(&sd, m, in, KI_dst);
    stream_open(&ss, m, in, KI_src);
    while (chunks_next(&c)) {
        float *y = stream_out(&sd, c.n);
        const float *x = stream_in(&ss, c.n);
        if (sd.in_place)
            memmove(y, x, (size_t)c.n * sizeof(float));
        stream_put(&sd, c.n, x);
    }
    return ST_OK;
}

Status
eval_memset(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[KI_dst];
    uint8_t *fill = m->stage[1];
    Walk w;
    dtype_store((DType)d->dtype, in->imm0, fill);
    copy_strided(d->bytes, MIN(CHUNK, d->nparts * d->count), fill, d->bytes, fill, 0);
    walk_open(&w, m, in, KI_dst);
    for (int64_t left = d->nparts * d->count, n; left > 0; left -= n) {
        n = MIN(left, CHUNK);
        walk_scatter(&w, n, fill);
    }
    return ST_OK;
}

#define SELECT_LOOP(T)                                               \
    do {                                                             \
        T *to = (T *)(void *)d;                                      \
        const T *from = (const T *)(const void *)s;                  \
        IVDEP                                                        \
        for (int64_t i = 0; i < n; i++) {                            \
            T old = to[i], new = from[i];                            \
            to[i] = (mask[i] == 0.0f) == zero ? new : old;           \
        }                                                            \
    } while (0)

/* d = s where the mask is not zero (where it is, when `zero`); raw elements, staged and so aligned */
CLONES static void
select_raw(int bytes, int64_t n, uint8_t *d, const uint8_t *s, const float *mask, bool zero)
{
    if (bytes == 4)
        SELECT_LOOP(uint32_t);
    else if (bytes == 2)
        SELECT_LOOP(uint16_t);
    else if (bytes == 1)
        SELECT_LOOP(uint8_t);
    else
        SELECT_LOOP(uint64_t);
}

/* y = mask ? x : f, with one f for all unless flat */
CLONES static void
select_f32(int64_t n, float *y, const float *mask, const float *x, const float *f, bool flat, bool reverse)
{
    if (flat) {
        IVDEP
        for (int64_t i = 0; i < n; i++) {
            float yes = x[i], no = f[i];
            y[i] = (mask[i] != 0.0f) != reverse ? yes : no;
        }
        return;
    }
    const float no = *f;
    IVDEP
    for (int64_t i = 0; i < n; i++) {
        float yes = x[i];
        y[i] = (mask[i] != 0.0f) != reverse ? yes : no;
    }
}

/* The next n elements of operand i in the dtype of operand 0, raw. */
static const uint8_t *
raw_like_dst(Machine *m, const Instr *in, int i, Walk *w, Stream *s, int64_t n, uint8_t *buf)
{
    const Opnd *d = &in->opnd[KI_dst];
    if (in->opnd[i].dtype == d->dtype)
        walk_gather(w, n, buf);
    else
        round_to(m, (DType)d->dtype, stream_in(s, n), n, buf);
    return buf;
}

Status
eval_tensor_copy_predicated(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[KI_dst];
    TRY(need_same(m, in, KI_dst, KI_src));
    TRY(need_same(m, in, KI_dst, 2));
    Walk read, write, src;
    Stream ss, pred;
    walk_open(&read, m, in, KI_dst);
    write = read;
    walk_open(&src, m, in, KI_src);
    stream_open(&ss, m, in, KI_src);
    stream_open(&pred, m, in, 2);
    for (int64_t left = d->nparts * d->count, n; left > 0; left -= n) {
        n = MIN(left, CHUNK);
        const uint8_t *x = raw_like_dst(m, in, KI_src, &src, &ss, n, m->stage[6]);
        walk_gather(&read, n, m->stage[7]);
        select_raw(d->bytes, n, m->stage[7], x, stream_in(&pred, n), in->reverse_pred);
        walk_scatter(&write, n, m->stage[7]);
    }
    return ST_OK;
}

Status
eval_select_reduce(Machine *m, const Instr *in)
{
    enum { DST, PRED, TRUE_, FALSE_ };
    const Opnd *d = &in->opnd[DST];
    TRY(need_same(m, in, DST, PRED));
    TRY(need_same(m, in, DST, TRUE_));
    TRY(need_column(m, in, FALSE_, DST));
    Chunks c;
    Stream sd, sp, st;
    Scalars sf;
    chunks_start(&c, in, (const int[]){DST, PRED, TRUE_}, 3, d->nparts, d->count);
    stream_open(&sd, m, in, DST);
    stream_open(&sp, m, in, PRED);
    stream_open(&st, m, in, TRUE_);
    scalars_open(&sf, m, in, FALSE_, (float)in->imm0, c.flat, d->count);
    while (chunks_next(&c)) {
        float *y = stream_out(&sd, c.n);
        const float *p = stream_in(&sp, c.n), *x = stream_in(&st, c.n), *f = scalars_next(&sf, &c);
        select_f32(c.n, y, p, x, f, c.flat, in->reverse_pred);
        stream_put(&sd, c.n, y);
    }
    return ST_OK;
}

/* ---- affine index values ---- */

/* keep = 1 where (v op 0), else 0 */
CLONES static void
compare_zero(int op, int64_t n, const int32_t *v, float *keep)
{
#define COMPARE(id, OP)                       \
    case ALU_##id:                            \
        for (int64_t i = 0; i < n; i++)       \
            keep[i] = v[i] OP 0 ? 1.0f : 0.0f; \
        break
    switch (op) {
        COMPARE(equal, ==);
        COMPARE(not_equal, !=);
        COMPARE(greater_equal, >=);
        COMPARE(greater, >);
        COMPARE(less_equal, <=);
        COMPARE(less, <);
    }
#undef COMPARE
}

/* offset + part * channel_multiplier + sum step * index for elements [first, first + n) of a row; wraps as int32 */
static int32_t *
affine_values(Machine *m, const Instr *in, int64_t part, int64_t first, int64_t n, int32_t *out)
{
    (void)m;
    int dims = in->nints / 2;
    int64_t inner = in->ints[2 * dims - 1], step = in->ints[2 * dims - 2];
    for (int64_t done = 0, r; done < n; done += r) {
        int64_t at = first + done, k = at % inner, rest = at / inner;
        uint64_t v = (uint64_t)in->offset + (uint64_t)part * (uint64_t)in->channel;
        for (int d = dims - 2; d >= 0; d--) {
            v += (uint64_t)in->ints[2 * d] * (uint64_t)(rest % in->ints[2 * d + 1]);
            rest /= in->ints[2 * d + 1];
        }
        r = MIN(n - done, inner - k);
        uint32_t at0 = (uint32_t)(v + (uint64_t)step * (uint64_t)k), by = (uint32_t)step;
        for (uint32_t j = 0; j < (uint32_t)r; j++)
            out[done + j] = (int32_t)(at0 + by * j);
    }
    return out;
}

static Status
need_pattern(Machine *m, const Instr *in)
{
    int64_t n = 1;
    bool ok = in->nints >= 2 && in->nints % 2 == 0;
    for (int d = 1; ok && d < in->nints; d += 2)
        ok = in->ints[d] > 0 && !__builtin_mul_overflow(n, in->ints[d], &n);
    if (ok && n == in->opnd[KI_dst].count)
        return ST_OK;
    return bad(m, in, "%s: the pattern does not give %lld elements", op_def(m->g, in->op)->name,
               (long long)in->opnd[KI_dst].count);
}

static void
ints_to(DType dt, const int32_t *v, int64_t n, float *f32, uint8_t *out)
{
    if (dt == DT_i32 || dt == DT_u32) {
        memcpy(out, v, (size_t)n * sizeof(*v));
        return;
    }
    for (int64_t i = 0; i < n; i++)
        f32[i] = (float)v[i];
    dtype_from_f32(dt, f32, n, out, 1);
}

Status
eval_iota(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[KI_dst];
    TRY(need_pattern(m, in));
    Walk w;
    walk_open(&w, m, in, KI_dst);
    for (int64_t p = 0; p < d->nparts; p++)
        for (int64_t at = 0, n; at < d->count; at += n) {
            n = MIN(d->count - at, CHUNK);
            int32_t *v = affine_values(m, in, p, at, n, (int32_t *)(void *)m->stage[4]);
            ints_to((DType)d->dtype, v, n, (float *)(void *)m->stage[5], m->stage[6]);
            walk_scatter(&w, n, m->stage[6]);
        }
    return ST_OK;
}

Status
eval_affine_select(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[KI_dst];
    TRY(need_same(m, in, KI_dst, KI_src));
    TRY(need_pattern(m, in));
    if (in->op0 < ALU_equal || in->op0 > ALU_less)
        return bad(m, in, "affine_select needs a comparison");
    uint8_t *fill = m->stage[3], *got = m->stage[7];
    float *keep = (float *)(void *)m->stage[5];
    for (int64_t k = 0; k < MIN(CHUNK, d->count); k++)
        keep[k] = (float)in->imm0;
    dtype_from_f32((DType)d->dtype, keep, MIN(CHUNK, d->count), fill, 1);
    Walk wd, ws;
    Stream ss;
    walk_open(&wd, m, in, KI_dst);
    walk_open(&ws, m, in, KI_src);
    stream_open(&ss, m, in, KI_src);
    for (int64_t p = 0; p < d->nparts; p++)
        for (int64_t at = 0, n; at < d->count; at += n) {
            n = MIN(d->count - at, CHUNK);
            int32_t *v = affine_values(m, in, p, at, n, (int32_t *)(void *)m->stage[4]);
            compare_zero(in->op0, n, v, keep);
            raw_like_dst(m, in, KI_src, &ws, &ss, n, got);
            select_raw(d->bytes, n, got, fill, keep, true);
            walk_scatter(&wd, n, got);
        }
    return ST_OK;
}

/* ---- integers ---- */

static bool
is_word(DType d)
{
    return d == DT_i32 || d == DT_u32;
}

static Status
ints_in(Machine *m, const Instr *in, int i, Walk *w, int64_t n, int64_t *out)
{
    DType dt = (DType)in->opnd[i].dtype;
    if (is_float(dt)) {
        char x[64];
        return bad(m, in, "%s: a bit operator needs integers, %s is %s", op_def(m->g, in->op)->name,
                   opnd_name(m, in, i, x), dtypes[dt].name);
    }
    uint8_t *raw = m->stage[i];
    walk_gather(w, n, raw);
    for (int64_t k = 0; k < n; k++)
        out[k] = dtype_load_int(dt, raw + k * w->bytes);
    return ST_OK;
}

/* Words and bit operators keep the low bits; everything else converts as the hardware does. */
static void
ints_out(Machine *m, const Instr *in, int op, Walk *w, int64_t n, const int64_t *v)
{
    DType dt = (DType)in->opnd[KI_dst].dtype;
    uint8_t *raw = m->stage[KI_dst];
    bool wrap = is_integer(dt) && (is_word(dt) || is_bitvec(op));
    for (int64_t k = 0; k < n; k++)
        if (wrap)
            memcpy(raw + k * w->bytes, &v[k], (size_t)w->bytes);
        else
            dtype_store(dt, (double)v[k], raw + k * w->bytes);
    walk_scatter(w, n, raw);
}

static Status
tensor_tensor_int(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0];
    int64_t *a = (int64_t *)(void *)m->stage[4], *b = (int64_t *)(void *)m->stage[5];
    int bits = 8 * in->opnd[1].bytes;
    Walk w[3];
    for (int i = 0; i < 3; i++)
        walk_open(&w[i], m, in, i);
    for (int64_t left = d->nparts * d->count, n; left > 0; left -= n) {
        n = MIN(left, CHUNK);
        TRY(ints_in(m, in, 1, &w[1], n, a));
        TRY(ints_in(m, in, 2, &w[2], n, b));
        for (int64_t i = 0; i < n; i++)
            a[i] = alu_int(in->op0, a[i], b[i], bits);
        ints_out(m, in, in->op0, &w[0], n, a);
    }
    return ST_OK;
}

/* One integer per partition: operand i, or the immediate. */
static Status
int_scalar(Machine *m, const Instr *in, int i, double imm, int64_t p, int64_t *out)
{
    if (!has_opnd(in, i)) {
        *out = imm > -9e18 && imm < 9e18 ? (int64_t)imm : 0;
        return ST_OK;
    }
    const Opnd *o = &in->opnd[i];
    if (is_float((DType)o->dtype)) { /* a [P, 1] f32 tile: its value */
        double v = dtype_load((DType)o->dtype, m->view[i].p + p * m->view[i].st->pitch);
        *out = v > -9e18 && v < 9e18 ? (int64_t)v : 0;
        return ST_OK;
    }
    *out = dtype_load_int((DType)o->dtype, m->view[i].p + p * m->view[i].st->pitch);
    return ST_OK;
}

static Status
tensor_scalar_int(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0];
    int64_t *a = (int64_t *)(void *)m->stage[4], f[2];
    int bits = 8 * in->opnd[1].bytes;
    Walk wd, ws;
    walk_open(&wd, m, in, 0);
    walk_open(&ws, m, in, 1);
    if (in->op1 != ALU_none && !has_alu_int(in->op1))
        return bad(m, in, "tensor_scalar: a bit operator combines with integer operators only");
    for (int64_t p = 0; p < d->nparts; p++) {
        TRY(int_scalar(m, in, 2, in->imm0, p, &f[0]));
        TRY(int_scalar(m, in, 3, in->imm1, p, &f[1]));
        for (int64_t at = 0, n; at < d->count; at += n) {
            n = MIN(d->count - at, CHUNK);
            TRY(ints_in(m, in, 1, &ws, n, a));
            for (int64_t i = 0; i < n; i++)
                a[i] = in->reverse0 ? alu_int(in->op0, f[0], a[i], bits) : alu_int(in->op0, a[i], f[0], bits);
            for (int64_t i = 0; in->op1 != ALU_none && i < n; i++)
                a[i] = in->reverse1 ? alu_int(in->op1, f[1], a[i], bits) : alu_int(in->op1, a[i], f[1], bits);
            ints_out(m, in, in->op0, &wd, n, a);
        }
    }
    return ST_OK;
}

/* ---- ALU ---- */

/* y = x op f, or f op x when reversed; f a single value unless flat */
static Status
apply(Machine *m, const Instr *in, int op, float *y, const float *x, const float *f, int64_t n, bool flat, bool reverse)
{
    TRY(check_logic(m, in, op, x, n));
    TRY(check_logic(m, in, op, f, flat ? n : 1));
    alu_apply(op, y, x, f, n, flat, reverse);
    return ST_OK;
}

Status
eval_tensor_tensor(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0], *a = &in->opnd[1], *b = &in->opnd[2];
    TRY(need_same(m, in, 0, 1));
    TRY(need_same(m, in, 0, 2));
    TRY(need_op(m, in, in->op0));
    bool words = in->engine == EN_gpsimd && is_word((DType)a->dtype) && is_word((DType)b->dtype);
    if (is_bitvec(in->op0) || (words && has_alu_int(in->op0))) {
        TRY(check_logic_operand(m, in, in->op0, 1));
        TRY(check_logic_operand(m, in, in->op0, 2));
        return tensor_tensor_int(m, in);
    }
    Chunks c;
    Stream sd, sa, sb;
    chunks_start(&c, in, (const int[]){0, 1, 2}, 3, d->nparts, d->count);
    stream_open(&sd, m, in, 0);
    stream_open(&sa, m, in, 1);
    stream_open(&sb, m, in, 2);
    while (chunks_next(&c)) {
        float *y = stream_out(&sd, c.n);
        const float *x = stream_in(&sa, c.n), *z = stream_in(&sb, c.n);
        TRY(apply(m, in, in->op0, y, x, z, c.n, true, false));
        stream_put(&sd, c.n, y);
    }
    return ST_OK;
}

Status
eval_tensor_scalar(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0];
    TRY(need_same(m, in, 0, 1));
    TRY(need_column(m, in, 2, 0));
    TRY(need_column(m, in, 3, 0));
    TRY(need_op(m, in, in->op0));
    if (is_bitvec(in->op0))
        return tensor_scalar_int(m, in);
    if (in->op1 != ALU_none && !alu_fns[in->op1])
        return bad(m, in, "tensor_scalar: op1 must be arithmetic when op0 is");
    Chunks c;
    Stream sd, sa;
    Scalars f0, f1;
    chunks_start(&c, in, (const int[]){0, 1}, 2, d->nparts, d->count);
    stream_open(&sd, m, in, 0);
    stream_open(&sa, m, in, 1);
    scalars_open(&f0, m, in, 2, (float)in->imm0, c.flat, d->count);
    if (in->op1 != ALU_none)
        scalars_open(&f1, m, in, 3, (float)in->imm1, c.flat, d->count);
    while (chunks_next(&c)) {
        float *y = stream_out(&sd, c.n);
        const float *x = stream_in(&sa, c.n);
        TRY(apply(m, in, in->op0, y, x, scalars_next(&f0, &c), c.n, c.flat, in->reverse0));
        if (in->op1 != ALU_none)
            TRY(apply(m, in, in->op1, y, y, scalars_next(&f1, &c), c.n, c.flat, in->reverse1));
        stream_put(&sd, c.n, y);
    }
    return ST_OK;
}

Status
eval_scalar_tensor_tensor(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0];
    TRY(need_same(m, in, 0, 1));
    TRY(need_column(m, in, 2, 0));
    TRY(need_same(m, in, 0, 3));
    if (!alu_fns[in->op0] || !alu_fns[in->op1])
        return bad(m, in, "scalar_tensor_tensor needs two arithmetic operators");
    float *t = (float *)(void *)m->stage[6]; /* dst may be operand1 */
    Chunks c;
    Stream sd, sa, sb;
    Scalars f0;
    chunks_start(&c, in, (const int[]){0, 1, 3}, 3, d->nparts, d->count);
    stream_open(&sd, m, in, 0);
    stream_open(&sa, m, in, 1);
    stream_open(&sb, m, in, 3);
    scalars_open(&f0, m, in, 2, (float)in->imm0, c.flat, d->count);
    while (chunks_next(&c)) {
        float *y = stream_out(&sd, c.n);
        const float *x = stream_in(&sa, c.n), *z = stream_in(&sb, c.n);
        TRY(apply(m, in, in->op0, t, x, scalars_next(&f0, &c), c.n, c.flat, in->reverse0));
        TRY(apply(m, in, in->op1, y, t, z, c.n, true, in->reverse1));
        stream_put(&sd, c.n, y);
    }
    return ST_OK;
}

Status
eval_reciprocal(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0];
    TRY(need_same(m, in, 0, 1));
    Chunks c;
    Stream sd, sa;
    chunks_start(&c, in, (const int[]){0, 1}, 2, d->nparts, d->count);
    stream_open(&sd, m, in, 0);
    stream_open(&sa, m, in, 1);
    while (chunks_next(&c)) {
        float *y = stream_out(&sd, c.n);
        act_fns[ACT_reciprocal](y, stream_in(&sa, c.n), c.n);
        stream_put(&sd, c.n, y);
    }
    return ST_OK;
}

/* ---- rows reduced on the way: activation, tensor_scalar_reduce ---- */

/* Folds a chunk of results into one accumulator per partition. */
static void
reduce_rows(const Chunks *c, int op, const float *y, double *acc, int64_t *part)
{
    if (!c->flat) {
        acc[c->part] = reduce_more(op, c->row_start ? reduce_first(op) : acc[c->part], y, c->n);
        return;
    }
    for (int64_t at = 0; at < c->n; at += c->count)
        acc[(*part)++] = reduce_more(op, reduce_first(op), y + at, c->count);
}

static void
put_rows(Machine *m, const Instr *in, int i, const double *acc)
{
    Stream s;
    int64_t n = in->opnd[i].nparts;
    float *v = (float *)(void *)m->stage[7];
    for (int64_t p = 0; p < n; p++)
        v[p] = (float)acc[p];
    stream_open(&s, m, in, i);
    stream_put(&s, n, v);
}

Status
eval_tensor_scalar_reduce(Machine *m, const Instr *in)
{
    enum { DST, RES, DATA, OPERAND };
    const Opnd *d = &in->opnd[DST];
    TRY(need_same(m, in, DST, DATA));
    TRY(need_column(m, in, RES, DST));
    TRY(need_column(m, in, OPERAND, DST));
    if (!alu_fns[in->op0] || !is_reduction(in->op1))
        return bad(m, in, "tensor_scalar_reduce needs an arithmetic op0 and a reduction as op1");
    Chunks c;
    Stream sd, sa;
    Scalars f0;
    double acc[128];
    int64_t part = 0;
    chunks_start(&c, in, (const int[]){DST, DATA}, 2, d->nparts, d->count);
    stream_open(&sd, m, in, DST);
    stream_open(&sa, m, in, DATA);
    scalars_open(&f0, m, in, OPERAND, (float)in->imm0, c.flat, d->count);
    while (chunks_next(&c)) {
        float *y = stream_out(&sd, c.n);
        TRY(apply(m, in, in->op0, y, stream_in(&sa, c.n), scalars_next(&f0, &c), c.n, c.flat, false));
        TRY(check_logic(m, in, in->op1, y, c.n));
        reduce_rows(&c, in->op1, y, acc, &part);
        stream_put(&sd, c.n, y);
    }
    put_rows(m, in, RES, acc);
    return ST_OK;
}

Status
eval_activation(Machine *m, const Instr *in)
{
    const Opnd *d = &in->opnd[0];
    TRY(need_same(m, in, 0, KA_data));
    TRY(need_column(m, in, KA_reduce_res, 0));
    TRY(need_column(m, in, KA_bias, 0));
    TRY(need_column(m, in, KA_scale, 0));
    if (in->func >= ACT_COUNT)
        return bad(m, in, "activation needs a function");
    bool scaled = has_opnd(in, KA_scale) || in->imm0 != 1.0, biased = has_opnd(in, KA_bias) || in->imm1 != 0.0;
    bool reduced = has_opnd(in, KA_reduce_res);
    float *t = (float *)(void *)m->stage[6];
    Chunks c;
    Stream sd, sa;
    Scalars scale, bias;
    double acc[128];
    int64_t part = 0;
    chunks_start(&c, in, (const int[]){0, KA_data}, 2, d->nparts, d->count);
    stream_open(&sd, m, in, 0);
    stream_open(&sa, m, in, KA_data);
    if (scaled)
        scalars_open(&scale, m, in, KA_scale, (float)in->imm0, c.flat, d->count);
    if (biased)
        scalars_open(&bias, m, in, KA_bias, (float)in->imm1, c.flat, d->count);
    while (chunks_next(&c)) {
        float *y = stream_out(&sd, c.n);
        const float *x = stream_in(&sa, c.n);
        if (scaled) {
            alu_apply(ALU_multiply, t, x, scalars_next(&scale, &c), c.n, c.flat, false);
            x = t;
        }
        if (biased) {
            alu_apply(ALU_add, t, x, scalars_next(&bias, &c), c.n, c.flat, false);
            x = t;
        }
        TRY(act_apply(m, in, y, x, c.n));
        if (reduced)
            reduce_rows(&c, ALU_add, y, acc, &part);
        stream_put(&sd, c.n, y);
    }
    if (reduced)
        put_rows(m, in, KA_reduce_res, acc);
    return ST_OK;
}
