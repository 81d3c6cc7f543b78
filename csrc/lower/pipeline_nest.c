/* pipeline_nest.c - a program with long loops: what is short becomes straight code, loops run over blocks.
 *
 * in:   a program of more instructions than straight code may have
 * out:  the same program as leaves in the order of its text: straight code, loops over blocks, loops that are kept with
 *       leaves inside, and code left as it is
 * rule: a buffer that one leaf touches is placed there; the others are placed first, over all leaves. What has no room
 *       that way is left as it is, with all its buffers placed first.
 */
#include "lower/pipeline_block.h"

#include <string.h>

#define RUN_MOST 800    /* instructions of straight code between loops */
#define BODY_MOST 800   /* of an iteration that may be a block */
#define BLOCK_NODES 500 /* worth having in a block, */
#define BLOCK_TURNS 8   /* of at most so many iterations */
#define LEAST_RUN 100   /* of straight code that is cut once more when it has no room */
#define PSUM_WEIGHT 12  /* what a byte of PSUM is worth in bytes of SBUF */
#define ROUNDS 8        /* of cutting and leaving alone what has no room */

typedef enum LeafKind { LF_straight, LF_block, LF_asis, LF_loop, LF_end } LeafKind;
typedef struct Leaf {
    uint8_t kind;
    uint32_t begin, end; /* ops; LF_block: of the loop */
    uint32_t loop;       /* LF_end: the one that ends */
    Gaps room[SP_COUNT]; /* of straight code and blocks */
} Leaf;

typedef struct Nest {
    Source *src;
    const Graph *g;
    Ctx *cx;
    Arena *a, *scratch;
    int most;
    int64_t run; /* instructions of straight code */
    bool *asis;  /* by op */
    bool *stop;  /* by op: no straight code goes on past it */
    int64_t *across; /* by op: bytes on chip that are needed before it and from it on */
    VEC(Leaf) leaf;
    uint32_t *leaf_of, *tick; /* by op: its leaf; when it is: a leaf, or an op that is left as it is */
    uint32_t ticks;
    Live *live;
    int64_t *addr; /* by val: of outer buffers */
    Carry before;  /* of the straight code just written, */
    bool known;    /* if it was that */
} Nest;

/* ---- leaves ---- */

static uint32_t
after(const Nest *n, uint32_t o)
{
    return (n->src->end[o] ? n->src->end[o] : o) + 1;
}

static Status
add_leaf(Nest *n, LeafKind kind, uint32_t begin, uint32_t end)
{
    Leaf f = {.kind = (uint8_t)kind, .begin = begin, .end = end};
    if (begin == end)
        return ST_OK;
    for (uint32_t o = begin; o < end; o++) {
        n->leaf_of[o] = n->leaf.n;
        n->tick[o] = n->ticks;
        n->ticks += kind == LF_asis;
    }
    n->ticks += kind != LF_asis;
    VEC_PUSH(n->cx, n->a, &n->leaf, f);
    return ST_OK;
}

static Status plan_range(Nest *n, uint32_t begin, uint32_t end);

static Status
plan_loop(Nest *n, uint32_t o)
{
    int64_t count = attr_int(n->cx, n->g->ops.p[o].attr, A_count, 1);
    if (n->asis[o])
        return add_leaf(n, LF_asis, o, after(n, o));
    if (count > 1 && n->src->inside[o] / count <= BODY_MOST)
        return add_leaf(n, LF_block, o, after(n, o));
    TRY(add_leaf(n, LF_loop, o, o + 1));
    TRY(plan_range(n, o + 1, n->src->end[o]));
    TRY(add_leaf(n, LF_end, n->src->end[o], after(n, o)));
    n->leaf.p[n->leaf.n - 1].loop = o;
    return ST_OK;
}

static int64_t
size_of(const Nest *n, uint32_t o)
{
    return n->src->end[o] ? n->src->inside[o] : is_instr(n->g, &n->g->ops.p[o]);
}

/* Where straight code from `from` on ends: of the places where about as much of it fits, the one that the least memory
 * outlives. */
static uint32_t
run_end(const Nest *n, uint32_t from, uint32_t end)
{
    int64_t run = 0;
    uint32_t best = from, o = from;
    for (; o < end && run + size_of(n, o) <= n->run && !n->asis[o] && (o == from || !n->stop[o]); o = after(n, o)) {
        if (o > from && run >= n->run / 3 && (best == from || n->across[o] <= n->across[best]))
            best = o;
        run += size_of(n, o);
    }
    bool whole = o == end || n->stop[o] || n->asis[o] || size_of(n, o) > n->run;
    return whole || best == from || n->across[o] <= n->across[best] ? o : best;
}

static Status
plan_range(Nest *n, uint32_t begin, uint32_t end)
{
    for (uint32_t o = begin; o < end;) {
        uint32_t to = run_end(n, o, end);
        if (to > o) {
            TRY(add_leaf(n, LF_straight, o, to));
        } else {
            to = after(n, o);
            TRY(n->src->end[o] ? plan_loop(n, o) : add_leaf(n, LF_asis, o, to));
        }
        o = to;
    }
    return ST_OK;
}

/* Which buffers more than one leaf touches. */
static void
find_outer(Nest *n)
{
    memset(n->src->outer, 0, sizeof(*n->src->outer) * n->g->vals.n);
    FOR_OPS(n->g, o) {
        const Op *op = graph_op(n->g, o);
        for (int i = 0; is_instr(n->g, op) && i < op->nin; i++) {
            Val v = op_val(n->g, op, i);
            if (!v.i || !op_in(n->g, op, i)->ap.i || val_type(n->g, v)->space == SP_hbm)
                continue;
            uint32_t home = n->leaf_of[n->g->vals.p[v.i].def.i];
            n->src->outer[v.i] |= home != n->leaf_of[o.i] || n->leaf.p[home].kind == LF_asis;
        }
    }
}

static Status
plan_leaves(Nest *n)
{
    n->leaf.n = 0;
    n->ticks = 0;
    TRY(plan_range(n, 1, n->g->ops.n));
    find_outer(n);
    return ST_OK;
}

/* ---- buffers of more than one leaf ---- */

typedef struct Line { /* by tick: buffers that begin or end then, as lists by val */
    uint32_t *begin, *begin_next, *end, *end_next;
} Line;

static int64_t
all_bytes(const Nest *n, Val v)
{
    const Type *ty = val_type(n->g, v);
    int64_t unit = ty->space == SP_psum ? (int64_t)n->src->hw->psum_bank_bytes : PLACE_ALIGN;
    return ALIGN_UP(attr_int(n->cx, val_def(n->g, v)->attr, A_bufs, 1) * buffer_stride(ty), unit);
}

static Status
draw_line(const Nest *n, Line *l)
{
    NEW(n->cx, n->a, l->begin, n->ticks + 1);
    NEW(n->cx, n->a, l->end, n->ticks + 1);
    NEW(n->cx, n->a, l->begin_next, n->g->vals.n);
    NEW(n->cx, n->a, l->end_next, n->g->vals.n);
    for (uint32_t v = n->g->vals.n; v-- > 1;) {
        if (!n->src->outer[v])
            continue;
        uint32_t def = n->tick[n->g->vals.p[v].def.i];
        uint32_t from = MIN(def, n->tick[n->live[v].first.i]), to = MAX(def, n->tick[n->live[v].last.i]);
        l->begin_next[v] = l->begin[from];
        l->begin[from] = v;
        l->end_next[v] = l->end[to];
        l->end[to] = v;
    }
    return ST_OK;
}

static Status
copy_gaps(const Nest *n, const Gaps *from, Gaps *to)
{
    *to = (Gaps){0};
    for (uint32_t i = 0; i < from->gap.n; i++)
        VEC_PUSH(n->cx, n->a, &to->gap, from->gap.p[i]);
    return ST_OK;
}

static Status
place_tick(Nest *n, const Line *l, uint32_t tick, Gaps *free, Leaf *f, bool *ok)
{
    for (uint32_t v = l->begin[tick]; v && *ok; v = l->begin_next[v])
        *ok = gaps_take(&free[val_type(n->g, (Val){v})->space], all_bytes(n, (Val){v}), &n->addr[v]);
    if (f->kind == LF_straight || f->kind == LF_block)
        for (int sp = SP_sbuf; sp <= SP_psum; sp++)
            TRY(copy_gaps(n, &free[sp], &f->room[sp]));
    for (uint32_t v = l->end[tick]; v && *ok; v = l->end_next[v])
        TRY(gaps_give(n->cx, n->a, &free[val_type(n->g, (Val){v})->space], n->addr[v], all_bytes(n, (Val){v})));
    return ST_OK;
}

static Status
place_outer(Nest *n, bool *ok)
{
    Gaps free[SP_COUNT] = {0};
    Line l;
    uint32_t done = 0;
    TRY(draw_line(n, &l));
    for (int sp = SP_sbuf; sp <= SP_psum; sp++)
        TRY(copy_gaps(n, &n->src->room[sp], &free[sp]));
    *ok = true;
    FOR_OPS(n->g, o) {
        for (; done <= n->tick[o.i] && *ok; done++)
            TRY(place_tick(n, &l, done, free, &n->leaf.p[n->leaf_of[o.i]], ok));
    }
    return ST_OK;
}

/* ---- code ---- */

static Status
write_outer(const Nest *n, Emit *e, const Leaf *f)
{
    for (uint32_t o = f->begin; o < f->end; o++) {
        Val v = n->g->ops.p[o].out;
        if (n->g->ops.p[o].code == K_buffer && n->src->outer[v.i])
            TRY(emit_buffer(e, v, n->addr[v.i]));
    }
    return ST_OK;
}

/* What a leaf leaves behind, for as long as the program is written. */
static Status
keep_carry(Nest *n, const Carry *from)
{
    n->before = *from;
    for (int sp = SP_sbuf; sp <= SP_psum; sp++) {
        memset(&n->before.hole[sp], 0, sizeof(n->before.hole[sp]));
        for (uint32_t i = 0; i < from->hole[sp].n; i++)
            VEC_PUSH(n->cx, n->a, &n->before.hole[sp], from->hole[sp].p[i]);
    }
    n->known = true;
    return ST_OK;
}

static Status
write_straight(Nest *n, Emit *e, const Leaf *f, const Straight *like, bool *ok)
{
    Straight s;
    Best best;
    TRY(write_outer(n, e, f));
    TRY(straight_expand(n->src, f->begin, f->end, like, &s));
    s.before = n->known ? &n->before : NULL;
    if (s.node.n == 0)
        return ST_OK;
    TRY(order_find(&s, true, n->most, &best, ok));
    if (!*ok)
        return ST_OK;
    TRY(keep_carry(n, best.o.left));
    return straight_write(e, best.s, &best.o, NULL);
}

/* A divisor of the count when one is near. */
static int64_t
block_size(const Nest *n, uint32_t loop)
{
    int64_t count = attr_int(n->cx, n->g->ops.p[loop].attr, A_count, 1), body = n->src->inside[loop] / count;
    int64_t most = MAX(1, MIN(MIN(BLOCK_TURNS, BLOCK_NODES / body), count / 2));
    for (int64_t size = most; size > most / 2; size--)
        if (count % size == 0)
            return size;
    return most;
}

static Status
write_block(const Nest *n, Emit *e, const Leaf *f, const Straight *like, bool *ok)
{
    Block b;
    TRY(block_make(n->src, f->begin, block_size(n, f->begin), n->most, n->addr, like, &b, ok));
    return *ok ? block_write(e, &b) : ST_OK;
}

static Status
write_asis(const Nest *n, Emit *e, uint32_t begin, uint32_t end)
{
    for (uint32_t o = begin; o < end; o = after(n, o)) {
        const Op *op = &n->g->ops.p[o];
        if (op->code == K_loop) {
            TRY(emit_loop(e, o, attr_int(n->cx, op->attr, A_count, 1), 1));
            TRY(write_asis(n, e, o + 1, n->src->end[o]));
            TRY(emit_loop_end(e, o));
        } else if (op->code != K_buffer) {
            TRY(emit_op(e, o));
        } else if (n->src->outer[op->out.i]) {
            TRY(emit_buffer(e, op->out, n->addr[op->out.i]));
        }
    }
    return ST_OK;
}

static Status
write_leaf(Nest *n, Emit *e, const Leaf *f, const Straight *like, bool *ok)
{
    const Op *op = &n->g->ops.p[f->begin];
    n->known &= f->kind == LF_straight;
    switch (f->kind) {
    case LF_straight:
        return write_straight(n, e, f, like, ok);
    case LF_block:
        return write_block(n, e, f, like, ok);
    case LF_asis:
        return write_asis(n, e, f->begin, f->end);
    case LF_loop:
        n->src->kept[op->out.i] = true;
        n->src->value_of[op->out.i] = 0;
        return emit_loop(e, f->begin, attr_int(n->cx, op->attr, A_count, 1), 1);
    default:
        return emit_loop_end(e, f->loop);
    }
}

/* A leaf for which there is no room is shorter the next time, or left as it is. */
static void
give_up(Nest *n, const Leaf *f)
{
    int64_t all = 0, run = 0;
    uint32_t best = 0;
    for (uint32_t o = f->begin; o < f->end; o = after(n, o))
        all += size_of(n, o);
    for (uint32_t o = f->begin; o < f->end; o = after(n, o)) {
        if (run > all / 4 && run < all - all / 4 && (!best || n->across[o] < n->across[best]))
            best = o;
        run += size_of(n, o);
    }
    if (best && all >= LEAST_RUN && f->kind == LF_straight) {
        n->stop[best] = true;
        return;
    }
    for (uint32_t o = f->begin; o < f->end; o = after(n, o))
        n->asis[o] = n->g->ops.p[o].code != K_buffer;
}

static Status
find_across(Nest *n)
{
    const Graph *g = n->g;
    NEW(n->cx, n->a, n->across, g->ops.n + 2);
    for (uint32_t v = 1; v < g->vals.n; v++) {
        const Type *ty = val_type(g, (Val){v});
        if (ty->kind != TY_buffer || ty->space == SP_hbm || !n->live[v].last.i)
            continue;
        int64_t bytes = all_bytes(n, (Val){v}) * (ty->space == SP_psum ? PSUM_WEIGHT : 1);
        n->across[MIN(g->vals.p[v].def.i, n->live[v].first.i) + 1] += bytes;
        n->across[n->live[v].last.i + 1] -= bytes;
    }
    for (uint32_t o = 1; o < g->ops.n; o++)
        n->across[o] += n->across[o - 1];
    return ST_OK;
}

/* *failed: the leaf for which there is no room, or NULL */
static Status
write_leaves(Nest *n, Emit *e, const Leaf **failed)
{
    Arena a;
    Status st = ST_OK;
    n->known = false;
    arena_init(&a, &n->cx->mem);
    for (uint32_t i = 0; i < n->leaf.n && st == ST_OK && !*failed; i++) {
        const Leaf *f = &n->leaf.p[i];
        Straight like = {.a = &a, .scratch = n->scratch, .room = f->room};
        bool ok = true;
        arena_reset(&a);
        st = write_leaf(n, e, f, &like, &ok);
        if (st == ST_OK && !ok)
            *failed = f;
    }
    arena_free(&a);
    return st;
}

static Status
write_program(Nest *n, Graph **out)
{
    const Leaf *failed = NULL;
    Emit e;
    Status st = emit_begin(n->src, n->a, &e);
    if (st == ST_OK)
        st = write_leaves(n, &e, &failed);
    TRY(emit_end(st, &e, out));
    if (!failed)
        return ST_OK;
    give_up(n, failed);
    graph_free(*out);
    *out = NULL;
    return ST_OK;
}

static Status
nest_init(Source *src, int most, Arena *a, Arena *scratch, Nest *n)
{
    Ctx *cx = src->g->cx;
    *n = (Nest){.src = src, .g = src->g, .cx = cx, .a = a, .scratch = scratch, .most = most, .run = RUN_MOST};
    NEW(cx, a, n->asis, src->g->ops.n);
    NEW(cx, a, n->stop, src->g->ops.n + 1);
    NEW(cx, a, n->leaf_of, src->g->ops.n);
    NEW(cx, a, n->tick, src->g->ops.n);
    NEW(cx, a, n->addr, src->g->vals.n);
    TRY(tile_liveness(src->g, a, &n->live));
    return find_across(n);
}

Status
pipeline_nests(Source *src, int most, Arena *a, Arena *scratch, Graph **out)
{
    Nest n;
    TRY(nest_init(src, most, a, scratch, &n));
    for (int round = 0; round < ROUNDS && !*out; round++) {
        bool ok;
        TRY(plan_leaves(&n));
        TRY(place_outer(&n, &ok));
        if (ok)
            TRY(write_program(&n, out));
        else
            n.run /= 4;
    }
    return ST_OK;
}
