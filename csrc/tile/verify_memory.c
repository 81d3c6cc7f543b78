/* verify_memory.c - rules of memory: declarations, addresses, capacity, overlaps.
 *
 * in:   buffer ops one by one; all of them once the program has been walked
 * out:  violations
 * rule: what is said about addresses holds for the buffers that have one; linear but for a logarithm.
 */
#include "tile/verify.h"

#include <stdlib.h>

/* ---- declarations ---- */

static bool
decl_shape(Check *c, const Type *t)
{
    int64_t n = MAX(dtypes[t->dtype].bytes, 1), limit = (int64_t)1 << 40;
    int64_t least = is_chip(t->space); /* in hbm it may have no elements: then nothing reads or writes it */
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] < least || t->dim[i] > limit || __builtin_mul_overflow(n, t->dim[i], &n) || n > limit) {
            report(c, "buffer-shape",
                   "NKI-3050 dim %d is %lld: a buffer in %s has at least %lld elements and at most 2^40 bytes", i,
                   (long long)t->dim[i], space_names[t->space], (long long)least);
            return false;
        }
    }
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] > INT32_MAX)
            report(c, "buffer-shape", "NKI-3098 dim %d is %lld, NKI counts in 32-bit integers", i,
                   (long long)t->dim[i]);
    if (!is_chip(t->space))
        return true;
    if (t->rank < 1)
        report(c, "buffer-shape", "NKI-3051 a buffer in %s needs a partition dim", space_names[t->space]);
    else if (t->dim[0] > (int64_t)c->hw->pmax)
        report(c, "partition-limit", "NKI-3052 the buffer has %lld partitions, at most %d are allowed",
               (long long)t->dim[0], (int)c->hw->pmax);
    return t->rank >= 1;
}

static void
decl_kind(Check *c, const VInfo *v)
{
    const AttrItem *data = attr_find(c->cx, c->op->attr, A_data);
    bool chip = is_chip(v->space);
    if (v->space == SP_reg)
        report(c, "buffer-kind", "NKI-3053 buffers in registers are not instruction operands");
    if (chip != (v->kind == BK_tile))
        report(c, "buffer-kind", "NKI-3054 a buffer in %s cannot be of kind %s", space_names[v->space],
               enum_name(AK_bufkind, v->kind));
    if (v->kind == BK_constant && (data == NULL || (int64_t)data->data->bytes != v->row * v->esize))
        report(c, "constant-data", "NKI-3055 the constant has %lld bytes of data, its buffer %lld",
               data ? (long long)data->data->bytes : 0LL, (long long)(v->row * v->esize));
    if (v->kind == BK_constant && data != NULL && data->data->dtype != v->dtype)
        report(c, "constant-data", "NKI-3056 the constant's data is %s, its buffer %s", dtypes[data->data->dtype].name,
               dtypes[v->dtype].name);
    if (v->bufs < 1)
        report(c, "buffer-shape", "NKI-3057 bufs=%d, at least 1 is needed", v->bufs);
    if (v->bufs > 1 && !chip)
        report(c, "buffer-shape", "NKI-3058 bufs=%d, only buffers on chip have copies", v->bufs);
    if (dtypes[v->dtype].nki == NULL)
        report(c, "dtype", "NKI-3059 %s has no %s", c->target, dtypes[v->dtype].name);
}

static void
decl_address(Check *c, const VInfo *v, const Type *t)
{
    bool psum = v->space == SP_psum;
    int64_t cap = (int64_t)(psum ? c->hw->psum_bytes : c->hw->sbuf_usable);
    int64_t align = MAX(psum ? (int64_t)c->hw->psum_bank_bytes : (int64_t)c->hw->min_align, v->esize);
    int64_t end = buffer_bytes(t) + (v->bufs - 1) * buffer_stride(t) + (v->has_addr ? v->addr : 0);
    if (v->addr < 0 || v->addr % align != 0)
        report(c, psum ? "psum-bank-start" : "alignment",
               "NKI-3060 addr=%lld, a %s buffer of %s starts at a multiple of %lld", (long long)v->addr,
               space_names[v->space], dtypes[v->dtype].name, (long long)align);
    if (end > cap)
        report(c, psum ? "psum-capacity" : "sbuf-capacity",
               "NKI-3061 %d cop%s of %lld bytes at %lld end at %lld, %s has %lld on %s", v->bufs,
               v->bufs > 1 ? "ies" : "y", (long long)buffer_bytes(t), (long long)v->addr, (long long)end,
               space_names[v->space], (long long)cap, c->target);
}

static void
note_interface(Check *c, Val v)
{
    if (is_full(c))
        return;
    c->st = vec_reserve(c->cx, &c->work, &c->io, 1, sizeof(Val));
    if (c->st == ST_OK)
        c->io.p[c->io.n++] = v;
}

/* What its op says; a row has its elements once the shape is known to be legal. */
static VInfo
declared(const Check *c, const Type *t)
{
    const AttrItem *addr = attr_find(c->cx, c->op->attr, A_addr);
    int64_t bufs = attr_int(c->cx, c->op->attr, A_bufs, 1);
    VInfo v = {.is = V_BUFFER,
               .space = t->space,
               .dtype = t->dtype,
               .kind = (uint8_t)attr_int(c->cx, c->op->attr, A_kind, BK_tile),
               .esize = dtypes[t->dtype].bytes,
               .has_addr = addr != NULL,
               .addr = addr != NULL ? addr->i : 0,
               .bufs = (int32_t)MAX(0, MIN(bufs, 1 << 20)),
               .decl = c->at.i,
               .parts = 1,
               .row = 1};
    v.readonly = v.kind == BK_input || v.kind == BK_constant;
    v.initialised = v.readonly || is_update(c, &v);
    return v;
}

void
check_buffer_decl(Check *c)
{
    Val val = c->op->out;
    VInfo *v = &c->val[val.i];
    const Type *t = val_type(c->g, val);
    bool chip = is_chip(t->space);
    *v = declared(c, t);
    if (!decl_shape(c, t)) {
        v->is = V_OTHER;
        return;
    }
    for (int i = chip ? 1 : 0; i < t->rank; i++)
        v->row *= t->dim[i];
    v->parts = chip ? (int32_t)MIN(t->dim[0], INT32_MAX) : 1;
    decl_kind(c, v);
    if (v->kind == BK_input || v->kind == BK_output)
        note_interface(c, val);
    if (chip && v->addr < (int64_t)1 << 40)
        decl_address(c, v, t);
    else if (v->has_addr)
        report(c, "alignment", "NKI-3062 addr=%lld is out of range", (long long)v->addr);
}

/* ---- overlap: a segment tree over addresses that remembers, per byte range, the buffer that lives longest ---- */

typedef struct Span {
    int64_t lo, hi; /* bytes */
    uint32_t first, last;
    uint32_t val;
} Span;

typedef struct Tree {
    const Span *span;
    uint32_t *tag, *best; /* per node: index + 1 into span; of all of the node, of any of it */
} Tree;

static inline uint32_t
longer(const Tree *t, uint32_t a, uint32_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return t->span[a - 1].last >= t->span[b - 1].last ? a : b;
}

static void
tree_add(Tree *t, uint32_t node, uint32_t l, uint32_t r, uint32_t lo, uint32_t hi, uint32_t s)
{
    if (hi <= l || r <= lo)
        return;
    t->best[node] = longer(t, t->best[node], s);
    if (lo <= l && r <= hi) {
        t->tag[node] = longer(t, t->tag[node], s);
        return;
    }
    uint32_t m = (l + r) / 2;
    tree_add(t, 2 * node, l, m, lo, hi, s);
    tree_add(t, 2 * node + 1, m, r, lo, hi, s);
}

static uint32_t
tree_longest(const Tree *t, uint32_t node, uint32_t l, uint32_t r, uint32_t lo, uint32_t hi)
{
    if (hi <= l || r <= lo)
        return 0;
    if (lo <= l && r <= hi)
        return t->best[node];
    uint32_t m = (l + r) / 2;
    uint32_t a = tree_longest(t, 2 * node, l, m, lo, hi), b = tree_longest(t, 2 * node + 1, m, r, lo, hi);
    return longer(t, t->tag[node], longer(t, a, b));
}

static int
by_first(const void *a, const void *b)
{
    const Span *x = a, *y = b;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return (x->val > y->val) - (x->val < y->val);
}

/* Byte addresses as indices into the sorted set of all starts and ends: a bit set over aligned units, so no sort. */
typedef struct Cuts {
    uint64_t *bits;   /* by unit */
    uint32_t *before; /* by word of bits: how many there are in the words before it */
    int64_t unit, nunits;
    uint32_t n;
} Cuts;

static int64_t
unit_of(const Cuts *k, int64_t byte)
{
    return MAX(0, MIN(byte / k->unit, k->nunits - 1));
}

static int64_t
end_of(const Cuts *k, const Span *s)
{
    return unit_of(k, s->hi + k->unit - 1);
}

static uint32_t
cut_index(const Cuts *k, int64_t unit)
{
    uint64_t below = k->bits[unit >> 6] & (((uint64_t)1 << (unit & 63)) - 1);
    return k->before[unit >> 6] + (uint32_t)__builtin_popcountll(below);
}

static Status
make_cuts(Check *c, const Span *span, uint32_t n, Cuts *k)
{
    k->unit = (int64_t)c->hw->min_align;
    k->nunits = (int64_t)(c->hw->sbuf_bytes / c->hw->min_align) + 2;
    int64_t words = CEIL_DIV(k->nunits, 64);
    NEW(c->cx, &c->work, k->bits, words);
    NEW(c->cx, &c->work, k->before, words);
    for (uint32_t i = 0; i < n; i++) {
        int64_t lo = unit_of(k, span[i].lo), hi = end_of(k, &span[i]);
        k->bits[lo >> 6] |= (uint64_t)1 << (lo & 63);
        k->bits[hi >> 6] |= (uint64_t)1 << (hi & 63);
    }
    for (int64_t i = 0; i < words; i++) {
        k->before[i] = k->n;
        k->n += (uint32_t)__builtin_popcountll(k->bits[i]);
    }
    return ST_OK;
}

static bool
is_sorted(const Span *span, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        if (by_first(&span[i - 1], &span[i]) > 0)
            return false;
    }
    return true;
}

static void
report_overlap(Check *c, const Span *x, const Span *y)
{
    const char *a = str_get(c->cx, c->g->vals.p[x->val].name), *b = str_get(c->cx, c->g->vals.p[y->val].name);
    report_at(c, (OpId){c->val[y->val].decl}, "overlap",
              "NKI-3068 %s%sbytes %lld to %lld of %s overlap buffer %s of op %u at "
              "bytes %lld to %lld while both are live (ops %u to %u, and %u to %u)",
              b, *b ? ": " : "", (long long)y->lo, (long long)y->hi - 1, space_names[c->val[y->val].space], a,
              c->val[x->val].decl, (long long)x->lo, (long long)x->hi - 1, y->first, y->last, x->first, x->last);
}

static Status
check_overlap(Check *c, Span *span, uint32_t n)
{
    Tree t = {.span = span};
    Cuts k = {0};
    if (n < 2)
        return ST_OK;
    if (!is_sorted(span, n))
        qsort(span, n, sizeof(*span), by_first);
    TRY(make_cuts(c, span, n, &k));
    NEW(c->cx, &c->work, t.tag, 4 * (size_t)k.n);
    NEW(c->cx, &c->work, t.best, 4 * (size_t)k.n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t lo = cut_index(&k, unit_of(&k, span[i].lo)), hi = cut_index(&k, end_of(&k, &span[i]));
        uint32_t other = tree_longest(&t, 1, 0, k.n, lo, hi);
        if (other != 0 && span[other - 1].last >= span[i].first)
            report_overlap(c, &span[other - 1], &span[i]);
        tree_add(&t, 1, 0, k.n, lo, hi, i + 1);
    }
    return c->st;
}

/* The addressed buffers of one space. */
typedef struct Spans {
    Span *p;
    uint32_t n, missing; /* how many; the first touched buffer that has no address */
} Spans;

static void
add_span(Check *c, Spans *s, uint32_t val, Live live)
{
    const VInfo *v = &c->val[val];
    if (live.first.i == 0)
        return;
    if (!v->has_addr) {
        s->missing = s->missing ? s->missing : val;
        return;
    }
    const Type *t = val_type(c->g, (Val){val});
    int64_t end = v->addr + (v->bufs - 1) * buffer_stride(t) + buffer_bytes(t);
    s->p[s->n++] = (Span){v->addr, end, live.first.i, live.last.i, val};
}

static Status
check_spans(Check *c, const Spans *s)
{
    if (s->n > 0 && s->missing != 0)
        report_at(c, (OpId){c->val[s->missing].decl}, "no-address",
                  "NKI-3069 the buffer has no address while others in %s have", space_names[c->val[s->missing].space]);
    return check_overlap(c, s->p, s->n);
}

/* An output that updates an input is that input. */
static void
check_hbm(Check *c)
{
    double bytes = 0;
    for (uint32_t i = 1; i < c->g->vals.n; i++) {
        const VInfo *v = &c->val[i];
        if (v->is != V_BUFFER || v->space != SP_hbm || is_update(c, v))
            continue;
        bytes += (double)v->row * v->esize;
        if (bytes > c->hw->hbm_bytes) {
            report_at(c, (OpId){v->decl}, "hbm-capacity",
                      "NKI-3099 the buffers in HBM have %.4g bytes up to here, %s has %.4g", bytes, c->target,
                      c->hw->hbm_bytes);
            return;
        }
    }
}

static Status
run_buffers(Check *c)
{
    Spans sbuf = {0}, psum = {0};
    Live *live;
    TRY(tile_liveness(c->g, &c->work, &live));
    NEW(c->cx, &c->work, sbuf.p, c->g->vals.n);
    NEW(c->cx, &c->work, psum.p, c->g->vals.n);
    for (uint32_t i = 1; i < c->g->vals.n && !is_full(c); i++) {
        const VInfo *v = &c->val[i];
        if (v->is != V_BUFFER)
            continue;
        if (is_chip(v->space))
            add_span(c, v->space == SP_sbuf ? &sbuf : &psum, i, live[i]);
    }
    check_hbm(c);
    TRY(check_spans(c, &sbuf));
    return check_spans(c, &psum);
}

void
check_buffers(Check *c)
{
    if (is_full(c))
        return;
    Status st = run_buffers(c);
    c->st = c->st != ST_OK ? c->st : st;
}
