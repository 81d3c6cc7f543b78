/* verify.c - the hardware verifier: walks a tile program once and applies the rules of its target.
 *
 * in:   any tile program, before or after allocation
 * out:  violations in program order: op, location, rule, text with the numbers given and allowed
 * rule: time is linear in the program text, never in loop counts or data. A rule only fires when it is surely broken,
 *       whatever the loops do; what needs values is the simulator's.
 */
#include "tile/verify.h"

enum { WORK_BASE = 1 << 20, WORK_PER_OP = 256 }; /* steps for sets of elements: a microsecond or two per op at most */

static void
load_operand(Check *c, int i)
{
    Val v = op_val(c->g, c->op, i);
    Opnd *x = &c->in[i];
    x->v = v.i ? &c->val[v.i] : NULL;
    if (operand_use(c->g, c->op, i, &x->use))
        x->all = use_over(&x->use, c->first_of, c->last_of);
    else
        x->use.ap = NULL;
}

static void
check_loop(Check *c)
{
    VInfo *v = &c->val[c->op->out.i];
    v->is = V_LOOP;
    v->decl = c->at.i;
    v->count = attr_int(c->cx, c->op->attr, A_count, 0);
    if (v->count < 1)
        report(c, "loop-count", "NKI-3070 runs %lld times, at least 1 is needed", (long long)v->count);
    v->count = MAX(v->count, 1);
    c->last_of[c->op->out.i] = v->count - 1;
    enter_loop(c);
}

static void
check_op(Check *c)
{
    c->op = graph_op(c->g, c->at);
    c->def = op_def(c->g, c->op);
    if (c->op->code == K_buffer) {
        check_buffer_decl(c);
    } else if (c->op->code == K_loop) {
        check_loop(c);
    } else if (c->op->code == K_end) {
        leave_loop(c);
    } else if (is_instr(c->g, c->op)) {
        c->engine = instr_engine(c->g, c->op);
        for (int i = 0; i < c->op->nin; i++)
            load_operand(c, i);
        check_instr(c);
        check_access(c);
    }
}

/* Insertion sort by op: all but the few that come from whole-program rules are in order already. */
static void
sort_violations(Violations *v)
{
    for (uint32_t i = 1; i < v->n; i++) {
        Violation x = v->p[i];
        uint32_t k = i;
        for (; k > 0 && v->p[k - 1].op.i > x.op.i; k--)
            v->p[k] = v->p[k - 1];
        v->p[k] = x;
    }
}

static Status
run_check(Check *c)
{
    NEW(c->cx, &c->work, c->val, c->g->vals.n + 1);
    NEW(c->cx, &c->work, c->first_of, c->g->vals.n + 1);
    NEW(c->cx, &c->work, c->last_of, c->g->vals.n + 1);
    VEC_PUSH(c->cx, &c->work, &c->writes, (Write){0}); /* index 0 ends the chains */
    c->covers = (Covers){.cx = c->cx, .arena = &c->work, .work = WORK_BASE + WORK_PER_OP * (int64_t)c->g->ops.n};
    for (c->at.i = 1; c->at.i < c->g->ops.n && !is_full(c); c->at.i++)
        check_op(c);
    check_buffers(c);
    check_interface(c);
    check_outputs(c);
    sort_violations(c->out);
    return c->st;
}

Status
tile_verify_all(const Graph *g, Arena *a, int max, Violations *out)
{
    Check c = {.g = g, .cx = g->cx, .a = a, .hw = hw_get(g->target), .out = out, .max = (uint32_t)MAX(max, 0)};
    c.target = c.hw->name;
    *out = (Violations){0};
    TRY(graph_check(g));
    arena_init(&c.work, &g->cx->mem);
    Status st = run_check(&c);
    arena_free(&c.work);
    return st;
}

Status
tile_verify(const Graph *g)
{
    Arena a;
    Violations v = {0};
    arena_init(&a, &g->cx->mem);
    Status st = tile_verify_all(g, &a, 1, &v);
    if (st == ST_OK && v.n > 0)
        st = fail_as(g->cx, ST_LIMIT, v.p[0].loc, v.p[0].code, "%s [%s]", v.p[0].text, v.p[0].rule);
    arena_free(&a);
    return st;
}
