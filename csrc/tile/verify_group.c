/* verify_group.c - accumulation in PSUM: a matmul adds only to what a matmul has started, one group per bank at a time.
 *
 * in:   what writes PSUM, in the order in which it runs for the first time, and loop bodies once more
 * out:  violations
 * rule: an accumulation begins with a matmul that overwrites. It is lost where another engine writes, and over once a
 *       matmul starts another one in its bank, in partitions that they share. A transpose starts nothing and ends
 * nothing. Where it is not known which group is the last in a bank nothing is said.
 */
#include "tile/verify.h"

enum { NBANKS = 8, NGROUPS = 4 };

typedef struct Group {
    Parts parts;
    int64_t lo, hi; /* bytes of the row */
} Group;

typedef struct Bank { /* the last group in each partition where it is known */
    Group p[NGROUPS];
    int n;
} Bank;

typedef struct Banks {
    Bank bank[NBANKS];
} Banks;

bool
accumulates_in(const Check *c, const Op *op, Val second)
{
    Val first = op_val(c->g, op, KM_first);
    if (first.i != 0)
        return first.i == second.i;
    return attr_int(c->cx, op->attr, A_accumulate, 0) != 0;
}

void
lose_groups(VInfo *v)
{
    for (int b = 0; v->banks && b < NBANKS; b++)
        v->banks->bank[b].n = 0;
}

static int64_t
bank_bytes(const Check *c)
{
    return (int64_t)c->hw->psum_bank_bytes;
}

/* The part of it that lies in bank b. */
static Group
group_in(const Check *c, const VInfo *v, const Swath *x, int64_t b)
{
    int64_t lo = x->at.base * v->esize, hi = (lattice_last(&x->at) + 1) * v->esize, bank = bank_bytes(c);
    return (Group){x->parts, MAX(lo, b * bank), MIN(hi, (b + 1) * bank)};
}

/* Which group is the last in these partitions is no longer known. */
static void
bank_forget(Bank *b, Parts parts)
{
    int n = 0;
    for (int i = 0; i < b->n; i++)
        if (!(b->p[i].parts & parts))
            b->p[n++] = b->p[i];
    b->n = n;
}

static void
bank_start(Bank *b, Group g)
{
    bank_forget(b, g.parts);
    b->n = MIN(b->n, NGROUPS - 1); /* of more groups beside each other one is forgotten */
    b->p[b->n++] = g;
}

/* A group that is not the one that g continues. */
static const Group *
bank_other(const Bank *b, Group g)
{
    for (int i = 0; i < b->n; i++)
        if ((b->p[i].parts & g.parts) && (g.lo < b->p[i].lo || g.hi > b->p[i].hi))
            return &b->p[i];
    return NULL;
}

static void
forget_groups(const Check *c, VInfo *v, const Swath *x)
{
    int64_t last = lattice_last(&x->at) * v->esize / bank_bytes(c);
    for (int64_t b = x->at.base * v->esize / bank_bytes(c); v->banks && b <= last && b < NBANKS; b++)
        bank_forget(&v->banks->bank[b], x->parts);
}

static void
start_group(Check *c, VInfo *v, const Swath *x)
{
    int64_t last = lattice_last(&x->at) * v->esize / bank_bytes(c);
    if (!v->banks) {
        c->st = new_in(c->cx, &c->work, sizeof(*v->banks), &v->banks);
        if (c->st != ST_OK)
            return;
    }
    for (int64_t b = x->at.base * v->esize / bank_bytes(c); b <= last && b < NBANKS; b++)
        bank_start(&v->banks->bank[b], group_in(c, v, x, b));
}

static void
continue_group(Check *c, OpId o, const VInfo *v, const Swath *x)
{
    int64_t last = lattice_last(&x->at) * v->esize / bank_bytes(c);
    for (int64_t b = x->at.base * v->esize / bank_bytes(c); v->banks && b <= last && b < NBANKS; b++) {
        Group g = group_in(c, v, x, b);
        const Group *other = bank_other(&v->banks->bank[b], g);
        if (other == NULL || was_said(c, o, "accumulate-group"))
            continue;
        report_at(c, o, "accumulate-group",
                  "NKI-3092 dst goes on accumulating bytes %lld to %lld of the row, but the last group that was "
                  "started in this "
                  "bank has bytes %lld to %lld; a bank has one open group",
                  (long long)g.lo, (long long)g.hi - 1, (long long)other->lo, (long long)other->hi - 1);
    }
}

static void
accumulate(Check *c, OpId o, VInfo *v, const Swath *x)
{
    Hole hole;
    if (!cover_misses(&c->covers, &v->started, x, &hole)) {
        continue_group(c, o, v, x);
        return;
    }
    if (was_said(c, o, "accumulate-start"))
        return;
    if (v->ever.n == 0)
        report_at(c, o, "accumulate-start", "NKI-3093 dst accumulates before a matmul starts accumulation in it");
    else
        report_at(
            c, o, "accumulate-start",
            "NKI-3094 dst takes element %lld of partition %d, in which no matmul has started an accumulation, or which "
            "another engine has written since",
            (long long)hole.element, hole.part);
}

/* Loops that are open around the op, from the one that `first` names or that the buffer outlives. */
static void
note_accumulation(Check *c, const Op *op, const VInfo *v)
{
    Val first = op_val(c->g, op, KM_first);
    bool always = attr_int(c->cx, op->attr, A_accumulate, 0) != 0;
    for (int d = 0; d < c->depth; d++)
        if (v->decl < c->frame[d].decl && (always || c->frame[d].var.i == first.i))
            c->frame[d].accumulates = true;
}

/* Where it is in other iterations it may be the last one, too. What a loop inside of this one begins in its first
 * iteration alone has no place in the order of the last iteration. */
void
start_last(Check *c, const Swept *s, uint32_t loop)
{
    VInfo *v = &c->val[s->val];
    Val first = op_val(c->g, graph_op(c->g, (OpId){s->op}), KM_first);
    Swath all = swath_of(c, s->ap, (When){.from = loop}), x = swath_of(c, s->ap, (When){.from = loop, .last = true});
    if (!swath_fits(&all, v) || !swath_fits(&x, v))
        return;
    forget_groups(c, v, &all);
    if (first.i == 0 || c->val[first.i].decl < loop)
        start_group(c, v, &x);
}

static bool
starts_nothing(const Check *c, const Op *op)
{
    return op->code == K_nc_transpose && instr_engine(c->g, op) == EN_tensor;
}

void
check_psum_write(Check *c, int i)
{
    VInfo *v = c->in[i].v;
    Swath x = swath_of(c, c->in[i].use.ap, WHEN_FIRST);
    if (starts_nothing(c, c->op) || c->st != ST_OK || !swath_fits(&x, v))
        return;
    if (c->op->code != K_nc_matmul) {
        c->st = cover_remove(&c->covers, &v->started, &x, v->row);
        return;
    }
    note_accumulation(c, c->op, v);
    if (accumulates_in(c, c->op, (Val){0}))
        accumulate(c, c->at, v, &x);
    else
        start_group(c, v, &x);
}

/* Inside of loops that are not run through, what starts may be anywhere and what is written over may start again. */
void
check_psum_again(Check *c, OpId o, int i, const Frame *loop, bool inner)
{
    const Op *op = graph_op(c->g, o);
    const Ap *ap = ap_get(c->cx, op_in(c->g, op, i)->ap);
    VInfo *v = &c->val[op_val(c->g, op, i).i];
    When when = {.from = UINT32_MAX, .var = loop->var, .value = 1}, all = when;
    Swath x = swath_of(c, ap, when);
    all.from = loop->decl;
    if (starts_nothing(c, op) || c->st != ST_OK || !swath_fits(&x, v))
        return;
    if (op->code != K_nc_matmul) {
        c->st = inner ? ST_OK : cover_remove(&c->covers, &v->started, &x, v->row);
        return;
    }
    if (accumulates_in(c, op, loop->var)) {
        accumulate(c, o, v, &x);
        return;
    }
    if (inner && (ap->off.nterms || ap->part.nterms || op_val(c->g, op, KM_first).i))
        lose_groups(v);
    else
        start_group(c, v, &x);
    x = swath_of(c, ap, all);
    if (c->st == ST_OK && swath_fits(&x, v))
        c->st = cover_add(&c->covers, &v->started, &x, v->row);
}
