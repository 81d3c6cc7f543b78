/* pipeline_expand.c - a program without loops: every execution of an instruction is a node, every turn of a buffer a
 * value.
 *
 * in:   a lowered tile program whose engines are chosen, and the same one before they were
 * out:  nodes in the order of execution with their operands, loop variables put in
 * rule: HBM that nothing writes orders nothing; an output that updates an input is one buffer with it. A `first`
 * operand becomes "adds" or nothing.
 */
#include "lower/pipeline.h"

typedef struct Expand {
    Straight *s;
    const Graph *lowered;
    int64_t *value_of; /* loop variables */
    uint32_t *cur;     /* by val: the Value that its buffer is at the moment */
    uint32_t *end;     /* by loop op: its end */
    uint32_t *orders;  /* by val in HBM: the val whose accesses it is ordered with; 0: none */
} Expand;

/* ---- how much there is ---- */

/* Executions of instructions, or more than `most`; fills end. */
static uint32_t
count_nodes(Expand *e, const Graph *g, uint32_t *stack, uint32_t most)
{
    int64_t times[MAX_NEST + 1] = {1}, n = 0;
    int depth = 0;
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        if (op->code == K_loop) {
            int64_t count = attr_int(g->cx, op->attr, A_count, 0);
            stack[depth++] = o.i;
            times[depth] = MIN(times[depth - 1] * MIN(count, most + 1), most + 1);
        } else if (op->code == K_end) {
            e->end[stack[--depth]] = o.i;
        } else if (op->code != K_buffer) {
            n = MIN(n + times[depth], most + 1);
        }
    }
    return (uint32_t)n;
}

static void
find_ordered(Expand *e, const Graph *g)
{
    Use use[MAX_OPERANDS];
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        int n = is_instr(g, op) ? op_uses(g, op, use) : 0;
        for (int i = 0; i < n; i++)
            if (use[i].space == SP_hbm && (use[i].role & R_write))
                e->orders[use[i].val.i] = use[i].val.i;
    }
    for (uint32_t k = 0; k < g->aliases.n; k++) {
        int32_t input = g->aliases.p[k];
        if (input >= 0 && e->orders[g->outputs.p[k].i])
            e->orders[g->inputs.p[input].i] = e->orders[g->outputs.p[k].i];
    }
}

/* ---- nodes ---- */

static int64_t
placed_bytes(const Hw *hw, const Type *ty)
{
    int64_t unit = ty->space == SP_psum ? (int64_t)hw->psum_bank_bytes : PLACE_ALIGN;
    return ALIGN_UP(buffer_bytes(ty), unit);
}

static Status
open_value(Expand *e, Val v)
{
    Straight *s = e->s;
    const Type *ty = val_type(s->g, v);
    bool chip = ty->space != SP_hbm;
    e->cur[v.i] = s->value.n;
    VEC_PUSH(s->g->cx, s->a, &s->value,
             (Value){.val = v,
                     .turn = s->turns[v.i]++,
                     .space = ty->space,
                     .chip = chip,
                     .bytes = chip ? placed_bytes(s->hw, ty) : 0});
    return ST_OK;
}

static Status
note_used(Straight *s, Node *n, uint32_t value)
{
    for (uint32_t i = 0; i < n->nvalue; i++)
        if (s->used.p[n->value + i] == value)
            return ST_OK;
    VEC_PUSH(s->g->cx, s->a, &s->used, value);
    n->nvalue++;
    return ST_OK;
}

static Status
add_touch(Expand *e, Node *n, const Use *u)
{
    Straight *s = e->s;
    bool hbm = u->space == SP_hbm;
    uint32_t order = hbm ? e->orders[u->val.i] : u->val.i;
    Touch t = {.ap = u->ap, .role = u->role, .operand = u->operand, .buf = e->cur[u->val.i]};
    t.off = affine_eval(&u->ap->off, e->value_of);
    t.part = affine_eval(&u->ap->part, e->value_of);
    t.at = use_at(u, e->value_of);
    t.value = order ? e->cur[order] : NO_VALUE;
    VEC_PUSH(s->g->cx, s->a, &s->touch, t);
    n->ntouch++;
    return hbm ? ST_OK : note_used(s, n, t.buf);
}

static Status
choose_works(Expand *e, OpId o, Node *n)
{
    const Graph *g = e->s->g;
    Engine of[MAX_ENGINES];
    const Op *op = graph_op(g, o);
    int count = engine_choices(e->lowered, graph_op(e->lowered, o), of);
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
add_node(Expand *e, OpId o, const Node *like)
{
    Straight *s = e->s;
    const Op *op = graph_op(s->g, o);
    Val first = op_first(s->g, op);
    Use use[MAX_OPERANDS];
    Node n = {.op = o.i, .touch = s->touch.n, .value = s->used.n};
    int count = op_uses(s->g, op, use);
    n.adds = first.i ? e->value_of[first.i] != 0 : attr_int(s->g->cx, op->attr, A_accumulate, 0) != 0;
    for (int i = 0; i < count; i++) {
        if (first.i && i == KI_dst)
            use[i].role = n.adds ? R_update : R_write;
        TRY(add_touch(e, &n, &use[i]));
    }
    if (like) {
        n.nwork = like->nwork;
        for (int i = 0; i < n.nwork; i++)
            n.work[i] = like->work[i];
    } else {
        TRY(choose_works(e, o, &n));
    }
    VEC_PUSH(s->g->cx, s->a, &s->node, n);
    return ST_OK;
}

static Status
expand_range(Expand *e, uint32_t begin, uint32_t end, uint32_t *made)
{
    Straight *s = e->s;
    for (uint32_t o = begin; o < end; o++) {
        const Op *op = graph_op(s->g, (OpId){o});
        if (op->code == K_buffer) {
            TRY(open_value(e, op->out));
        } else if (op->code == K_loop) {
            int64_t count = attr_int(s->g->cx, op->attr, A_count, 0);
            for (int64_t i = 0; i < count; i++) {
                e->value_of[op->out.i] = i;
                TRY(expand_range(e, o + 1, e->end[o], made));
            }
            o = e->end[o];
        } else {
            TRY(add_node(e, (OpId){o}, made[o] ? &s->node.p[made[o] - 1] : NULL));
            made[o] = s->node.n;
        }
    }
    return ST_OK;
}

Status
straight_expand(const Graph *g, const Graph *lowered, Arena *a, Arena *scratch, uint32_t most, Straight *out,
                bool *fits)
{
    Expand e = {.s = out, .lowered = lowered};
    Ctx *cx = g->cx;
    uint32_t *stack, *made, n;
    *out = (Straight){.g = g, .hw = hw_get(g->target), .a = a, .scratch = scratch};
    NEW(cx, a, stack, g->ops.n + 1);
    NEW(cx, a, made, g->ops.n + 1);
    NEW(cx, a, e.end, g->ops.n + 1);
    n = count_nodes(&e, g, stack, most);
    *fits = n <= most && n > 0;
    if (!*fits)
        return ST_OK;
    NEW(cx, a, out->turns, g->vals.n);
    NEW(cx, a, e.value_of, g->vals.n);
    NEW(cx, a, e.cur, g->vals.n);
    NEW(cx, a, e.orders, g->vals.n);
    TRY(vec_reserve(cx, a, &out->node, n, sizeof(Node)));
    TRY(vec_reserve(cx, a, &out->touch, 3 * n, sizeof(Touch)));
    TRY(vec_reserve(cx, a, &out->used, 3 * n, sizeof(uint32_t)));
    lags_of(out->hw, &out->lags);
    find_ordered(&e, g);
    return expand_range(&e, 1, g->ops.n, made);
}
