/* reroll.c - neighbouring copies of the same code become a loop: lowering writes one copy per PSUM bank or block.
 *
 * in:   any tile program
 * out:  the same instructions in the same order, without addresses, in less text
 * rule: copies are alike when they differ only in the constants of their access patterns, by the same step from each to
 *       the next, and in the buffers that each declares for itself. Linear in the program: items are compared by hash
 *       before they are compared.
 */
#include "pass/pass.h"

enum { MAX_ITEMS = 8, LEAST_SAVED = 3, MAX_ROUNDS = 4 }; /* items of one copy; ops a loop must save; loops in loops */

typedef struct Step { int64_t part, off; } Step; /* what an operand's pattern moves by from one copy to the next */

typedef struct Roll {
    const Graph *in;
    Graph *out;
    Arena *a;
    uint32_t *after;    /* by op: the op after it; after a loop, after its end */
    uint32_t *last_use; /* by val: the last op that has it as an operand */
    uint64_t *hash;     /* by op: of what copies have in common; of a loop, of all in it */
    AttrId *attr;       /* by op, without addresses */
    Val *map;           /* by val of `in` */
    Step *step;         /* by operand of `in`, of the copy at hand */
    bool found;
} Roll;

/* ---- what copies have in common ---- */

static Status
without_address(Ctx *cx, const Op *op, AttrId *out)
{
    AttrItem kept[16];
    int n, k = 0;
    const AttrItem *item = attr_items(cx, op->attr, &n);
    *out = op->attr;
    if (op->code != K_buffer || !attr_find(cx, op->attr, A_addr))
        return ST_OK;
    for (int i = 0; i < n && k < COUNT_OF(kept); i++)
        if (item[i].key != A_addr)
            kept[k++] = item[i];
    *out = (AttrId){0};
    return k ? attr_make(cx, kept, k, out) : ST_OK;
}

static uint64_t
hash_operand(const Graph *g, const Operand *in, uint64_t h)
{
    if (!in->v.i)
        return hash_int(1, h);
    h = hash_int(g->vals.p[in->v.i].type.i, h);
    if (!in->ap.i)
        return h;
    const Ap *ap = ap_get(g->cx, in->ap);
    h = hash_bytes(ap->dim, ap->ndim * sizeof(ap->dim[0]), hash_int((uint64_t)ap->nparts, h));
    for (uint32_t i = 0; i < ap->off.nterms; i++)
        h = hash_int((uint64_t)ap->off.term[i].coef, h);
    return h;
}

static uint64_t
hash_op(const Graph *g, const Op *op, AttrId attr)
{
    uint64_t h = hash_int(attr.i, hash_int(op->code, op->nout ? g->vals.p[op->out.i].type.i : 0));
    for (int i = 0; i < op->nin; i++)
        h = hash_operand(g, op_in(g, op, i), h);
    return h;
}

/* `open` holds the loops around op o, innermost last. */
static uint32_t
place_item(Roll *r, uint32_t o, uint32_t *open, uint32_t depth)
{
    int code = r->in->ops.p[o].code;
    if (code == K_loop) {
        open[depth] = o;
        return depth + 1;
    }
    if (depth)
        r->hash[open[depth - 1]] = hash_int(r->hash[o], r->hash[open[depth - 1]]);
    if (code != K_end || !depth)
        return depth;
    uint32_t loop = open[depth - 1];
    r->after[loop] = o + 1;
    if (depth > 1)
        r->hash[open[depth - 2]] = hash_int(r->hash[loop], r->hash[open[depth - 2]]);
    return depth - 1;
}

static Status
survey(Roll *r)
{
    const Graph *g = r->in;
    uint32_t *open, depth = 0;
    NEW(g->cx, r->a, r->after, g->ops.n + 1);
    NEW(g->cx, r->a, r->hash, g->ops.n + 1);
    NEW(g->cx, r->a, r->attr, g->ops.n + 1);
    NEW(g->cx, r->a, r->last_use, g->vals.n + 1);
    NEW(g->cx, r->a, open, g->ops.n + 1);
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        TRY(without_address(g->cx, op, &r->attr[o.i]));
        r->hash[o.i] = hash_op(g, op, r->attr[o.i]);
        r->after[o.i] = o.i + 1;
        for (int i = 0; i < op->nin; i++)
            r->last_use[op_val(g, op, i).i] = o.i;
        depth = place_item(r, o.i, open, depth);
    }
    for (uint32_t i = 0; i < g->outputs.n; i++)
        r->last_use[g->outputs.p[i].i] = g->ops.n;
    return ST_OK;
}

/* ---- are two copies alike? ---- */

typedef struct Pair { uint32_t a, b, n; } Pair; /* ops [a, a + n) and [b, b + n) */

static bool
same_value(const Roll *r, Pair p, Val x, Val y)
{
    uint32_t dx = r->in->vals.p[x.i].def.i, dy = r->in->vals.p[y.i].def.i; /* of no value: op 0, in no body */
    bool own = dx >= p.a && dx < p.a + p.n;
    return own ? dy == dx - p.a + p.b : x.i == y.i;
}

static bool
same_terms(const Roll *r, Pair p, const Affine *x, const Affine *y)
{
    if (x->nterms != y->nterms)
        return false;
    for (uint32_t i = 0; i < x->nterms; i++)
        if (x->term[i].coef != y->term[i].coef || !same_value(r, p, x->term[i].var, y->term[i].var))
            return false;
    return x->c == y->c || x->nterms < MAX_TERMS;
}

static bool
same_pattern(const Roll *r, Pair p, const Ap *x, const Ap *y)
{
    if (x->nparts != y->nparts || x->ndim != y->ndim)
        return false;
    for (uint32_t i = 0; i < x->ndim; i++)
        if (x->dim[i].count != y->dim[i].count || x->dim[i].stride != y->dim[i].stride)
            return false;
    return same_terms(r, p, &x->part, &y->part) && same_terms(r, p, &x->off, &y->off);
}

/* Operand i of op x and of its copy y; `times` copies lie between them, 0: the step is not known yet. */
static bool
same_operand(Roll *r, Pair p, const Op *x, const Op *y, int i, int64_t times)
{
    const Graph *g = r->in;
    const Operand *ox = op_in(g, x, i), *oy = op_in(g, y, i);
    Step *s = &r->step[x->in + (uint32_t)i];
    if (!same_value(r, p, ox->v, oy->v) || !ox->ap.i != !oy->ap.i)
        return false;
    if (!ox->ap.i)
        return true;
    const Ap *ax = ap_get(g->cx, ox->ap), *ay = ap_get(g->cx, oy->ap);
    Step now = {ay->part.c - ax->part.c, ay->off.c - ax->off.c};
    if (!same_pattern(r, p, ax, ay))
        return false;
    if (times == 1)
        *s = now;
    return now.part == times * s->part && now.off == times * s->off;
}

/* What a copy declares dies with it, and is on chip: HBM buffers are counted and named one by one. */
static bool
is_private(const Roll *r, uint32_t first, uint32_t n)
{
    for (uint32_t o = first; o < first + n; o++) {
        const Op *op = &r->in->ops.p[o];
        if (op->nout && r->last_use[op->out.i] >= first + n)
            return false;
        if (op->code == K_buffer && val_type(r->in, op->out)->space == SP_hbm)
            return false;
    }
    return true;
}

static bool
is_copy(Roll *r, Pair p, int64_t times)
{
    for (uint32_t k = 0; k < p.n; k++) {
        const Op *x = &r->in->ops.p[p.a + k], *y = &r->in->ops.p[p.b + k];
        if (x->code != y->code || x->nin != y->nin || r->attr[p.a + k].i != r->attr[p.b + k].i)
            return false;
        if (x->nout && r->in->vals.p[x->out.i].type.i != r->in->vals.p[y->out.i].type.i)
            return false;
        for (int i = 0; i < x->nin; i++)
            if (!same_operand(r, p, x, y, i, times))
                return false;
    }
    return is_private(r, p.b, p.n);
}

/* The item at `at`, if there is one in this block. */
static bool
is_item(const Roll *r, uint32_t at)
{
    return at < r->in->ops.n && r->in->ops.p[at].code != K_end;
}

/* Whether `items` items from a on and as many from b on have the same hashes; *end is behind the latter. */
static bool
hashes_agree(const Roll *r, uint32_t a, uint32_t b, int items, uint32_t *end)
{
    for (int i = 0; i < items; i++) {
        if (!is_item(r, b) || r->hash[a] != r->hash[b] || r->after[a] - a != r->after[b] - b)
            return false;
        a = r->after[a];
        b = r->after[b];
    }
    *end = b;
    return true;
}

/* How many alike copies of n ops follow each other from `first` on. */
static int64_t
count_copies(Roll *r, uint32_t first, uint32_t n, int items)
{
    int64_t count = 1;
    uint32_t at = first + n, end;
    if (!is_private(r, first, n))
        return 1;
    while (hashes_agree(r, first, at, items, &end) && is_copy(r, (Pair){first, at, n}, count)) {
        count++;
        at = end;
    }
    return count;
}

/* The shortest copy at `first` that is worth a loop: *n ops, *count times. */
static bool
find_copies(Roll *r, uint32_t first, uint32_t *n, int64_t *count)
{
    uint32_t at = first;
    for (int items = 1; items <= MAX_ITEMS && is_item(r, at); items++) {
        at = r->after[at];
        *n = at - first;
        if (!is_item(r, at) || r->hash[at] != r->hash[first])
            continue;
        *count = count_copies(r, first, *n, items);
        if (*count > 1 && (*count - 1) * (int64_t)*n >= LEAST_SAVED)
            return true;
    }
    return false;
}

/* ---- writing ---- */

static Affine
moved(const Roll *r, const Affine *a, Val var, int64_t step)
{
    Affine out = affine_const(a->c);
    for (uint32_t i = 0; i < a->nterms; i++)
        out = affine_add(out, affine_var(r->map[a->term[i].var.i], a->term[i].coef));
    return affine_add(out, affine_var(var, step));
}

static Status
copy_operand(const Roll *r, const Operand *in, Val var, Step s, Operand *out)
{
    *out = (Operand){r->map[in->v.i], {0}};
    if (!in->ap.i)
        return ST_OK;
    Ap ap = *ap_get(r->in->cx, in->ap);
    ap.part = moved(r, &ap.part, var, s.part);
    ap.off = moved(r, &ap.off, var, s.off);
    return ap_make(r->in->cx, &ap, &out->ap);
}

/* `var`: the loop that the op's copies became; none: it stays as it is. */
static Status
copy_op(Roll *r, uint32_t o, Val var)
{
    const Graph *g = r->in;
    const Op *op = &g->ops.p[o];
    Operand operand[MAX_OPERANDS];
    TyId type = op->nout ? g->vals.p[op->out.i].type : (TyId){0};
    OpId made;
    for (int i = 0; i < op->nin; i++) {
        Step s = var.i ? r->step[op->in + (uint32_t)i] : (Step){0, 0};
        TRY(copy_operand(r, op_in(g, op, i), var, s, &operand[i]));
    }
    TRY(graph_append(r->out, op->code, operand, op->nin, r->attr[o], op->loc, &type, op->nout, &made));
    if (op->nout) {
        r->map[op->out.i] = graph_op(r->out, made)->out;
        r->out->vals.p[r->map[op->out.i].i].name = g->vals.p[op->out.i].name;
    }
    return ST_OK;
}

static Status
write_loop(Roll *r, uint32_t first, uint32_t n, int64_t count)
{
    Val var;
    LocId loc = r->in->ops.p[first].loc;
    TRY(k_loop(r->out, count, loc, &var));
    for (uint32_t o = first; o < first + n; o++)
        TRY(copy_op(r, o, var));
    r->found = true;
    return k_end(r->out, loc);
}

static Status
roll_ops(Roll *r)
{
    uint32_t n;
    int64_t count;
    NEW(r->in->cx, r->a, r->map, r->in->vals.n + 1);
    NEW(r->in->cx, r->a, r->step, r->in->operands.n + 1);
    TRY(survey(r));
    for (uint32_t o = 1; o < r->in->ops.n;) {
        if (is_item(r, o) && find_copies(r, o, &n, &count)) {
            TRY(write_loop(r, o, n, count));
            o += n * (uint32_t)count;
        } else {
            TRY(copy_op(r, o++, (Val){0}));
        }
    }
    return graph_copy_interface(r->in, r->map, r->out);
}

static Status
roll_once(const Graph *in, Arena *a, Graph **out, bool *found)
{
    Roll r = {.in = in, .a = a};
    TRY(graph_new(in->cx, in->dialect, str_get(in->cx, in->name), out));
    (*out)->target = in->target;
    r.out = *out;
    Status st = roll_ops(&r);
    *found = r.found;
    return graph_end(st, out);
}

Status
pass_reroll(const Graph *in, const CompileOptions *opt, Graph **out)
{
    bool found = true;
    (void)opt;
    *out = NULL;
    for (int round = 0; found && round < MAX_ROUNDS; round++) {
        Graph *next = NULL;
        Arena a;
        arena_init(&a, &in->cx->mem);
        Status st = roll_once(*out ? *out : in, &a, &next, &found);
        arena_free(&a);
        graph_free(*out);
        *out = next;
        TRY(st);
    }
    return ST_OK;
}
