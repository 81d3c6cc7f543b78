/* check.c - checks for any graph, in time linear in its size; what holds for all dialects.
 *
 * Operand counts against the table; every operand defined before and visible (a value of a loop
 * body ends with it); only attributes the row knows; results as many as the row says; access
 * patterns only on buffers, of the right form, over visible loop variables, without overflow; loops
 * closed and at most MAX_NEST deep; the indices of inputs, and of output buffers, are 0 to n - 1, each once; outputs
 * valid; an output that updates an input has its type. The first violation fails with ST_BUG.
 */
#include "ir/ir.h"

#include <string.h>

_Static_assert(A_COUNT <= 64, "an attribute set is a 64-bit mask");

typedef struct Checker {
    const Graph *g;
    int loop, end;   /* op codes, 0 when the dialect has none */
    uint64_t *known; /* per op code: bit set of attributes */
    uint32_t *scope; /* per op: the loop op around it, 0 at the top; a loop is in its own scope */
    bool *closed;    /* per loop op: its end was passed */
    int depth;       /* open loops */
} Checker;

#define BUG_IF(c, op, cond, ...)                                                                   \
    do {                                                                                           \
        if (cond)                                                                                  \
            return fail((c)->g->cx, ST_BUG, (op)->loc, __VA_ARGS__);                               \
    } while (0)

static const char *
name_of(const Checker *c, const Op *op)
{
    return op_def(c->g, op)->name;
}

static bool
is_visible(const Checker *c, OpId at, Val v)
{
    if (v.i == 0 || v.i >= c->g->vals.n)
        return false;
    uint32_t def = c->g->vals.p[v.i].def.i;
    return def != 0 && def < at.i && !c->closed[c->scope[def]];
}

static Status
check_affine(const Checker *c, OpId o, const Affine *a)
{
    const Graph *g = c->g;
    const Op *op = graph_op(g, o);
    const int64_t limit = (int64_t)1 << 60;
    int64_t sum = 0; /* of what the terms reach at most */
    for (uint32_t i = 0; i < a->nterms; i++) {
        Val v = a->term[i].var;
        BUG_IF(c, op, !is_visible(c, o, v) || val_type(g, v)->kind != TY_index,
               "NKI-2523 %s: an access pattern uses a value that is no loop variable here", name_of(c, op));
        int64_t far, count = attr_int(g->cx, val_def(g, v)->attr, A_count, 0);
        BUG_IF(c, op, __builtin_mul_overflow(count, a->term[i].coef, &far) || far > limit || far < -limit,
               "NKI-2524 %s: an access pattern is out of range", name_of(c, op));
        sum += far < 0 ? -far : far;
        BUG_IF(c, op, sum > limit, "NKI-2525 %s: an access pattern is out of range", name_of(c, op));
    }
    return ST_OK;
}

static Status
check_ap(const Checker *c, OpId o, int i, Operand in)
{
    const Op *op = graph_op(c->g, o);
    const Type *ty = val_type(c->g, in.v);
    const Ap *ap = ap_get(c->g->cx, in.ap);
    bool chip = ty->space == SP_sbuf || ty->space == SP_psum;
    BUG_IF(c, op, ty->kind != TY_buffer, "NKI-2526 %s: operand %d has an access pattern but is no buffer",
           name_of(c, op), i);
    BUG_IF(c, op, chip && ap->nparts < 1, "NKI-2527 %s: the pattern of operand %d has no partitions", name_of(c, op),
           i);
    BUG_IF(c, op, !chip && (ap->nparts || ap->part.c || ap->part.nterms),
           "NKI-2528 %s: the pattern of operand %d has partitions but its buffer is in %s", name_of(c, op), i,
           space_names[ty->space]);
    TRY(check_affine(c, o, &ap->part));
    return check_affine(c, o, &ap->off);
}

static Status
check_operands(const Checker *c, OpId o)
{
    const Op *op = graph_op(c->g, o);
    const OpDef *def = op_def(c->g, op);
    BUG_IF(c, op, def->nin >= 0 && op->nin != def->nin, "NKI-2529 %s takes %d operands, got %d", def->name, def->nin,
           op->nin);
    BUG_IF(c, op, (uint64_t)op->in + op->nin > c->g->operands.n, "NKI-2530 %s: operands out of range", def->name);
    for (int i = 0; i < op->nin; i++) {
        Operand in = *op_in(c->g, op, i);
        if (in.v.i == 0) {
            BUG_IF(c, op, i >= MAX_OPERANDS || !(def->operand[i].role & R_optional),
                   "NKI-2531 %s: operand %d is missing", def->name, i);
            continue;
        }
        BUG_IF(c, op, !is_visible(c, o, in.v), "NKI-2532 %s: operand %d is not defined here", def->name, i);
        if (in.ap.i)
            TRY(check_ap(c, o, i, in));
    }
    return ST_OK;
}

static Status
check_attrs(const Checker *c, const Op *op)
{
    int n;
    const AttrItem *item = attr_items(c->g->cx, op->attr, &n);
    for (int i = 0; i < n; i++)
        BUG_IF(c, op, !(c->known[op->code] >> item[i].key & 1), "NKI-2533 %s has no attribute %s", name_of(c, op),
               attr_name((Key)item[i].key));
    return ST_OK;
}

static Status
check_results(const Checker *c, OpId o)
{
    const Graph *g = c->g;
    const Op *op = graph_op(g, o);
    BUG_IF(c, op, op->nout != op_def(g, op)->nout, "NKI-2534 %s has %d results, got %d", name_of(c, op),
           op_def(g, op)->nout, op->nout);
    for (uint32_t i = 0; i < op->nout; i++) {
        uint32_t v = op->out.i + i;
        BUG_IF(c, op, v == 0 || v >= g->vals.n || g->vals.p[v].def.i != o.i, "NKI-2535 %s: results are not its own",
               name_of(c, op));
        BUG_IF(c, op, !g->vals.p[v].type.i, "NKI-2536 %s: a result has no type", name_of(c, op));
        BUG_IF(c, op, (val_type(g, (Val){v})->kind == TY_index) != (c->loop && op->code == c->loop),
               "NKI-2537 %s: only a loop has an index as its result", name_of(c, op));
    }
    return ST_OK;
}

/* Enters or leaves a loop; *open is the innermost open one. */
static Status
check_nesting(Checker *c, OpId o, uint32_t *open)
{
    const Op *op = graph_op(c->g, o);
    if (c->loop && op->code == c->loop) {
        int64_t count = attr_int(c->g->cx, op->attr, A_count, -1);
        BUG_IF(c, op, count < 0 || count > INT32_MAX, "NKI-2538 loop: count must be 0 to %d, got %lld", INT32_MAX,
               (long long)count);
        BUG_IF(c, op, c->depth == MAX_NEST, "NKI-2539 loops are nested more than %d deep", MAX_NEST);
        c->depth++;
        c->closed[o.i] = false;
    } else if (c->end && op->code == c->end) {
        BUG_IF(c, op, *open == 0, "NKI-2540 end without a loop");
        c->closed[*open] = true;
        c->depth--;
    }
    return ST_OK;
}

static Status
check_ops(Checker *c, uint32_t *parent)
{
    const Graph *g = c->g;
    uint32_t open = 0;
    FOR_OPS(g, o)
    {
        const Op *op = graph_op(g, o);
        BUG_IF(c, op, op->code == 0 || op->code >= g->dialect->nops, "NKI-2541 no such op: %d", op->code);
        TRY(check_operands(c, o));
        TRY(check_attrs(c, op));
        TRY(check_results(c, o));
        TRY(check_nesting(c, o, &open));
        c->scope[o.i] = open;
        if (c->loop && op->code == c->loop) {
            parent[o.i] = open;
            c->scope[o.i] = open = o.i;
        } else if (c->end && op->code == c->end) {
            open = parent[open];
        }
    }
    if (open)
        return fail(g->cx, ST_BUG, graph_op(g, (OpId){open})->loc, "NKI-2542 loop is not closed");
    return ST_OK;
}

/* ---- the interface ---- */

BufKind
interface_kind(const Graph *g, const Op *op)
{
    const OpDef *def = op_def(g, op);
    if (strcmp(def->name, "input") == 0)
        return BK_input;
    if (strcmp(def->name, "buffer") != 0)
        return BK_tile;
    int64_t kind = attr_int(g->cx, op->attr, A_kind, BK_tile);
    return kind == BK_input || kind == BK_output ? (BufKind)kind : BK_tile;
}

typedef struct Ends { /* the declarations of a kind by index */
    Val *p;
    uint32_t n;
} Ends;

static Status
place_interface(const Checker *c, Arena *a, BufKind kind, Ends *e)
{
    const Graph *g = c->g;
    const char *what = kind == BK_input ? "an input" : "an output";
    e->n = 0;
    FOR_OPS(g, o)
        e->n += interface_kind(g, graph_op(g, o)) == kind;
    NEW(g->cx, a, e->p, e->n + 1);
    FOR_OPS(g, o)
    {
        const Op *op = graph_op(g, o);
        if (interface_kind(g, op) != kind)
            continue;
        int64_t k = attr_int(g->cx, op->attr, A_index, -1);
        BUG_IF(c, op, k < 0 || k >= e->n, "NKI-2543 expected index=0 to index=%u for %s, found %s%lld", e->n - 1, what,
               k < 0 ? "no index or " : "", (long long)k);
        BUG_IF(c, op, e->p[k].i, "NKI-2544 a second %s with index=%lld", what + 3, (long long)k);
        e->p[k] = op->out;
    }
    return ST_OK;
}

/* An output that starts as an input is of its type; as a buffer it is the one with that index. */
static Status
check_alias(const Checker *c, uint32_t k, const Ends *out)
{
    const Graph *g = c->g;
    int32_t input = g->aliases.p[k];
    LocId none = {0};
    if (input == -1)
        return ST_OK;
    if (input < -1 || input >= (int64_t)g->inputs.n)
        return fail(g->cx, ST_BUG, none, "NKI-2545 output %u updates input %d, there are %u inputs", k, input,
                    g->inputs.n);
    if (k < out->n && out->p[k].i != g->outputs.p[k].i)
        return fail(g->cx, ST_BUG, none, "NKI-2546 output %u updates input %d but is not the buffer with index=%u", k,
                    input, k);
    if (g->vals.p[g->outputs.p[k].i].type.i != g->vals.p[g->inputs.p[input].i].type.i)
        return fail(g->cx, ST_BUG, none, "NKI-2547 output %u updates input %d, which has another type", k, input);
    return ST_OK;
}

static Status
check_ends(const Checker *c, const Ends *in)
{
    const Graph *g = c->g;
    OpId last = {g->ops.n};
    LocId none = {0};
    if (in->n != g->inputs.n || (in->n && memcmp(in->p, g->inputs.p, in->n * sizeof(Val)) != 0))
        return fail(g->cx, ST_BUG, none, "NKI-2548 the list of inputs is not the inputs by index");
    for (uint32_t i = 0; i < g->inputs.n; i++)
        if (!is_visible(c, last, g->inputs.p[i]))
            return fail(g->cx, ST_BUG, none, "NKI-2549 input %u is not a value of the graph", i);
    for (uint32_t i = 0; i < g->outputs.n; i++)
        if (!is_visible(c, last, g->outputs.p[i]))
            return fail(g->cx, ST_BUG, none, "NKI-2550 output %u is not a value that is visible at the end", i);
    if (g->aliases.n && g->aliases.n != g->outputs.n)
        return fail(g->cx, ST_BUG, none, "NKI-2551 %u aliases for %u outputs", g->aliases.n, g->outputs.n);
    return ST_OK;
}

static Status
run_checks(Checker *c, Arena *a)
{
    const Dialect *d = c->g->dialect;
    Ctx *cx = c->g->cx;
    uint32_t *parent;
    Ends in, out;
    NEW(cx, a, c->known, d->nops);
    NEW(cx, a, c->scope, c->g->ops.n);
    NEW(cx, a, c->closed, c->g->ops.n);
    NEW(cx, a, parent, c->g->ops.n);
    for (int i = 0; i < d->nops; i++)
        for (int k = 0; k < COUNT_OF(d->ops[i].attrs); k++)
            c->known[i] |= (uint64_t)(d->ops[i].attrs[k] != A_none) << d->ops[i].attrs[k];
    c->loop = dialect_find(d, "loop", 4);
    c->end = dialect_find(d, "end", 3);
    TRY(check_ops(c, parent));
    TRY(place_interface(c, a, BK_input, &in));
    TRY(place_interface(c, a, BK_output, &out));
    TRY(check_ends(c, &in));
    for (uint32_t k = 0; k < c->g->aliases.n; k++)
        TRY(check_alias(c, k, &out));
    return ST_OK;
}

Status
graph_check(const Graph *g)
{
    Checker c = {.g = g};
    Arena a;
    arena_init(&a, &g->cx->mem);
    Status st = run_checks(&c, &a);
    arena_free(&a);
    return st;
}
