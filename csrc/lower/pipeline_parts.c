/* pipeline_parts.c - large values in parts, so that memory changes hands piece by piece.
 *
 * in:   a straight program before it is linked
 * out:  the same, where a value in SBUF whose touches leave seams is as many values as there are parts between seams
 * rule: every touch is inside one part. A part has the place of its first byte as its first element; what is throttled
 *       is each part by itself.
 */
#include "lower/pipeline.h"

#include <string.h>

#define LEAST_BYTES 8192 /* of a value that goes in parts */
#define MOST_TOUCHES 512 /* of a value that is looked at */

typedef struct Parts {
    Straight *s;
    uint32_t *first, *list; /* by value: its touches, in list */
    uint32_t *kin;          /* by kin: the kin of the second part; 0: there is none yet */
    uint32_t *count;        /* by kin: how many parts that one had */
} Parts;

static Status
list_touches(Parts *p)
{
    Straight *s = p->s;
    uint32_t at = 0, *n;
    NEW(s->g->cx, s->a, p->first, s->value.n + 1);
    NEW(s->g->cx, s->a, p->list, s->touch.n + 1);
    NEW(s->g->cx, s->a, n, s->value.n + 1);
    for (uint32_t t = 0; t < s->touch.n; t++)
        n[s->touch.p[t].buf]++;
    for (uint32_t v = 0; v <= s->value.n; v++) {
        p->first[v] = at;
        at += v < s->value.n ? n[v] : 0;
        n[v] = 0;
    }
    for (uint32_t t = 0; t < s->touch.n; t++) {
        uint32_t v = s->touch.p[t].buf;
        p->list[p->first[v] + n[v]++] = t;
    }
    return ST_OK;
}

static bool
is_large(const Parts *p, uint32_t v)
{
    const Value *x = &p->s->value.p[v];
    uint32_t n = p->first[v + 1] - p->first[v];
    bool still = x->chip && !x->outer && x->space == SP_sbuf && x->bytes >= LEAST_BYTES && n > 1 && n <= MOST_TOUCHES;
    for (uint32_t k = 0; still && k < n; k++)
        still = !p->s->touch.p[p->list[p->first[v] + k]].moves;
    return still;
}

/* The touches of a value by where they begin. Returns how many parts they make. */
static uint32_t
sort_touches(Parts *p, uint32_t v)
{
    const Touch *t = p->s->touch.p;
    uint32_t *l = p->list + p->first[v], n = p->first[v + 1] - p->first[v], parts = 1;
    int64_t hi;
    for (uint32_t i = 1; i < n; i++) {
        uint32_t k, x = l[i];
        for (k = i; k > 0 && t[l[k - 1]].at.lo > t[x].at.lo; k--)
            l[k] = l[k - 1];
        l[k] = x;
    }
    hi = t[l[0]].at.hi;
    for (uint32_t i = 1; i < n; i++) {
        parts += t[l[i]].at.lo >= hi;
        hi = MAX(hi, t[l[i]].at.hi);
    }
    return parts;
}

/* Kins of the second part and those after it: the same for all turns of a buffer that has as many. */
static Status
kins_of(Parts *p, uint32_t kin, uint32_t parts, uint32_t *out)
{
    Straight *s = p->s;
    if (p->count[kin] == parts) {
        *out = p->kin[kin];
        return ST_OK;
    }
    *out = p->kin[kin] = s->turns.n;
    p->count[kin] = parts;
    for (uint32_t k = 1; k < parts; k++)
        VEC_PUSH(s->g->cx, s->a, &s->turns, s->turns.p[kin]);
    return ST_OK;
}

/* Touches [from, to) of the sorted list become those of value `v`, which is their hull. */
static void
move_touches(Parts *p, const uint32_t *list, uint32_t n, uint32_t v)
{
    Straight *s = p->s;
    Value *x = &s->value.p[v];
    int64_t elem = dtypes[val_dtype(s->g, x->val)].bytes, lo = s->touch.p[list[0]].at.lo, hi = lo;
    for (uint32_t k = 0; k < n; k++) {
        Touch *t = &s->touch.p[list[k]];
        hi = MAX(hi, t->at.hi);
        t->buf = t->value = v;
        t->off -= lo / elem;
        t->at.lo -= lo;
        t->at.hi -= lo;
    }
    x->elems = (hi - lo) / elem;
    x->bytes = ALIGN_UP(hi - lo, PLACE_ALIGN);
}

static Status
take_apart(Parts *p, uint32_t v, uint32_t parts)
{
    Straight *s = p->s;
    uint32_t *l = p->list + p->first[v], n = p->first[v + 1] - p->first[v], from = 0, kin, part = 0;
    TRY(kins_of(p, s->value.p[v].kin, parts, &kin));
    while (from < n) {
        uint32_t to = from + 1, to_value = v;
        int64_t hi = s->touch.p[l[from]].at.hi;
        for (; to < n && s->touch.p[l[to]].at.lo < hi; to++)
            hi = MAX(hi, s->touch.p[l[to]].at.hi);
        if (part > 0) {
            Value x = s->value.p[v];
            x.kin = kin + part - 1;
            to_value = s->value.n;
            VEC_PUSH(s->g->cx, s->a, &s->value, x);
        }
        move_touches(p, l + from, to - from, to_value);
        from = to;
        part++;
    }
    return ST_OK;
}

static Status
list_used(Straight *s)
{
    memset(&s->used, 0, sizeof(s->used));
    for (uint32_t i = 0; i < s->node.n; i++) {
        Node *n = &s->node.p[i];
        n->value = s->used.n;
        n->nvalue = 0;
        for (uint32_t t = n->touch; t < n->touch + n->ntouch; t++)
            if (s->value.p[s->touch.p[t].buf].chip && !s->value.p[s->touch.p[t].buf].outer)
                TRY(note_used(s, n, s->touch.p[t].buf));
    }
    return ST_OK;
}

Status
straight_parts(Straight *s)
{
    Parts p = {.s = s};
    Ctx *cx = s->g->cx;
    uint32_t values = s->value.n, kins = s->turns.n, *old = s->turns.p;
    memset(&s->turns, 0, sizeof(s->turns));
    for (uint32_t k = 0; k < kins; k++)
        VEC_PUSH(cx, s->a, &s->turns, old[k]);
    NEW(cx, s->a, p.kin, kins + 1);
    NEW(cx, s->a, p.count, kins + 1);
    TRY(list_touches(&p));
    for (uint32_t v = 0; v < values; v++) {
        uint32_t parts = is_large(&p, v) ? sort_touches(&p, v) : 1;
        if (parts > 1)
            TRY(take_apart(&p, v, parts));
    }
    return s->value.n > values ? list_used(s) : ST_OK;
}
