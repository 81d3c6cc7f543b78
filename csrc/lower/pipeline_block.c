/* pipeline_block.c - a long loop as blocks of iterations, each block straight code in a good order.
 *
 * in:   a loop whose body is short, how many iterations make a block, room for the values of its body
 * out:  a loop over blocks, and what comes before and after it
 * rule: same results, bit for bit. Blocks follow each other as they are, or overlap: the early part of a block, until
 *       its busiest engine has all it needs, runs in the block before. A value that crosses over has one place for all
 *       blocks, and the next block writes it when this one has read it.
 */
#include "lower/pipeline_block.h"

#include <math.h>
#include <string.h>

/* ---- pieces of the block ---- */

static Status
begin_piece(const Straight *m, const bool *cross, const Gaps *room, Straight *out)
{
    Ctx *cx = m->g->cx;
    *out = (Straight){.src = m->src, .g = m->g, .hw = m->hw, .lags = m->lags, .a = m->a, .scratch = m->scratch};
    out->room = room;
    out->turns = m->turns;
    TRY(vec_reserve(cx, m->a, &out->value, m->value.n, sizeof(Value)));
    for (uint32_t v = 0; v < m->value.n; v++) {
        Value x = m->value.p[v];
        x.nuser = x.user = 0;
        x.outer |= cross && cross[v];
        VEC_PUSH(cx, m->a, &out->value, x);
    }
    return ST_OK;
}

/* The same values once more, for other iterations: those that are no one else's are new ones. Returns the first. */
static Status
more_values(Straight *s, uint32_t count, uint32_t *base)
{
    *base = s->value.n;
    for (uint32_t v = 0; v < count; v++) {
        Value x = s->value.p[v];
        VEC_PUSH(s->g->cx, s->a, &s->value, x);
    }
    return ST_OK;
}

static void
shift_touch(const Straight *s, Touch *t, Val loop, int64_t by)
{
    int64_t off = affine_coef(&t->ap->off, loop) * by, part = affine_coef(&t->ap->part, loop) * by;
    int64_t bytes = off * dtypes[val_dtype(s->g, s->value.p[t->buf].val)].bytes;
    t->off += off;
    t->part += part;
    t->at.lo += bytes;
    t->at.hi += bytes;
    t->at.p0 += (int32_t)part;
    t->at.p1 += (int32_t)part;
}

static Status
add_shifted(Straight *s, const Straight *m, const Node *from, Val loop, int64_t by, uint32_t base)
{
    Ctx *cx = s->g->cx;
    Node n = *from;
    n.touch = s->touch.n;
    n.value = s->used.n;
    n.nvalue = n.npred = n.nsucc = 0;
    for (uint32_t i = from->touch; i < from->touch + from->ntouch; i++) {
        Touch t = m->touch.p[i];
        shift_touch(s, &t, loop, by);
        t.buf += s->value.p[t.buf].outer || !s->value.p[t.buf].chip ? 0 : base;
        t.value += t.value == NO_VALUE || s->value.p[t.value].outer || !s->value.p[t.value].chip ? 0 : base;
        VEC_PUSH(cx, s->a, &s->touch, t);
    }
    for (uint32_t i = 0; i < from->nvalue; i++) {
        uint32_t v = m->used.p[from->value + i];
        if (s->value.p[v].outer)
            continue;
        VEC_PUSH(cx, s->a, &s->used, v + base);
        n.nvalue++;
    }
    if (op_first(s->g, &s->g->ops.p[n.op]).i == loop.i) {
        n.first += by;
        n.adds = n.first != 0;
    }
    VEC_PUSH(cx, s->a, &s->node, n);
    return ST_OK;
}

/* The early or the late nodes of the block, `by` iterations later. */
static Status
add_part(const Block *b, bool early, int64_t by, Straight *s)
{
    const Straight *m = b->best.s;
    for (uint32_t i = 0; i < m->node.n; i++)
        if (b->early[i] == early)
            TRY(add_shifted(s, m, &m->node.p[i], b->var, by, 0));
    return ST_OK;
}

/* What does not fill a block. */
static Status
add_rest(const Block *b, Straight *s)
{
    const Straight *m = b->best.s;
    int64_t rest = b->count % b->size;
    uint32_t base;
    TRY(more_values(s, m->value.n, &base));
    for (uint32_t i = 0; i < m->node.n; i++)
        if (m->node.p[i].turn < rest)
            TRY(add_shifted(s, m, &m->node.p[i], b->var, b->count - rest, base));
    return ST_OK;
}

/* ---- which nodes are early ---- */

/* As long as the busiest engine is idle in a block by itself, the next one may begin before it ends. */
static double
idle_of(const Best *best)
{
    double busy[EN_COUNT] = {0}, most = 0;
    for (uint32_t i = 0; i < best->s->node.n; i++) {
        const Work *w = &best->s->node.p[i].work[best->o.engine[i]];
        busy[w->engine] += w->issue;
        most = MAX(most, busy[w->engine]);
    }
    return best->o.us - most;
}

/* Marks early nodes, and the values that cross over; false: there are none, or no others. */
static bool
find_early(Block *b, double until)
{
    const Straight *m = b->best.s;
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->node.n; i++) {
        b->early[i] = b->best.o.start[i] < until;
        n += b->early[i];
    }
    for (uint32_t v = 0; v < m->value.n; v++) {
        const Value *x = &m->value.p[v];
        bool first = false, last = false;
        for (uint32_t k = 0; x->chip && !x->outer && k < x->nuser; k++) {
            first |= b->early[m->users[x->user + k]];
            last |= !b->early[m->users[x->user + k]];
        }
        b->cross[v] = first && last;
    }
    return n > 0 && n < m->node.n;
}

/* Places for the values that cross over; what is left is the room of the pieces. */
static Status
place_crossing(Block *b, bool *ok)
{
    const Straight *m = b->best.s;
    for (int sp = 0; sp < SP_COUNT; sp++) {
        b->room[sp] = (Gaps){0};
        for (uint32_t i = 0; i < m->room[sp].gap.n; i++)
            VEC_PUSH(m->g->cx, m->a, &b->room[sp].gap, m->room[sp].gap.p[i]);
    }
    *ok = true;
    for (uint32_t v = 0; v < m->value.n && *ok; v++)
        if (b->cross[v])
            *ok = gaps_take(&b->room[m->value.p[v].space], m->value.p[v].bytes, &b->addr[v]);
    return ST_OK;
}

/* ---- the block ---- */

static Status
order_piece(const Block *b, Straight *s, Best *out, bool *ok)
{
    *out = (Best){.s = s};
    *ok = true;
    return s->node.n ? order_like(s, &b->best.lim, out, ok) : ST_OK;
}

static Status
make_pieces(Block *b, bool *ok)
{
    const Straight *m = b->best.s;
    int64_t whole = b->count / b->size;
    Straight *s;
    NEW(m->g->cx, m->a, s, 3);
    for (int k = 0; k < 3; k++)
        TRY(begin_piece(m, b->cross, b->room, &s[k]));
    TRY(add_part(b, true, 0, &s[0]));
    TRY(add_part(b, false, 0, &s[1]));
    TRY(add_part(b, true, b->size, &s[1]));
    TRY(add_part(b, false, (whole - 1) * b->size, &s[2]));
    TRY(add_rest(b, &s[2]));
    TRY(order_piece(b, &s[0], &b->head, ok));
    if (*ok)
        TRY(order_piece(b, &s[1], &b->kernel, ok));
    return *ok ? order_piece(b, &s[2], &b->tail, ok) : ST_OK;
}

/* The block as one that overlaps with the next by `until` us. *ok: it is. */
static Status
rotate(Block *b, double until, bool *ok)
{
    Ctx *cx = b->best.s->g->cx;
    NEW(cx, b->best.s->a, b->early, b->best.s->node.n + 1);
    NEW(cx, b->best.s->a, b->cross, b->best.s->value.n + 1);
    NEW(cx, b->best.s->a, b->addr, b->best.s->value.n + 1);
    *ok = b->count / b->size > 2 && find_early(b, until);
    if (*ok)
        TRY(place_crossing(b, ok));
    if (*ok)
        TRY(make_pieces(b, ok));
    b->rotated = *ok;
    return ST_OK;
}

/* Block after block. */
static Status
keep_whole(Block *b, bool *ok)
{
    const Straight *m = b->best.s;
    Straight *s;
    NEW(m->g->cx, m->a, s, 1);
    TRY(begin_piece(m, NULL, m->room, s));
    TRY(add_rest(b, s));
    b->head = (Best){0};
    b->kernel = b->best;
    b->rotated = false;
    return order_piece(b, s, &b->tail, ok);
}

static Status
write_piece(Emit *e, const Block *b, const Best *p, const Val *cross)
{
    return p->s && p->s->node.n ? straight_write(e, p->s, &p->o, b->rotated ? cross : NULL) : ST_OK;
}

Status
block_write(Emit *e, const Block *b)
{
    const Straight *m = b->best.s;
    Val *cross;
    NEW(m->g->cx, m->a, cross, 2 * m->value.n + 1);
    for (uint32_t v = 0; b->rotated && v < m->value.n; v++) {
        if (b->cross[v])
            TRY(emit_place(e, &m->value.p[v], b->addr[v], &cross[v]));
    }
    TRY(write_piece(e, b, &b->head, cross));
    TRY(emit_loop(e, b->loop, b->count / b->size - b->rotated, b->size));
    TRY(write_piece(e, b, &b->kernel, cross));
    TRY(emit_loop_end(e, b->loop));
    return write_piece(e, b, &b->tail, cross);
}

/* What the loop takes by itself. */
static Status
price(const Block *b, const int64_t *addr, double *us)
{
    const Straight *m = b->best.s;
    Emit e;
    Graph *g = NULL;
    Cost *c;
    NEW(m->g->cx, m->a, c, 1);
    Status st = emit_begin(m->src, m->a, &e);
    for (uint32_t v = 0; v < m->value.n && st == ST_OK; v++)
        if (m->value.p[v].outer)
            st = emit_buffer(&e, m->value.p[v].val, addr[m->value.p[v].val.i]);
    if (st == ST_OK)
        st = block_write(&e, b);
    TRY(emit_end(st, &e, &g));
    st = cost_program(g, c);
    *us = c->time_us;
    graph_free(g);
    return st;
}

/* The fastest form: blocks one after the other, or overlapping by more or less. *ok: there is one. */
static Status
choose_form(Block *b, const int64_t *addr, bool *ok)
{
    static const double shares[] = {1, 0.5, 0.25};
    Block form = *b;
    double least = INFINITY, us = 0, idle = idle_of(&b->best);
    bool fits;
    *ok = false;
    for (int k = -1; k < COUNT_OF(shares) && !(*ok && b->rotated); k++) {
        form = (Block){.loop = b->loop, .var = b->var, .count = b->count, .size = b->size, .best = b->best};
        TRY(k < 0 ? keep_whole(&form, &fits) : rotate(&form, idle * shares[k], &fits));
        if (fits)
            TRY(price(&form, addr, &us));
        if (fits && us < least) {
            least = us;
            *b = form;
            *ok = true;
        }
    }
    return ST_OK;
}

Status
block_make(Source *src, uint32_t loop, int64_t size, int most, const int64_t *addr, const Straight *like, Block *out,
           bool *ok)
{
    Ctx *cx = src->g->cx;
    Straight *whole;
    const Op *op = &src->g->ops.p[loop];
    *out = (Block){.loop = loop, .var = op->out, .size = size, .count = attr_int(cx, op->attr, A_count, 1)};
    NEW(cx, like->a, whole, 1);
    TRY(straight_expand_loop(src, loop, size, like, whole));
    TRY(order_find(whole, true, most, &out->best, ok));
    if (!*ok)
        return ST_OK;
    return choose_form(out, addr, ok);
}
