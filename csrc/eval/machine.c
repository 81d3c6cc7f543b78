/* machine.c - the memory of the simulated core: where buffers are, what was written to them.
 *
 * Buffers with an address share one SBUF and one PSUM array, a contiguous row per partition; the others have memory of
 * their own, which is kept for the next buffer when they are released. A validity bit per byte on chip, per element
 * in HBM; program inputs and constants are used in place and count as written. The first touch after a buffer op clears
 * the bits of the copy that it selects, since until then the bytes may be another buffer's: copy k of a buffer with an
 * address starts at addr + k * buffer_stride. A second row of bits
 * marks the words that are full, so that checking a large operand reads 1/64 of its bits.
 */
#include "eval/machine.h"

#include <stdio.h>
#include <string.h>

enum { LINE = 64 };
#define MAX_SPARE ((size_t)48 << 20)

/* ---- errors ---- */

Status
bad(Machine *m, const Instr *in, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    Text t;
    text_init(&t, m->cx, &m->arena);
    Status st = print_op(m->g, (OpId){in->id}, &t);
    if (st != ST_OK || t.st != ST_OK || !t.p)
        return fail(m->cx, ST_LIMIT, in->op->loc, "NKI-5001 %s", what);
    return fail(m->cx, ST_LIMIT, in->op->loc, "NKI-5002 %s, in `%.500s`", what, t.p);
}

const char *
opnd_name(const Machine *m, const Instr *in, int i, char buf[64])
{
    Arena a;
    Text t;
    arena_init(&a, &m->cx->mem);
    text_init(&t, m->cx, &a);
    bool known = print_val(m->g, in->opnd[i].v, &t) == ST_OK && t.p;
    snprintf(buf, 64, "%.60s", known ? t.p : "an operand");
    arena_free(&a);
    return buf;
}

/* ---- bits ---- */

static inline uint64_t
low_bits(int64_t n) /* 0 <= n <= 64 */
{
    return n >= 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1;
}

static void
bits_set(uint64_t *w, int64_t from, int64_t n)
{
    w += from >> 6;
    int64_t skip = from & 63;
    if (skip + n <= 64) {
        *w |= low_bits(n) << skip;
        return;
    }
    *w++ |= ~low_bits(skip);
    n -= 64 - skip;
    memset(w, 0xff, (size_t)(n >> 6) * 8);
    if (n & 63)
        w[n >> 6] |= low_bits(n & 63);
}

static void
bits_clear(uint64_t *w, int64_t from, int64_t n)
{
    w += from >> 6;
    int64_t skip = from & 63;
    if (skip + n <= 64) {
        *w &= ~(low_bits(n) << skip);
        return;
    }
    *w++ &= low_bits(skip);
    n -= 64 - skip;
    memset(w, 0, (size_t)(n >> 6) * 8);
    if (n & 63)
        w[n >> 6] &= ~low_bits(n & 63);
}

static bool
bits_all(const uint64_t *w, int64_t from, int64_t n)
{
    w += from >> 6;
    int64_t skip = from & 63;
    if (skip + n <= 64) {
        uint64_t mask = low_bits(n) << skip;
        return (*w & mask) == mask;
    }
    if ((*w++ | low_bits(skip)) != UINT64_MAX)
        return false;
    n -= 64 - skip;
    for (; n >= 64; n -= 64)
        if (*w++ != UINT64_MAX)
            return false;
    return !n || (*w | ~low_bits(n)) == UINT64_MAX;
}

/* ---- validity: a row of bits, and a bit for each word of it that is full ---- */

static inline uint64_t *
valid_row(const Store *s, int64_t part)
{
    return s->valid + part * (s->vwords + CEIL_DIV(s->vwords, 64));
}

static void
valid_set(const Store *s, uint64_t *row, int64_t from, int64_t n)
{
    uint64_t *full = row + s->vwords;
    int64_t first = from >> 6, last = (from + n - 1) >> 6;
    bits_set(row, from, n);
    if (last - first > 1)
        bits_set(full, first + 1, last - first - 1);
    if (row[first] == UINT64_MAX)
        bits_set(full, first, 1);
    if (row[last] == UINT64_MAX)
        bits_set(full, last, 1);
}

static void
valid_clear(const Store *s, uint64_t *row, int64_t from, int64_t n)
{
    int64_t first = from >> 6, last = (from + n - 1) >> 6;
    bits_clear(row, from, n);
    bits_clear(row + s->vwords, first, last - first + 1);
}

static bool
valid_all(const Store *s, const uint64_t *row, int64_t from, int64_t n)
{
    int64_t first = from >> 6, last = (from + n - 1) >> 6;
    if (bits_all(row + s->vwords, first, last - first + 1))
        return true;
    return bits_all(row, from, n);
}

/* ---- memory ---- */

/* Rows are not a multiple of 4 KiB apart: the same column of all partitions would share a few cache sets. */
static int64_t
row_pitch(int64_t bytes)
{
    int64_t pitch = ALIGN_UP(MAX(bytes, 1), LINE);
    return pitch % 4096 == 0 ? pitch + LINE : pitch;
}

static int64_t
valid_bytes(int64_t words, int64_t rows)
{
    return (words + CEIL_DIV(words, 64)) * rows * 8;
}

static Status
chip_memory(Machine *m, int chip, int64_t bytes)
{
    int64_t pitch = row_pitch(bytes), words = pitch / 64;
    m->chip[chip].pitch = pitch;
    m->chip[chip].vwords = words;
    m->chip[chip].data = mem_alloc(&m->cx->mem, (size_t)(pitch * MAX_PARTS));
    m->chip[chip].valid = mem_alloc(&m->cx->mem, (size_t)valid_bytes(words, MAX_PARTS));
    if (!m->chip[chip].data || !m->chip[chip].valid)
        return fail_nomem(m->cx, (size_t)(pitch * MAX_PARTS));
    return ST_OK;
}

Status
machine_memory(Machine *m)
{
    int64_t top[2] = {0, 0};
    for (uint32_t v = 1; v < m->g->vals.n; v++) {
        const Store *s = &m->store[v];
        if ((s->space == SP_sbuf || s->space == SP_psum) && s->addr >= 0) {
            int64_t end = s->addr + s->bufs * s->copy_bytes;
            top[s->space == SP_psum] = MAX(top[s->space == SP_psum], end);
        }
    }
    for (int c = 0; c < 2; c++)
        if (top[c])
            TRY(chip_memory(m, c, top[c]));
    return ST_OK;
}

/* Memory for a buffer: a released block that fits well, else a new one. */
static Status
own_memory(Machine *m, Store *s, size_t bytes)
{
    int best = -1;
    for (int i = 0; i < COUNT_OF(m->spare); i++)
        if (m->spare[i].p && m->spare[i].bytes >= bytes && m->spare[i].bytes / 2 <= bytes &&
            (best < 0 || m->spare[i].bytes < m->spare[best].bytes))
            best = i;
    if (best >= 0) {
        s->own = m->spare[best].p;
        s->own_bytes = m->spare[best].bytes;
        m->spare[best].p = NULL;
        m->spare_bytes -= s->own_bytes;
        return ST_OK;
    }
    s->own = mem_alloc(&m->cx->mem, bytes);
    s->own_bytes = bytes;
    return s->own ? ST_OK : fail_nomem(m->cx, bytes);
}

void
buffer_release(Machine *m, uint32_t val)
{
    Store *s = &m->store[val];
    if (!s->own)
        return;
    s->data = NULL;
    s->valid = NULL;
    for (int i = 0; i < COUNT_OF(m->spare) && s->own; i++)
        if (!m->spare[i].p && m->spare_bytes + s->own_bytes <= MAX_SPARE) {
            m->spare[i] = (Spare){s->own, s->own_bytes};
            m->spare_bytes += s->own_bytes;
            s->own = NULL;
        }
    mem_free(&m->cx->mem, s->own);
    s->own = NULL;
}

void
machine_free(Machine *m)
{
    Mem *mem = &m->cx->mem;
    pool_free(m);
    for (uint32_t v = 1; m->store && v < m->g->vals.n; v++)
        mem_free(mem, m->store[v].own);
    for (int i = 0; i < COUNT_OF(m->spare); i++)
        mem_free(mem, m->spare[i].p);
    for (int i = 0; i < COUNT_OF(m->panel); i++)
        mem_free(mem, m->panel[i]);
    for (int c = 0; c < 2; c++) {
        mem_free(mem, m->chip[c].data);
        mem_free(mem, m->chip[c].valid);
    }
    arena_free(&m->arena);
}

Status
panel_reserve(Machine *m, int which, size_t bytes)
{
    if (m->panel_bytes[which] >= bytes)
        return ST_OK;
    mem_free(&m->cx->mem, m->panel[which]);
    m->panel_bytes[which] = 0;
    m->panel[which] = mem_alloc(&m->cx->mem, bytes);
    if (!m->panel[which])
        return fail_nomem(m->cx, bytes);
    m->panel_bytes[which] = bytes;
    return ST_OK;
}

/* ---- executing a buffer op ---- */

static Status
enter_chip(Machine *m, Store *s)
{
    int64_t bytes = s->row * s->bytes;
    if (s->addr >= 0) {
        int chip = s->space == SP_psum;
        int64_t at = s->addr + s->times % s->bufs * s->copy_bytes;
        s->pitch = m->chip[chip].pitch;
        s->vwords = m->chip[chip].vwords;
        s->data = m->chip[chip].data + at;
        s->valid = m->chip[chip].valid;
        s->vbit = at;
    } else {
        s->pitch = row_pitch(bytes);
        s->vwords = s->pitch / 64;
        int64_t data = s->pitch * s->parts;
        if (!s->own)
            TRY(own_memory(m, s, (size_t)(data + valid_bytes(s->vwords, s->parts))));
        s->data = s->own;
        s->valid = (uint64_t *)(void *)(s->data + data);
        s->vbit = 0;
    }
    s->fresh = true;
    return ST_OK;
}

static void
poison(Store *s)
{
    for (int32_t p = 0; p < s->parts; p++)
        valid_clear(s, valid_row(s, p), s->vbit, s->row * s->bytes);
    s->fresh = false;
}

static Status
enter_hbm(Machine *m, const Instr *in, Store *s)
{
    int64_t index = attr_int(m->cx, in->op->attr, A_index, 0), words = CEIL_DIV(s->row, 64);
    int64_t bits = valid_bytes(words, 1);
    const AttrItem *data;
    switch (s->kind) {
    case BK_input:
        s->data = (uint8_t *)(uintptr_t)m->in[index]; /* never written: see decode */
        return ST_OK;
    case BK_constant:
        data = attr_find(m->cx, in->op->attr, A_data);
        if (!data || data->data->bytes != (size_t)(s->row * s->bytes))
            return bad(m, in, "a constant needs data of %lld bytes", (long long)(s->row * s->bytes));
        s->data = (uint8_t *)(uintptr_t)data->data->p;
        return ST_OK;
    case BK_output:
        s->data = m->out[index];
        if (!s->own)
            TRY(own_memory(m, s, (size_t)bits));
        s->valid = s->own;
        break;
    default:
        if (!s->own)
            TRY(own_memory(m, s, (size_t)(ALIGN_UP(s->row * s->bytes, LINE) + bits)));
        s->data = s->own;
        s->valid = (uint64_t *)(void *)(s->data + ALIGN_UP(s->row * s->bytes, LINE));
        break;
    }
    s->vwords = words;
    memset(s->valid, 0, (size_t)bits);
    if (s->kind == BK_output && index < (int64_t)m->g->aliases.n && m->g->aliases.p[index] >= 0) {
        /* the output is the input it updates: what is not written keeps the input's value */
        memmove(s->data, m->in[m->g->aliases.p[index]], (size_t)(s->row * s->bytes));
        memset(s->valid, 0xff, (size_t)bits);
    }
    return ST_OK;
}

Status
buffer_enter(Machine *m, const Instr *in)
{
    Store *s = &m->store[in->var];
    Status st = s->space == SP_hbm ? enter_hbm(m, in, s) : enter_chip(m, s);
    s->times++;
    return st;
}

/* ---- operands ---- */

/* Wraps instead of overflowing: the bounds check that follows rejects what is far outside. */
static inline int64_t
affine_now(const Affine *a, const int64_t *var)
{
    uint64_t v = (uint64_t)a->c;
    for (uint32_t i = 0; i < a->nterms; i++)
        v += (uint64_t)a->term[i].coef * (uint64_t)var[a->term[i].var.i];
    return (int64_t)v;
}

static Status
bad_bounds(Machine *m, const Instr *in, int i, int64_t part, int64_t off)
{
    const Opnd *o = &in->opnd[i];
    const Store *s = &m->store[o->v.i];
    char name[64];
    opnd_name(m, in, i, name);
    const char *what = op_def(m->g, in->op)->name;
    if (part < 0 || part > s->parts - o->nparts)
        return bad(m, in, "%s reaches partitions %lld to %lld of %s, which has %d", what, (long long)part,
                   (long long)(part + o->nparts - 1), name, s->parts);
    return bad(m, in, "%s reaches elements %lld to %lld of %s, which has %lld%s", what, (long long)(off + o->lo),
               (long long)(off + o->hi), name, (long long)s->row, s->space == SP_hbm ? "" : " per partition");
}

Status
operand_view(Machine *m, const Instr *in, int i)
{
    const Opnd *o = &in->opnd[i];
    Store *s = &m->store[o->v.i];
    char name[64];
    if (!s->data)
        return bad(m, in, "%s uses %s where it does not exist", op_def(m->g, in->op)->name,
                   opnd_name(m, in, i, name));
    int64_t part = s->space == SP_hbm ? 0 : affine_now(&o->ap->part, m->var);
    int64_t off = affine_now(&o->ap->off, m->var);
    if (part < 0 || part > s->parts - o->nparts || off < -o->lo || off >= s->row - o->hi)
        return bad_bounds(m, in, i, part, off);
    if (s->fresh)
        poison(s);
    m->view[i] = (View){s, s->data + part * s->pitch + off * s->bytes, part, off};
    return (o->role & R_read) && s->valid ? check_written(m, in, i) : ST_OK;
}

/* ---- poison ---- */

typedef struct Region { /* the bits of an operand in one row of `valid` */
    int64_t from; /* bit of the first element */
    int64_t unit; /* bits per element */
    const Opnd *o;
} Region;

static Region
region_of(const Machine *m, const Instr *in, int i)
{
    const Store *s = m->view[i].st;
    int64_t unit = s->space == SP_hbm ? 1 : s->bytes;
    return (Region){s->vbit + m->view[i].off * unit, unit, &in->opnd[i]};
}

/* Calls for each innermost run, contiguous or not: visit(store, row, from, elements, step in bits, unit, env). */
typedef void RunFn(const Store *s, uint64_t *row, int64_t from, int64_t n, int64_t step, int64_t unit, void *env);

static void
region_runs(const Region *r, const Store *s, uint64_t *row, RunFn *visit, void *env)
{
    const Opnd *o = r->o;
    int64_t idx[MAX_AP_DIMS] = {0}, at = r->from;
    int inner = o->ndim - 1;
    for (;;) {
        visit(s, row, at, o->dim[inner].count, o->dim[inner].stride * r->unit, r->unit, env);
        int d = inner - 1;
        for (; d >= 0; d--) {
            at += o->dim[d].stride * r->unit;
            if (++idx[d] < o->dim[d].count)
                break;
            at -= o->dim[d].stride * r->unit * o->dim[d].count;
            idx[d] = 0;
        }
        if (d < 0)
            return;
    }
}

static void
run_set(const Store *s, uint64_t *row, int64_t from, int64_t n, int64_t step, int64_t unit, void *env)
{
    (void)env;
    if (step == unit) {
        valid_set(s, row, from, n * unit);
        return;
    }
    for (int64_t i = 0; i < n; i++, from += step)
        valid_set(s, row, from, unit);
}

typedef struct Missing { int64_t count, first; } Missing; /* bits */

static void
run_missing(const Store *s, uint64_t *row, int64_t from, int64_t n, int64_t step, int64_t unit, void *env)
{
    (void)s;
    Missing *miss = env;
    for (int64_t i = 0; i < n; i++, from += step)
        for (int64_t k = from; k < from + unit; k++)
            if (!(row[k >> 6] >> (k & 63) & 1)) {
                if (!miss->count++)
                    miss->first = k;
            }
}

/* A shuffle reads only the lanes that its mask names. */
static bool
is_read(const Instr *in, int i, int p)
{
    if (in->code != K_nc_stream_shuffle || i == 0)
        return true;
    for (int k = 0; k < in->nints; k++)
        if (in->ints[k] == p % 32)
            return true;
    return false;
}

static Status
bad_poison(Machine *m, const Instr *in, int i, const Region *r, const View *v)
{
    const Store *s = v->st;
    Missing all = {0, 0};
    int64_t part = -1;
    for (int32_t p = 0; p < r->o->nparts; p++) {
        Missing miss = {0, 0};
        if (!is_read(in, i, p))
            continue;
        region_runs(r, s, valid_row(s, v->part + p), run_missing, &miss);
        if (miss.count && part < 0) {
            part = v->part + p;
            all.first = miss.first;
        }
        all.count += miss.count;
    }
    if (!all.count)
        return ST_OK;
    char name[64];
    opnd_name(m, in, i, name);
    const char *what = op_def(m->g, in->op)->name;
    if (s->space == SP_hbm)
        return bad(m, in, "%s reads %lld elements of %s that nothing has written, the first is element %lld", what,
                   (long long)all.count, name, (long long)(all.first - s->vbit));
    return bad(m, in, "%s reads %lld bytes of %s that nothing has written, partition %lld, byte %lld", what,
               (long long)all.count, name, (long long)part, (long long)(all.first - s->vbit));
}

Status
check_written(Machine *m, const Instr *in, int i)
{
    const View *v = &m->view[i];
    const Store *s = v->st;
    if (!s->valid)
        return ST_OK;
    Region r = region_of(m, in, i);
    int64_t from = r.from + r.o->lo * r.unit, n = (r.o->hi - r.o->lo + 1) * r.unit;
    for (int32_t p = 0; p < r.o->nparts; p++)
        if (is_read(in, i, p) && !valid_all(s, valid_row(s, v->part + p), from, n))
            return bad_poison(m, in, i, &r, v);
    return ST_OK;
}

void
mark_partition(Machine *m, const Instr *in, int i, int p)
{
    const View *v = &m->view[i];
    const Store *s = v->st;
    if (!s->valid)
        return;
    m->sbuf_writes += s->space == SP_sbuf;
    Region r = region_of(m, in, i);
    uint64_t *row = valid_row(s, v->part + p);
    if (!valid_all(s, row, r.from + r.o->lo * r.unit, (r.o->hi - r.o->lo + 1) * r.unit))
        region_runs(&r, s, row, run_set, NULL);
}

void
mark_written(Machine *m, const Instr *in, int i)
{
    for (int32_t p = 0; p < in->opnd[i].nparts; p++)
        mark_partition(m, in, i, p);
}

Status
machine_check_outputs(Machine *m)
{
    for (uint32_t v = 1; v < m->g->vals.n; v++) {
        const Store *s = &m->store[v];
        if (s->kind != BK_output || s->space != SP_hbm || !s->times || bits_all(s->valid, 0, s->row))
            continue;
        int64_t missing = 0;
        for (int64_t i = 0; i < s->row; i++)
            missing += !bits_all(s->valid, i, 1);
        const char *name = str_get(m->cx, m->g->vals.p[v].name);
        return fail(m->cx, ST_LIMIT, s->loc, "NKI-5003 output %%%s: %lld of %lld elements were never written",
                    name[0] ? name : "?", (long long)missing, (long long)s->row);
    }
    return ST_OK;
}
