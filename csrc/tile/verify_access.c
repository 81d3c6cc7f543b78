/* verify_access.c - what an instruction touches lies in its buffers and was written before it is read.
 *
 * in:   instructions in program order, the loops around them
 * out:  violations
 * rule: an op is looked at as it runs for the first time, all loops at 0: what can have been written then is what the
 * ops before it wrote, in all iterations of loops that are over and in the first one of those that are not. What loops
 * make of a read is looked at when the outermost of them ends. Sets of what was written are too large rather than too
 * small (cover.c), so what is reported is wrong for sure.
 */
#include "tile/verify.h"

static inline bool
is_moved(const Ap *ap)
{
    return ap->off.nterms + ap->part.nterms > 0;
}

/* ---- bounds ---- */

static bool
in_bounds(Check *c, int i)
{
    const Opnd *x = &c->in[i];
    const Extent *r = &x->all;
    int64_t es = x->v->esize;
    if (r->lo >= 0 && r->hi <= x->v->row * es && r->p0 >= 0 && r->p1 <= x->v->parts)
        return true;
    if (r->p0 < 0 || r->p1 > x->v->parts)
        report(c, "out-of-bounds", "NKI-3063 %s reaches partitions %d to %d of %d", operand_name(c, i), r->p0,
               r->p1 - 1, x->v->parts);
    else
        report(c, "out-of-bounds", "NKI-3064 %s reaches elements %lld to %lld of %lld", operand_name(c, i),
               (long long)(r->lo / es), (long long)(r->hi / es - 1), (long long)x->v->row);
    return false;
}

/* ---- reads ---- */

/* A shuffle reads only the lanes that its mask names. */
static Parts
named_lanes(const Check *c, const Op *op, const Ap *ap, Parts parts)
{
    const int64_t *mask;
    int n = attr_ints(c->cx, op->attr, A_mask, &mask);
    Parts lanes = 0;
    for (int k = 0; k < n; k++)
        if (mask[k] >= 0 && mask[k] < SHUFFLE_LANES)
            lanes |= parts_moved((Parts)1 << mask[k], SHUFFLE_LANES, 4);
    return parts & (lanes << MIN(MAX(ap->part.c, 0), 127));
}

/* Whether operand i of op certainly reads what nothing has written. */
static bool
is_unwritten(Check *c, const Op *op, int i, When when, Hole *hole)
{
    const Ap *ap = ap_get(c->cx, op_in(c->g, op, i)->ap);
    const VInfo *v = &c->val[op_val(c->g, op, i).i];
    Swath x = swath_of(c, ap, when);
    if (op->code == K_nc_stream_shuffle && i == KI_src)
        x.parts = ap->part.nterms ? 0 : named_lanes(c, op, ap, x.parts);
    return x.parts && swath_fits(&x, v) && cover_misses(&c->covers, &v->written, &x, hole);
}

static void
say_unwritten(Check *c, OpId o, int i, const Hole *hole)
{
    const Op *op = graph_op(c->g, o);
    const VInfo *v = &c->val[op_val(c->g, op, i).i];
    const char *name = op_def(c->g, op)->operand[i].name;
    if (v->written.n == 0)
        report_at(c, o, "read-before-write", "NKI-3065 %s is read before anything is written to it", name);
    else if (is_chip(v->space))
        report_at(c, o, "read-before-write",
                  "NKI-3089 %s takes element %lld of partition %d, which nothing has written", name,
                  (long long)hole->element, hole->part);
    else
        report_at(c, o, "read-before-write", "NKI-3090 %s takes element %lld, which nothing has written", name,
                  (long long)hole->element);
}

static void
look_later(Check *c, int i, bool accumulates)
{
    if (!is_moved(c->in[i].use.ap) || c->st != ST_OK)
        return;
    c->st = vec_reserve(c->cx, &c->work, &c->late, 1, sizeof(Late));
    if (c->st == ST_OK)
        c->late.p[c->late.n++] = (Late){c->at.i, (uint8_t)i, accumulates};
}

static void
check_read(Check *c, int i)
{
    Hole hole;
    if (c->in[i].v->initialised)
        return;
    if (is_unwritten(c, c->op, i, WHEN_FIRST, &hole))
        say_unwritten(c, c->at, i, &hole);
    else
        look_later(c, i, false);
}

/* ---- writes ---- */

static void
add_swath(Check *c, VInfo *v, const Ap *ap, bool starts, When when)
{
    Swath x = swath_of(c, ap, when);
    Status st = ST_OK;
    if (c->st != ST_OK || !swath_fits(&x, v))
        return;
    if (!v->initialised)
        st = cover_add(&c->covers, &v->written, &x, v->row);
    if (st == ST_OK && starts)
        st = cover_add(&c->covers, &v->started, &x, v->row);
    if (st == ST_OK && starts)
        st = cover_add(&c->covers, &v->ever, &x, v->row);
    c->st = st;
}

static void
add_write(Check *c, VInfo *v, const Ap *ap, bool starts, When when)
{
    Val along = diagonal(ap);
    if (along.i == 0 || !ranges(c, along, when)) {
        add_swath(c, v, ap, starts, when);
        return;
    }
    when.var = along; /* it moves partitions: there are few iterations */
    for (when.value = 0; when.value < MIN(c->val[along.i].count, 128); when.value++)
        add_swath(c, v, ap, starts, when);
}

/* An output's writes are looked at together, at the end. */
static void
keep_write(Check *c, VInfo *v, const Ap *ap)
{
    c->st = vec_reserve(c->cx, &c->work, &c->writes, 1, sizeof(Write));
    if (c->st != ST_OK)
        return;
    c->writes.p[c->writes.n] = (Write){c->at.i, v->writes, ap};
    v->writes = c->writes.n++;
    v->nwrites++;
}

static void
keep_swept(Check *c, Swept s)
{
    c->st = vec_reserve(c->cx, &c->work, &c->swept, 1, sizeof(Swept));
    if (c->st == ST_OK)
        c->swept.p[c->swept.n++] = s;
}

static void
note_write(Check *c, int i)
{
    const Ap *ap = c->in[i].use.ap;
    VInfo *v = c->in[i].v;
    bool starts = c->op->code == K_nc_matmul && !accumulates_in(c, c->op, (Val){0});
    if (v->readonly) {
        report(c, "input-written", "NKI-3067 %s is an %s, which nothing may write", operand_name(c, i),
               enum_name(AK_bufkind, v->kind));
        return;
    }
    if (v->space == SP_psum || c->op->code == K_nc_matmul)
        check_psum_write(c, i);
    add_write(c, v, ap, starts, WHEN_FIRST);
    if (c->depth > 0 && (starts || is_moved(ap)) && c->st == ST_OK)
        keep_swept(c, (Swept){op_val(c->g, c->op, i).i, c->at.i, starts, ap});
    if (v->kind == BK_output && c->st == ST_OK)
        keep_write(c, v, ap);
}

/* What reads it is not to blame. */
static void
forgive(Check *c, VInfo *v)
{
    v->initialised = true;
    lose_groups(v);
    Swath all = {.parts = ~(Parts)0};
    lattice_add(&all.at, v->row, 1);
    if (c->st == ST_OK && v->space == SP_psum)
        c->st = cover_add(&c->covers, &v->started, &all, v->row);
    if (c->st == ST_OK && v->space == SP_psum)
        c->st = cover_add(&c->covers, &v->ever, &all, v->row);
}

void
check_access(Check *c)
{
    uint32_t good = 0;
    bool matmul = c->op->code == K_nc_matmul;
    for (int i = 0; i < c->op->nin; i++) {
        if (c->in[i].use.ap != NULL && c->in[i].v->is == V_BUFFER && in_bounds(c, i))
            good |= 1u << i;
    }
    for (int i = 0; i < c->op->nin; i++) {
        if ((good >> i & 1) && !(matmul && i == KI_dst) && (c->in[i].use.role & R_read))
            check_read(c, i);
    }
    for (int i = 0; i < c->op->nin; i++) {
        if (c->in[i].use.ap == NULL || c->in[i].v->is != V_BUFFER || !(c->in[i].use.role & R_write))
            continue;
        if (good >> i & 1)
            note_write(c, i);
        else
            forgive(c, c->in[i].v);
    }
    if (matmul && (good & 1) && accumulates_in(c, c->op, (Val){0}))
        look_later(c, KI_dst, true);
    check_hazards(c, good);
}

/* ---- loops ---- */

void
enter_loop(Check *c)
{
    c->frame[c->depth++] = (Frame){.var = c->op->out, .decl = c->at.i, .swept = c->swept.n};
}

/* Once more through the body, as the second iteration: only accumulation depends on which one it is. */
static void
run_again(Check *c, const Frame *f)
{
    int depth = 0;
    for (uint32_t o = f->decl + 1; o < c->at.i && !is_full(c); o++) {
        const Op *op = graph_op(c->g, (OpId){o});
        depth += (op->code == K_loop) - (op->code == K_end);
        for (int i = 0; i < op->nin && is_instr(c->g, op); i++) {
            const VInfo *v = &c->val[op_val(c->g, op, i).i];
            if (v->is == V_BUFFER && v->space == SP_psum && v->decl < f->decl && (operand_role(c->g, op, i) & R_write))
                check_psum_again(c, (OpId){o}, i, f, depth > 0);
        }
    }
}

/* What the writes in it reach in all iterations. */
static void
finish_writes(Check *c, const Frame *f)
{
    for (uint32_t i = f->swept; i < c->swept.n; i++) {
        const Swept *s = &c->swept.p[i];
        VInfo *v = &c->val[s->val];
        if (v->decl > f->decl || !(is_moved_by(&s->ap->off, f->var) || is_moved_by(&s->ap->part, f->var)))
            continue;
        add_write(c, v, s->ap, s->starts, (When){.from = f->decl});
        v->moved = f->decl;
    }
}

/* Of a buffer in PSUM whose writes move: what was started and written over may be started again, and the last iteration
 * leaves open what it starts last. */
static void
finish_groups(Check *c, const Frame *f)
{
    for (uint32_t i = f->swept; i < c->swept.n; i++) {
        VInfo *v = &c->val[c->swept.p[i].val];
        if (v->moved == f->decl && v->decl < f->decl)
            lose_groups(v);
    }
    for (uint32_t i = f->swept; i < c->swept.n && c->st == ST_OK; i++) {
        const Swept *s = &c->swept.p[i];
        VInfo *v = &c->val[s->val];
        if (!s->starts || v->moved != f->decl || v->decl > f->decl)
            continue;
        add_write(c, v, s->ap, true, (When){.from = f->decl});
        start_last(c, s, f->decl);
    }
}

/* All loops are over: what moved reads reach in all iterations must have been written. */
static void
check_late(Check *c)
{
    for (uint32_t k = 0; k < c->late.n && !is_full(c); k++) {
        Late l = c->late.p[k];
        const Op *op = graph_op(c->g, (OpId){l.op});
        const VInfo *v = &c->val[op_val(c->g, op, l.operand).i];
        const Ap *ap = ap_get(c->cx, op_in(c->g, op, l.operand)->ap);
        When when = {.from = v->decl, .last = diagonal(ap).i != 0};
        Hole hole;
        if (v->initialised)
            continue;
        Swath x = swath_of(c, ap, when);
        if (!l.accumulates && is_unwritten(c, op, l.operand, when, &hole))
            say_unwritten(c, (OpId){l.op}, l.operand, &hole);
        else if (l.accumulates && swath_fits(&x, v) && cover_misses(&c->covers, &v->ever, &x, &hole))
            report_at(c, (OpId){l.op}, "accumulate-start",
                      "NKI-3091 dst takes element %lld of partition %d in a later iteration, in which no matmul has "
                      "started an "
                      "accumulation",
                      (long long)hole.element, hole.part);
    }
    c->late.n = 0;
}

void
leave_loop(Check *c)
{
    const Frame *f = &c->frame[--c->depth];
    if (f->accumulates && c->val[f->var.i].count > 1)
        run_again(c, f);
    finish_writes(c, f);
    finish_groups(c, f);
    if (c->depth > 0)
        c->frame[c->depth - 1].accumulates |= f->accumulates;
    if (c->depth > 0)
        return;
    check_late(c);
    c->swept.n = 0;
}
