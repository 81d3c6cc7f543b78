/* cover.c - sets of elements of a buffer, built from lattices of elements.
 *
 * in:   swaths: a set of partitions, and a lattice of elements in each of them
 * out:  which elements of a swath are certainly missing
 * rule: a set may hold more than was added and has lost no more than was removed, never the other way round: when the
 *       work that may be spent is used up, or a row is too long for bits, sets become intervals.
 */
#include "tile/cover.h"

#include <string.h>

enum { MAX_BITS = 1 << 20 }; /* elements of a row for which there are bits */

/* ---- lattices ---- */

void
lattice_add(Lattice *l, int64_t count, int64_t stride)
{
    int i = l->n;
    if (count <= 1 || stride == 0)
        return;
    if (stride < 0) {
        l->base += (count - 1) * stride;
        stride = -stride;
    }
    for (; i > 0 && l->stride[i - 1] > stride; i--) {
        l->count[i] = l->count[i - 1];
        l->stride[i] = l->stride[i - 1];
    }
    l->count[i] = count;
    l->stride[i] = stride;
    l->n++;
}

void
lattice_merge(Lattice *l)
{
    int n = 0;
    for (int i = 0; i < l->n; i++) {
        int64_t run = n == 1 && l->stride[0] == 1 ? l->count[0] : 0;
        if (l->stride[i] <= run) {
            l->count[0] = (l->count[i] - 1) * l->stride[i] + run;
        } else if (n > 0 && l->stride[i] == l->stride[n - 1] * l->count[n - 1]) {
            l->count[n - 1] *= l->count[i];
        } else {
            l->count[n] = l->count[i];
            l->stride[n++] = l->stride[i];
        }
    }
    l->n = n;
}

int64_t
lattice_last(const Lattice *l)
{
    int64_t at = l->base;
    for (int i = 0; i < l->n; i++)
        at += (l->count[i] - 1) * l->stride[i];
    return at;
}

static bool
is_interval(const Lattice *l)
{
    return l->n == 0 || (l->n == 1 && l->stride[0] == 1);
}

typedef struct Runs { /* the runs of a lattice, one after the other */
    const Lattice *l;
    int64_t at, len;
    int64_t index[MAX_LATTICE];
    int first; /* dims before it are the run */
} Runs;

static Runs
runs_of(const Lattice *l)
{
    bool unit = l->n > 0 && l->stride[0] == 1;
    return (Runs){.l = l, .at = l->base, .len = unit ? l->count[0] : 1, .first = unit};
}

static bool
runs_next(Runs *r)
{
    for (int d = r->first; d < r->l->n; d++) {
        r->at += r->l->stride[d];
        if (++r->index[d] < r->l->count[d])
            return true;
        r->at -= r->l->stride[d] * r->l->count[d];
        r->index[d] = 0;
    }
    return false;
}

/* Takes what going through the runs costs, unless there is not enough left. */
static bool
can_spend(Covers *s, const Lattice *l)
{
    Runs r = runs_of(l);
    int64_t steps = 1 + r.len / 64;
    for (int d = r.first; d < l->n; d++)
        if (__builtin_mul_overflow(steps, l->count[d], &steps))
            return false;
    if (steps > s->work)
        return false;
    s->work -= steps;
    return true;
}

/* ---- bits ---- */

static inline uint64_t
low_bits(int64_t n) /* 0 <= n <= 64 */
{
    return n >= 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1;
}

/* The bits of [at, end) in its first word; moves at to the next one. */
static inline uint64_t
word_mask(int64_t *at, int64_t end)
{
    int64_t skip = *at & 63, n = MIN(end - *at, 64 - skip);
    *at += n;
    return low_bits(n) << skip;
}

static void
bits_put(uint64_t *w, int64_t at, int64_t n, bool on)
{
    for (int64_t end = at + n; at < end;) {
        uint64_t *word = &w[at >> 6], mask = word_mask(&at, end);
        *word = on ? *word | mask : *word & ~mask;
    }
}

static bool
bits_any(const uint64_t *w, int64_t at, int64_t n)
{
    uint64_t any = 0;
    for (int64_t end = at + n; at < end;) {
        const uint64_t *word = &w[at >> 6];
        any |= *word & word_mask(&at, end);
    }
    return any != 0;
}

/* The first element of [at, at + n) without a bit; -1: all have one. */
static int64_t
bits_missing(const uint64_t *w, int64_t at, int64_t n)
{
    for (int64_t end = at + n; at < end;) {
        int64_t from = at & ~(int64_t)63;
        const uint64_t *word = &w[at >> 6];
        uint64_t none = ~*word & word_mask(&at, end);
        if (none != 0)
            return from + __builtin_ctzll(none);
    }
    return -1;
}

/* ---- strips ---- */

/* Gives a strip bits; false: there is no work or no room for them. */
static Status
give_bits(Covers *s, Strip *t, int64_t row, bool *has)
{
    int64_t words = CEIL_DIV(row, 64);
    *has = t->bits != NULL;
    if (*has || row > MAX_BITS || s->work < words)
        return ST_OK;
    s->work -= words;
    NEW(s->cx, s->arena, t->bits, words);
    bits_put(t->bits, t->lo, t->hi - t->lo, true);
    *has = true;
    return ST_OK;
}

/* The hull of what it has and [lo, hi). */
static void
make_hull(Strip *t, int64_t lo, int64_t hi, int64_t row)
{
    t->lo = t->bits ? 0 : t->lo == t->hi ? lo : MIN(t->lo, lo);
    t->hi = t->bits ? row : t->lo == t->hi ? hi : MAX(t->hi, hi);
    t->bits = NULL;
}

static Status
strip_add(Covers *s, Strip *t, const Lattice *l, int64_t row)
{
    int64_t lo = l->base, hi = lattice_last(l) + 1;
    bool has, interval = is_interval(l);
    if (!t->bits && t->lo <= lo && hi <= t->hi)
        return ST_OK;
    if (!t->bits && interval && (t->lo == t->hi || (lo <= t->hi && t->lo <= hi))) {
        make_hull(t, lo, hi, row);
        return ST_OK;
    }
    TRY(give_bits(s, t, row, &has));
    if (!has || !can_spend(s, l)) {
        make_hull(t, lo, hi, row);
        return ST_OK;
    }
    Runs r = runs_of(l);
    do
        bits_put(t->bits, r.at, r.len, true);
    while (runs_next(&r));
    return ST_OK;
}

static Status
strip_remove(Covers *s, Strip *t, const Lattice *l, int64_t row)
{
    int64_t lo = l->base, hi = lattice_last(l) + 1;
    bool has;
    if (!t->bits && (hi <= t->lo || t->hi <= lo))
        return ST_OK;
    if (!t->bits && is_interval(l) && (lo <= t->lo || t->hi <= hi)) {
        bool front = lo <= t->lo, back = t->hi <= hi;
        t->lo = front && !back ? hi : t->lo;
        t->hi = front && back ? t->lo : back ? lo : t->hi;
        return ST_OK;
    }
    TRY(give_bits(s, t, row, &has));
    if (!has || !can_spend(s, l))
        return ST_OK;
    Runs r = runs_of(l);
    do
        bits_put(t->bits, r.at, r.len, false);
    while (runs_next(&r));
    return ST_OK;
}

/* An element of l that the strip has not; -1: none that is certain. */
static int64_t
strip_missing(Covers *s, const Strip *t, const Lattice *l)
{
    int64_t last = lattice_last(l), at = -1;
    if (!t->bits)
        return l->base < t->lo || l->base >= t->hi ? l->base : last < t->hi ? -1 : is_interval(l) ? t->hi : last;
    if (!can_spend(s, l))
        return -1;
    Runs r = runs_of(l);
    do
        at = bits_missing(t->bits, r.at, r.len);
    while (at < 0 && runs_next(&r));
    return at;
}

/* ---- covers ---- */

static Status
push_strip(Covers *s, Cover *c, Strip t)
{
    VEC_PUSH(s->cx, s->arena, c, t);
    return ST_OK;
}

/* Cuts strip i into the partitions of x, which it is then, and the others, a new one. */
static Status
split(Covers *s, Cover *c, uint32_t i, Parts parts, int64_t row)
{
    Strip rest = c->p[i];
    rest.parts &= ~parts;
    if (rest.parts == 0)
        return ST_OK;
    if (rest.bits) {
        int64_t words = CEIL_DIV(row, 64);
        NEW(s->cx, s->arena, rest.bits, words);
        memcpy(rest.bits, c->p[i].bits, (size_t)words * sizeof(*rest.bits));
        s->work -= MIN(words, s->work);
    }
    c->p[i].parts &= parts;
    return push_strip(s, c, rest);
}

/* Strips that have become equal are one. */
static void
join(Covers *s, Cover *c, uint32_t i)
{
    s->work -= MIN(c->n, s->work);
    for (uint32_t k = 0; k < c->n && !c->p[i].bits; k++) {
        if (k == i || c->p[k].bits || c->p[k].lo != c->p[i].lo || c->p[k].hi != c->p[i].hi)
            continue;
        c->p[k].parts |= c->p[i].parts;
        c->p[i] = c->p[--c->n];
        return;
    }
}

typedef Status ChangeFn(Covers *s, Strip *t, const Lattice *l, int64_t row);

static Status
change(Covers *s, Cover *c, const Swath *x, int64_t row, ChangeFn *fn)
{
    Parts left = x->parts;
    for (uint32_t n = c->n, i = 0; i < n && left; i++) {
        Parts both = c->p[i].parts & left;
        if (!both)
            continue;
        left &= ~both;
        TRY(split(s, c, i, both, row));
        TRY(fn(s, &c->p[i], &x->at, row));
    }
    if (left && fn == strip_add) {
        Strip t = {.parts = left};
        TRY(strip_add(s, &t, &x->at, row));
        TRY(push_strip(s, c, t));
    }
    for (uint32_t i = c->n; i-- > 0 && c->n > 1 && s->work > 0;)
        join(s, c, i);
    return ST_OK;
}

Status
cover_add(Covers *s, Cover *c, const Swath *x, int64_t row)
{
    return change(s, c, x, row, strip_add);
}

Status
cover_remove(Covers *s, Cover *c, const Swath *x, int64_t row)
{
    return change(s, c, x, row, strip_remove);
}

static int
lowest(Parts p)
{
    uint64_t low = (uint64_t)p;
    return low ? __builtin_ctzll(low) : 64 + __builtin_ctzll((uint64_t)(p >> 64));
}

bool
cover_misses(Covers *s, const Cover *c, const Swath *x, Hole *hole)
{
    Parts left = x->parts;
    for (uint32_t i = 0; i < c->n && left; i++) {
        Parts both = c->p[i].parts & left;
        if (!both)
            continue;
        left &= ~both;
        int64_t at = strip_missing(s, &c->p[i], &x->at);
        if (at < 0)
            continue;
        *hole = (Hole){lowest(both), at};
        return true;
    }
    if (left)
        *hole = (Hole){lowest(left), x->at.base};
    return left != 0;
}

bool
swaths_meet(Covers *s, const Swath *a, const Swath *b)
{
    int64_t lo = a->at.base, hi = lattice_last(&a->at) + 1, first = b->at.base, end = lattice_last(&b->at) + 1;
    uint64_t *bits;
    bool meet = false;
    if (!(a->parts & b->parts) || end <= lo || hi <= first)
        return false;
    if (is_interval(&a->at) && is_interval(&b->at))
        return true;
    int64_t words = CEIL_DIV(hi - lo, 64);
    if (words > s->work || !can_spend(s, &a->at) || !can_spend(s, &b->at))
        return false;
    s->work -= words;
    bits = arena_alloc(s->arena, (size_t)words * sizeof(*bits));
    if (!bits)
        return false;
    Runs r = runs_of(&a->at);
    do
        bits_put(bits, r.at - lo, r.len, true);
    while (runs_next(&r));
    r = runs_of(&b->at);
    do {
        int64_t from = MAX(r.at, lo), to = MIN(r.at + r.len, hi);
        meet |= from < to && bits_any(bits, from - lo, to - from);
    } while (!meet && runs_next(&r));
    return meet;
}
