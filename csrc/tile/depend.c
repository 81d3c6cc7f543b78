/* depend.c - which instructions of a program depend on which, and how many iterations later.
 *
 * in:   a tile program that passes graph_check
 * out:  per pair of instructions and loop around both the least distance at which they touch the same bytes
 * rule: a buffer that a loop's body declares is another one in each iteration. For tests and for looking: quadratic.
 */
#include "tile/access.h"

typedef struct Pairs {
    const Graph *g;
    Arena *a;
    Dependences *out;
    uint32_t *end;  /* by loop op: its end */
    uint32_t *open; /* loops around the instruction at hand, outermost first */
    uint32_t depth;
    bool *inner; /* by val: variables of loops inside the one at hand */
} Pairs;

/* The loops of [begin, end) are inside, or, when `is` is false, no longer. */
static void
mark_inner(Pairs *p, uint32_t begin, uint32_t end, bool is)
{
    for (uint32_t o = begin; o < end; o++)
        if (p->g->ops.p[o].code == K_loop)
            p->inner[p->g->ops.p[o].out.i] = is;
}

/* What x of iteration i of `loop` (0: of the same iteration) and y of a later one share. */
static Status
relate(Pairs *p, uint32_t x, uint32_t y, uint32_t loop)
{
    Use a[MAX_OPERANDS], b[MAX_OPERANDS];
    const Graph *g = p->g;
    int na = op_uses(g, &g->ops.p[x], a), nb = op_uses(g, &g->ops.p[y], b);
    Val var = loop ? g->ops.p[loop].out : (Val){0};
    Dependence d = {{x}, {y}, var, INT64_MAX, 0};
    for (int i = 0; i < na * nb; i++) {
        const Use *u = &a[i / nb], *v = &b[i % nb];
        unsigned why = role_deps(u->role, v->role);
        if (!why || u->val.i != v->val.i || (loop && g->vals.p[u->val.i].def.i > loop))
            continue;
        int64_t far = use_distance(g, u, v, var, loop ? 1 : 0, p->inner);
        if (far < 0)
            continue;
        d.distance = MIN(d.distance, far);
        d.why |= why;
    }
    if (d.why)
        VEC_PUSH(g->cx, p->a, p->out, d);
    return ST_OK;
}

static Status
relate_to_earlier(Pairs *p, uint32_t y)
{
    for (uint32_t x = 1; x <= y; x++) {
        if (!is_instr(p->g, &p->g->ops.p[x]))
            continue;
        uint32_t common = 0; /* loops around both */
        while (common < p->depth && p->open[common] < x)
            common++;
        uint32_t from = common ? p->open[common - 1] + 1 : 1, to = common ? p->end[p->open[common - 1]] : p->g->ops.n;
        mark_inner(p, from, to, true);
        if (x < y)
            TRY(relate(p, x, y, 0));
        for (uint32_t k = common; k-- > 0;) {
            mark_inner(p, p->open[k] + 1, p->end[p->open[k]], true);
            TRY(relate(p, x, y, p->open[k]));
            if (x < y)
                TRY(relate(p, y, x, p->open[k]));
        }
        mark_inner(p, 1, p->g->ops.n, false);
    }
    return ST_OK;
}

Status
tile_dependences(const Graph *g, Arena *a, Dependences *out)
{
    Pairs p = {.g = g, .a = a, .out = out};
    NEW(g->cx, a, p.end, g->ops.n + 1);
    NEW(g->cx, a, p.open, g->ops.n + 1);
    NEW(g->cx, a, p.inner, g->vals.n + 1);
    FOR_OPS(g, o) {
        int code = graph_op(g, o)->code;
        if (code == K_loop)
            p.open[p.depth++] = o.i;
        else if (code == K_end)
            p.end[p.open[--p.depth]] = o.i;
    }
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        if (op->code == K_loop)
            p.open[p.depth++] = o.i;
        else if (op->code == K_end)
            p.depth--;
        else if (is_instr(g, op))
            TRY(relate_to_earlier(&p, o.i));
    }
    return ST_OK;
}
