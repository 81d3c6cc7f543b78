/* allocate.c - addresses for on-chip buffers.
 *
 * in:   a tile program whose buffers have no addresses
 * out:  the same program, every SBUF and PSUM buffer with one; buffers that are live together do not overlap
 * rule: one walk over the program; a buffer takes the smallest gap that holds it when it is declared and gives it back
 *       after its last use (its loop, when copies rotate or values cross iterations). ST_LIMIT when there is no gap:
 *       the planner then cuts smaller tiles.
 */
#include "lower/gaps.h"
#include "lower/lower.h"

typedef struct Allocator {
    const Graph *g;
    Ctx *cx;
    Gaps pool[SP_COUNT];
    Live *live;
    int64_t *addr;                /* by val; -1: none */
    uint32_t *begin, *begin_next; /* by op: the first val to place there; by val: the next */
    uint32_t *expire, *next;      /* the same for vals to give back after an op */
    bool *missed;                 /* by op: there was no room for its buffer; NULL: the first such ends the pass */
} Allocator;

static bool
is_on_chip(const Type *t)
{
    return t->kind == TY_buffer && (t->space == SP_sbuf || t->space == SP_psum);
}

static int64_t
all_copies(const Graph *g, Val v)
{
    int64_t bufs = attr_int(g->cx, val_def(g, v)->attr, A_bufs, 1);
    return bufs * ALIGN_UP(buffer_bytes(val_type(g, v)), PLACE_ALIGN);
}

static Status
take(Allocator *al, Val v)
{
    const Graph *g = al->g;
    const Type *t = val_type(g, v);
    bool room = gaps_take(&al->pool[t->space], all_copies(g, v), &al->addr[v.i]);
    if (!room && al->missed) {
        al->missed[g->vals.p[v.i].def.i] = true;
        return ST_OK;
    }
    if (!room)
        return fail(al->cx, ST_LIMIT, val_def(g, v)->loc, "NKI-4006 %s: no room for %lld bytes per partition",
                    space_names[t->space], (long long)all_copies(g, v));
    uint32_t last = MAX(al->live[v.i].last.i, g->vals.p[v.i].def.i);
    al->next[v.i] = al->expire[last];
    al->expire[last] = v.i;
    return ST_OK;
}

/* A buffer needs its room from its declaration on; one whose copies rotate, from the beginning of its loop. */
static void
schedule_begins(Allocator *al)
{
    const Graph *g = al->g;
    for (uint32_t o = g->ops.n; o-- > 1;) { /* last first: lists come out in program order */
        const Op *op = &g->ops.p[o];
        if (op->code != K_buffer || !is_on_chip(val_type(g, op->out)) || al->live[op->out.i].last.i == 0)
            continue; /* never touched: it keeps no room */
        uint32_t at = MIN(al->live[op->out.i].first.i, o);
        al->begin_next[op->out.i] = al->begin[at];
        al->begin[at] = op->out.i;
    }
}

static Status
give_back(Allocator *al, OpId o)
{
    for (uint32_t v = al->expire[o.i]; v; v = al->next[v]) {
        Val val = {v};
        TRY(gaps_give(al->cx, &al->cx->scratch, &al->pool[val_type(al->g, val)->space], al->addr[v],
                      all_copies(al->g, val)));
    }
    return ST_OK;
}

static Status
assign(Allocator *al)
{
    schedule_begins(al);
    FOR_OPS(al->g, o) {
        for (uint32_t v = al->begin[o.i]; v; v = al->begin_next[v])
            TRY(take(al, (Val){v}));
        TRY(give_back(al, o));
    }
    return ST_OK;
}

static Status
place(void *env, const Op *op, AttrId *attr)
{
    const Allocator *al = env;
    if (op->code != K_buffer || !is_on_chip(val_type(al->g, op->out)))
        return ST_OK;
    int64_t addr = MAX(al->addr[op->out.i], 0); /* one that is never touched still needs a legal place */
    return attr_with(al->cx, op->attr, AT_INT(A_addr, addr), attr);
}

static Status
allocate(Allocator *al, const CompileOptions *opt)
{
    const Hw *hw = hw_get(opt->target);
    const Graph *in = al->g;
    Arena *a = &al->cx->scratch;
    NEW(al->cx, a, al->addr, in->vals.n);
    NEW(al->cx, a, al->expire, in->ops.n);
    NEW(al->cx, a, al->next, in->vals.n);
    NEW(al->cx, a, al->begin, in->ops.n);
    NEW(al->cx, a, al->begin_next, in->vals.n);
    for (uint32_t v = 0; v < in->vals.n; v++)
        al->addr[v] = -1;
    TRY(tile_liveness(in, a, &al->live));
    int64_t room = (int64_t)hw->sbuf_usable - opt->sbuf_taken;
    VEC_PUSH(al->cx, a, &al->pool[SP_sbuf].gap, (Stretch){0, room / PLACE_ALIGN * PLACE_ALIGN});
    VEC_PUSH(al->cx, a, &al->pool[SP_psum].gap, (Stretch){0, (int64_t)hw->psum_bytes});
    return assign(al);
}

Status
allocate_misses(const Graph *in, const CompileOptions *opt, Arena *a, bool **out)
{
    Allocator al = {.g = in, .cx = in->cx};
    NEW(al.cx, a, al.missed, in->ops.n);
    TRY(allocate(&al, opt));
    *out = al.missed;
    return ST_OK;
}

Status
pass_allocate(const Graph *in, const CompileOptions *opt, Graph **out)
{
    Allocator al = {.g = in, .cx = in->cx};
    TRY(allocate(&al, opt));
    return program_retag(in, place, &al, out);
}
