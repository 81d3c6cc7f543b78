/* graph.c - graphs: append-only arrays of ops, operands and values in an arena of their own.
 *
 * Appending checks only what keeps the arrays sound; graph_check and the dialect's verify do the
 * rest.
 */
#include "ir/ir.h"

#include <string.h>

int
dialect_find(const Dialect *d, const char *name, size_t n)
{
    for (int i = 1; i < d->nops; i++)
        if (d->ops[i].name && strlen(d->ops[i].name) == n && memcmp(d->ops[i].name, name, n) == 0)
            return i;
    return 0;
}

/* The graph stands in the arena it owns; *arena is copied into it once complete. */
static Status
graph_fill(Ctx *cx, Arena *arena, const Dialect *d, const char *name, Graph **out)
{
    Graph *g;
    NEW(cx, arena, g, 1);
    g->cx = cx;
    g->dialect = d;
    TRY(str_make(cx, name, strlen(name), &g->name));
    VEC_PUSH(cx, arena, &g->ops, (Op){0});
    VEC_PUSH(cx, arena, &g->vals, (ValDef){0});
    *out = g;
    return ST_OK;
}

Status
graph_new(Ctx *cx, const Dialect *d, const char *name, Graph **out)
{
    Arena arena;
    Graph *g;
    arena_init(&arena, &cx->mem);
    Status st = graph_fill(cx, &arena, d, name, &g);
    if (st != ST_OK) {
        arena_free(&arena);
        return st;
    }
    g->arena = arena;
    *out = g;
    return ST_OK;
}

void
graph_free(Graph *g)
{
    if (!g)
        return;
    Arena arena = g->arena; /* g itself is in there */
    arena_free(&arena);
}

Status
graph_append(Graph *g, int code, const Operand *in, int nin, AttrId attr, LocId loc,
             const TyId *types, int nout, OpId *out)
{
    Ctx *cx = g->cx;
    if (code <= 0 || code >= g->dialect->nops)
        return fail(cx, ST_BUG, loc, "NKI-2569 graph_append: no such op: %d", code);
    if (nin < 0 || nin > UINT16_MAX || nout < 0 || nout > UINT16_MAX)
        return fail(cx, ST_LIMIT, loc, "NKI-2570 %s: too many operands or results (%d, %d)", g->dialect->ops[code].name,
                    nin, nout);
    uint32_t first_in = g->operands.n, first_out = g->vals.n, o = g->ops.n;
    if (g->operands.cap - first_in < (uint32_t)nin)
        TRY(vec_reserve(cx, &g->arena, &g->operands, (uint32_t)nin, sizeof(Operand)));
    if (g->vals.cap - first_out < (uint32_t)nout)
        TRY(vec_reserve(cx, &g->arena, &g->vals, (uint32_t)nout, sizeof(ValDef)));
    Op op = {.code = (uint16_t)code,
             .nin = (uint16_t)nin,
             .nout = (uint16_t)nout,
             .flags = g->dialect->ops[code].flags,
             .in = first_in,
             .out = {nout ? first_out : 0},
             .attr = attr,
             .loc = loc};
    VEC_PUSH(cx, &g->arena, &g->ops, op);
    for (int i = 0; i < nin; i++)
        g->operands.p[first_in + (uint32_t)i] = in[i];
    for (int i = 0; i < nout; i++)
        g->vals.p[first_out + (uint32_t)i] = (ValDef){.type = types[i], .def = {o}};
    g->operands.n += (uint32_t)nin;
    g->vals.n += (uint32_t)nout;
    if (out)
        out->i = o;
    return ST_OK;
}

Status
graph_name_val(Graph *g, Val v, const char *name)
{
    return str_make(g->cx, name, strlen(name), &g->vals.p[v.i].name);
}

Status
graph_end(Status st, Graph **out)
{
    if (st != ST_OK) {
        graph_free(*out);
        *out = NULL;
    }
    return st;
}

Status
graph_copy_interface(const Graph *in, const Val *map, Graph *out)
{
    for (uint32_t i = 0; i < in->inputs.n; i++)
        VEC_PUSH(out->cx, &out->arena, &out->inputs, map ? map[in->inputs.p[i].i] : in->inputs.p[i]);
    for (uint32_t i = 0; i < in->outputs.n; i++)
        VEC_PUSH(out->cx, &out->arena, &out->outputs, map ? map[in->outputs.p[i].i] : in->outputs.p[i]);
    for (uint32_t i = 0; i < in->aliases.n; i++)
        VEC_PUSH(out->cx, &out->arena, &out->aliases, in->aliases.p[i]);
    return ST_OK;
}
