/* pipeline_expand.c - a program without loops: every execution of an instruction is a node, every turn of a buffer a
 * value.
 *
 * in:   a lowered tile program whose engines are chosen, and the same one before they were; which part of it
 * out:  nodes in the order of execution with their operands, loop variables put in
 * rule: HBM that nothing writes orders nothing; an output that updates an input is one buffer with it. A `first`
 * operand becomes "adds" or nothing, unless its loop is kept.
 */
#include "lower/pipeline.h"

#include <string.h>

/* ---- facts about the program ---- */

static void
count_nodes(Source *s, uint32_t *stack)
{
    const int64_t most = (int64_t)1 << 40;
    const Graph *g = s->g;
    int depth = 0;
    stack[0] = 0;
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        if (op->code == K_loop) {
            stack[++depth] = o.i;
        } else if (op->code == K_end) {
            uint32_t loop = stack[depth--];
            int64_t count = attr_int(g->cx, g->ops.p[loop].attr, A_count, 0);
            s->end[loop] = o.i;
            s->inside[loop] = s->inside[loop] && count > most / s->inside[loop] ? most : s->inside[loop] * count;
            s->inside[stack[depth]] = MIN(most, s->inside[stack[depth]] + s->inside[loop]);
        } else if (op->code != K_buffer) {
            s->inside[stack[depth]]++;
        }
    }
}

static void
find_ordered(Source *s)
{
    const Graph *g = s->g;
    Use use[MAX_OPERANDS];
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        int n = is_instr(g, op) ? op_uses(g, op, use) : 0;
        for (int i = 0; i < n; i++)
            if (use[i].space == SP_hbm && (use[i].role & R_write))
                s->orders[use[i].val.i] = use[i].val.i;
    }
    for (uint32_t k = 0; k < g->aliases.n; k++) {
        int32_t input = g->aliases.p[k];
        if (input >= 0 && s->orders[g->outputs.p[k].i])
            s->orders[g->inputs.p[input].i] = s->orders[g->outputs.p[k].i];
    }
}

Status
source_init(const Graph *g, const Graph *lowered, const CompileOptions *opt, Arena *a, Source *out)
{
    Ctx *cx = g->cx;
    uint32_t *stack;
    *out = (Source){.g = g, .lowered = lowered, .hw = hw_get(g->target), .quick = opt->quick};
    int64_t room = (int64_t)out->hw->sbuf_usable - opt->sbuf_taken;
    lags_of(out->hw, &out->lags);
    NEW(cx, a, stack, MAX_NEST + 2);
    NEW(cx, a, out->end, g->ops.n + 1);
    NEW(cx, a, out->inside, g->ops.n + 1);
    NEW(cx, a, out->made, g->ops.n + 1);
    NEW(cx, a, out->orders, g->vals.n);
    NEW(cx, a, out->outer, g->vals.n);
    NEW(cx, a, out->kept, g->vals.n);
    NEW(cx, a, out->value_of, g->vals.n);
    NEW(cx, a, out->cur, g->vals.n);
    NEW(cx, a, out->kin, g->vals.n);
    NEW(cx, a, out->stamp, g->vals.n);
    VEC_PUSH(cx, a, &out->room[SP_sbuf].gap, (Stretch){0, room / PLACE_ALIGN * PLACE_ALIGN});
    VEC_PUSH(cx, a, &out->room[SP_psum].gap, (Stretch){0, (int64_t)out->hw->psum_bytes});
    count_nodes(out, stack);
    find_ordered(out);
    return ST_OK;
}

/* ---- values ---- */

static int64_t
placed_bytes(const Hw *hw, const Type *ty)
{
    int64_t unit = ty->space == SP_psum ? (int64_t)hw->psum_bank_bytes : PLACE_ALIGN;
    return ALIGN_UP(buffer_bytes(ty), unit);
}

static Status
open_value(Straight *s, Val v)
{
    Source *src = s->src;
    Ctx *cx = s->g->cx;
    const Type *ty = val_type(s->g, v);
    bool chip = ty->space != SP_hbm;
    if (src->stamp[v.i] != src->stamps) {
        src->stamp[v.i] = src->stamps;
        src->kin[v.i] = s->turns.n;
        VEC_PUSH(cx, s->a, &s->turns, 0);
    }
    src->cur[v.i] = s->value.n;
    s->turns.p[src->kin[v.i]]++;
    VEC_PUSH(cx, s->a, &s->value,
             (Value){.val = v,
                     .kin = src->kin[v.i],
                     .space = ty->space,
                     .chip = chip,
                     .outer = src->outer[v.i],
                     .bytes = chip ? placed_bytes(s->hw, ty) : 0});
    return ST_OK;
}

/* The value that a buffer is at the moment; what was declared elsewhere is one value. */
static Status
value_now(Straight *s, Val v, uint32_t *out)
{
    if (s->src->stamp[v.i] != s->src->stamps)
        TRY(open_value(s, v));
    *out = s->src->cur[v.i];
    return ST_OK;
}

/* ---- nodes ---- */

Status
note_used(Straight *s, Node *n, uint32_t value)
{
    for (uint32_t i = 0; i < n->nvalue; i++)
        if (s->used.p[n->value + i] == value)
            return ST_OK;
    VEC_PUSH(s->g->cx, s->a, &s->used, value);
    n->nvalue++;
    return ST_OK;
}

static bool
moves_with_kept(const Source *src, const Affine *a)
{
    for (uint32_t i = 0; i < a->nterms; i++)
        if (src->kept[a->term[i].var.i])
            return true;
    return false;
}

static Status
add_touch(Straight *s, Node *n, const Use *u)
{
    Source *src = s->src;
    bool hbm = u->space == SP_hbm;
    uint32_t order = hbm ? src->orders[u->val.i] : u->val.i;
    Touch t = {.ap = u->ap, .role = u->role, .operand = u->operand, .value = NO_VALUE};
    t.off = affine_eval(&u->ap->off, src->value_of);
    t.part = affine_eval(&u->ap->part, src->value_of);
    t.at = use_at(u, src->value_of);
    t.moves = moves_with_kept(src, &u->ap->off) || moves_with_kept(src, &u->ap->part);
    TRY(value_now(s, u->val, &t.buf));
    if (order)
        TRY(value_now(s, (Val){order}, &t.value));
    VEC_PUSH(s->g->cx, s->a, &s->touch, t);
    n->ntouch++;
    return hbm || s->value.p[t.buf].outer ? ST_OK : note_used(s, n, t.buf);
}

static Status
choose_works(const Source *src, OpId o, Node *n)
{
    const Graph *g = src->g;
    Engine of[MAX_ENGINES];
    const Op *op = graph_op(g, o);
    int count = engine_choices(src->lowered, graph_op(src->lowered, o), of);
    n->work[n->nwork++] = work_of(g, op, NULL);
    for (int i = 0; i < count; i++) {
        Op trial = *op;
        if (of[i] == n->work[0].engine)
            continue;
        TRY(attr_with(g->cx, op->attr, AT_INT(A_engine, of[i]), &trial.attr));
        n->work[n->nwork++] = work_of(g, &trial, NULL);
    }
    return ST_OK;
}

/* `like`: a node of the same op, or NULL */
static Status
add_node(Straight *s, OpId o, uint32_t turn, const Node *like)
{
    const Source *src = s->src;
    const Op *op = graph_op(s->g, o);
    Val first = op_first(s->g, op);
    Use use[MAX_OPERANDS];
    Node n = {.op = o.i, .touch = s->touch.n, .value = s->used.n, .turn = turn};
    int count = op_uses(s->g, op, use);
    n.first = first.i ? src->value_of[first.i] : 0;
    n.adds = first.i ? n.first != 0 : attr_int(s->g->cx, op->attr, A_accumulate, 0) != 0;
    for (int i = 0; i < count; i++) {
        if (first.i && i == KI_dst)
            use[i].role = n.adds || src->kept[first.i] ? R_update : R_write;
        TRY(add_touch(s, &n, &use[i]));
    }
    if (like) {
        n.nwork = like->nwork;
        for (int i = 0; i < n.nwork; i++)
            n.work[i] = like->work[i];
    } else {
        TRY(choose_works(src, o, &n));
    }
    VEC_PUSH(s->g->cx, s->a, &s->node, n);
    return ST_OK;
}

static Status
expand_range(Straight *s, uint32_t begin, uint32_t end, uint32_t turn)
{
    Source *src = s->src;
    for (uint32_t o = begin; o < end; o++) {
        const Op *op = graph_op(s->g, (OpId){o});
        if (op->code == K_buffer) {
            if (val_type(s->g, op->out)->space != SP_hbm && !src->outer[op->out.i])
                TRY(open_value(s, op->out));
        } else if (op->code == K_loop) {
            int64_t count = attr_int(s->g->cx, op->attr, A_count, 0);
            for (int64_t i = 0; i < count; i++) {
                src->value_of[op->out.i] = i;
                TRY(expand_range(s, o + 1, src->end[o], turn));
            }
            o = src->end[o];
        } else {
            TRY(add_node(s, (OpId){o}, turn, src->made[o] ? &s->node.p[src->made[o] - 1] : NULL));
            src->made[o] = s->node.n;
        }
    }
    return ST_OK;
}

static Status
begin_straight(Source *src, uint32_t begin, uint32_t end, int64_t nodes, const Straight *like, Straight *out)
{
    Ctx *cx = src->g->cx;
    *out = (Straight){.src = src, .g = src->g, .hw = src->hw, .lags = &src->lags};
    out->a = like->a;
    out->scratch = like->scratch;
    out->room = like->room;
    src->stamps++;
    memset(src->made + begin, 0, sizeof(*src->made) * (end - begin));
    TRY(vec_reserve(cx, out->a, &out->node, (uint32_t)nodes, sizeof(Node)));
    TRY(vec_reserve(cx, out->a, &out->touch, (uint32_t)(3 * nodes), sizeof(Touch)));
    return vec_reserve(cx, out->a, &out->used, (uint32_t)(3 * nodes), sizeof(uint32_t));
}

Status
straight_expand(Source *src, uint32_t begin, uint32_t end, const Straight *like, Straight *out)
{
    int64_t nodes = 0;
    for (uint32_t o = begin; o < end; o = src->end[o] ? src->end[o] + 1 : o + 1)
        nodes += src->end[o] ? src->inside[o] : is_instr(src->g, &src->g->ops.p[o]);
    TRY(begin_straight(src, begin, end, nodes, like, out));
    return expand_range(out, begin, end, 0);
}

Status
straight_expand_loop(Source *src, uint32_t loop, int64_t count, const Straight *like, Straight *out)
{
    const Op *op = &src->g->ops.p[loop];
    int64_t all = attr_int(src->g->cx, op->attr, A_count, 1);
    TRY(begin_straight(src, loop, src->end[loop], src->inside[loop] / all * count, like, out));
    src->kept[op->out.i] = true;
    for (int64_t i = 0; i < count; i++) {
        src->value_of[op->out.i] = i;
        TRY(expand_range(out, loop + 1, src->end[loop], (uint32_t)i));
    }
    return ST_OK;
}
