/* eval.c - runs a tile program: decodes it once, then interprets its loops over the instruction handlers.
 *
 * in:      any graph of the tile dialect; it need not have passed the verifier
 * out:     the output arrays, or a failure with the instruction, its location and what it did wrong
 * promise: no access outside of a buffer, no use of a value that nothing has written. Decoding checks what does not
 *          change between executions; operand_view checks addresses and poison each time.
 * memory:  linear in the program, plus SBUF and PSUM as far as the program uses them, plus scratch buffers in HBM.
 */
#include "eval/machine.h"

#include <string.h>

enum { POLL_EVERY = 1 << 20, LOOP_WORK = 16 }; /* LOOP_WORK: an iteration itself */
#define MAX_ELEMS ((int64_t)1 << 42)
#define MAX_FREE ((int64_t)1 << 20) /* elements per partition of one operand; hardware has far fewer */

/* ---- dispatch ---- */

#define EVAL_CONTROL(id) NULL
#define EVAL_DMA(id) eval_##id
#define EVAL_EW(id) eval_##id
#define EVAL_PE(id) eval_##id
#define EVAL_REDUCE(id) eval_##id
#define EVAL_MOVE(id) eval_##id
static EvalFn *const handlers[K_COUNT] = {
#define OP(id, cls, ...) [K_##id] = EVAL_##cls(id),
#include "tile/ops.def"
#undef OP
};

/* ---- decode ---- */

/* Folds the dims of a pattern into runs; false: more elements or offsets than any buffer has. */
static bool
decode_pattern(const Use *u, Opnd *o)
{
    Ap merged = *u->ap;
    o->count = u->count;
    o->lo = u->lo / u->elem - u->ap->off.c;
    o->hi = u->hi / u->elem - 1 - u->ap->off.c;
    if (o->count > MAX_ELEMS || o->lo < -MAX_ELEMS || o->hi > MAX_ELEMS)
        return false;
    for (uint32_t d = 0; d < merged.ndim; d++)
        if (merged.dim[d].count == 1)
            merged.dim[d].stride = 0; /* never used; may be huge */
    ap_merge(&merged);
    o->ndim = 0;
    for (uint32_t d = 0; d < merged.ndim; d++)
        if (merged.dim[d].count > 1)
            o->dim[o->ndim++] = merged.dim[d];
    if (!o->ndim)
        o->dim[o->ndim++] = (ApDim){1, 1};
    return true;
}

static bool
affine_ok(const Graph *g, const Affine *a)
{
    for (uint32_t i = 0; i < a->nterms; i++)
        if (a->nterms > MAX_TERMS || a->term[i].var.i >= g->vals.n || val_type(g, a->term[i].var)->kind != TY_index)
            return false;
    return true;
}

static Status
decode_operand(Machine *m, Instr *in, int i)
{
    const Graph *g = m->g;
    const Operand *from = op_in(g, in->op, i);
    const OpDef *def = op_def(g, in->op);
    const OperandDef *od = &def->operand[i];
    Opnd *o = &in->opnd[i];
    *o = (Opnd){.v = from->v, .role = od->role};
    if (!from->v.i)
        return (od->role & R_optional) ? ST_OK : bad(m, in, "%s lacks its operand %s", def->name, od->name);
    if (from->v.i >= g->vals.n)
        return bad(m, in, "%s: operand %s is no value", def->name, od->name);
    const Type *ty = val_type(g, from->v);
    if (ty->kind == TY_index && !od->spaces)
        return ST_OK;
    const Store *s = &m->store[from->v.i];
    Use use;
    if (ty->kind != TY_buffer || !s->bytes || !operand_use(g, in->op, i, &use))
        return bad(m, in, "%s: operand %s is not a pattern on a buffer", def->name, od->name);
    if (!(od->spaces >> ty->space & 1))
        return bad(m, in, "%s: operand %s cannot be in %s", def->name, od->name, space_names[ty->space]);
    o->ap = use.ap;
    o->dtype = use.dtype;
    o->bytes = use.elem;
    o->space = use.space;
    o->nparts = ty->space == SP_hbm ? 1 : o->ap->nparts;
    if (o->nparts < 1 || o->nparts > MAX_PARTS || !decode_pattern(&use, o) || !affine_ok(g, &o->ap->off) ||
        !affine_ok(g, &o->ap->part))
        return bad(m, in, "%s: operand %s has an illegal access pattern", def->name, od->name);
    /* Polling is between instructions, so one instruction is bounded; a DMA's source has its destination's count. */
    int64_t most = ty->space != SP_hbm ? MAX_FREE : (od->role & R_write) ? s->row : MAX_ELEMS;
    if (o->count > most)
        return bad(m, in, "%s: operand %s has %lld elements, at most %lld are possible", def->name, od->name,
                   (long long)o->count, (long long)most);
    if ((od->role & R_write) && ty->space == SP_hbm && (s->kind == BK_input || s->kind == BK_constant))
        return bad(m, in, "%s writes to an input or a constant", def->name);
    in->work += o->nparts * o->count;
    return ST_OK;
}

static void
decode_attrs(Machine *m, Instr *in)
{
    Ctx *cx = m->cx;
    const AttrId a = in->op->attr;
    bool is_act = in->code == K_activation;
    int op0 = in->code == K_tensor_reduce || in->code == K_tensor_tensor || in->code == K_affine_select ||
              in->code == K_tensor_partition_reduce;
    int64_t alu0 = attr_int(cx, a, op0 ? A_op : A_op0, ALU_none), alu1 = attr_int(cx, a, A_op1, ALU_none);
    in->op0 = (uint8_t)(alu0 > 0 && alu0 < ALU_COUNT ? alu0 : ALU_none);
    in->op1 = (uint8_t)(alu1 > 0 && alu1 < ALU_COUNT ? alu1 : ALU_none);
    int64_t func = attr_int(cx, a, A_func, ACT_COUNT);
    in->func = (uint8_t)(func >= 0 && func < ACT_COUNT ? func : ACT_COUNT);
    in->imm0 = attr_float(cx, a, is_act ? A_scale : A_imm0, is_act ? 1.0 : 0.0);
    in->imm1 = attr_float(cx, a, is_act ? A_bias : A_imm1, 0.0);
    in->reverse0 = attr_int(cx, a, A_reverse0, 0) != 0;
    in->reverse1 = attr_int(cx, a, A_reverse1, 0) != 0;
    in->reverse_pred = attr_int(cx, a, A_reverse_pred, 0) != 0;
    in->negate = attr_int(cx, a, A_negate, 0) != 0;
    in->accumulate = attr_int(cx, a, A_accumulate, 0) != 0;
    in->naxes = attr_int(cx, a, A_naxes, 1);
    in->offset = attr_int(cx, a, A_offset, 0);
    in->channel = attr_int(cx, a, A_channel_multiplier, 0);
    in->nints = attr_ints(cx, a, in->code == K_nc_stream_shuffle ? A_mask : A_pattern, &in->ints);
    in->engine = (uint8_t)instr_engine(m->g, in->op);
    in->marks_self = in->code == K_nc_stream_shuffle;
}

static Status
decode_instr(Machine *m, Instr *in)
{
    const OpDef *def = op_def(m->g, in->op);
    int most = 0;
    while (most < MAX_OPERANDS && def->operand[most].role != R_none)
        most++;
    if (in->op->nin > most || in->op->in + in->op->nin > m->g->operands.n)
        return bad(m, in, "%s takes %d operands, got %d", def->name, most, in->op->nin);
    in->nopnd = (uint8_t)most;
    NEW(m->cx, &m->arena, in->opnd, MAX(most, 1));
    in->work = INSTR_WORK;
    for (int i = 0; i < most; i++) {
        if (i < in->op->nin)
            TRY(decode_operand(m, in, i));
        else if (!(def->operand[i].role & R_optional))
            return bad(m, in, "%s lacks its operand %s", def->name, def->operand[i].name);
    }
    decode_attrs(m, in);
    return ST_OK;
}

static Status
decode_buffer(Machine *m, Instr *in)
{
    const Type *ty = val_type(m->g, in->op->out);
    Store *s = &m->store[in->op->out.i];
    in->var = in->op->out.i;
    int64_t bytes = ty->kind == TY_buffer && ty->dtype < DT_COUNT ? dtypes[ty->dtype].bytes : 0;
    int64_t kind = attr_int(m->cx, in->op->attr, A_kind, BK_tile), numel = 1, row = 1;
    bool chip = ty->space == SP_sbuf || ty->space == SP_psum, ok = bytes > 0 && (chip || ty->space == SP_hbm);
    for (int d = 0; ok && d < ty->rank; d++) {
        ok = ty->dim[d] >= chip && !__builtin_mul_overflow(numel, ty->dim[d], &numel) && numel <= MAX_ELEMS;
        if (!chip || d > 0)
            row *= ty->dim[d];
    }
    if (!ok || (chip && (ty->rank < 1 || ty->dim[0] > MAX_PARTS || row * bytes > 1 << 20)))
        return bad(m, in, "buffer is larger than any memory, or of no memory");
    int64_t addr = chip ? attr_int(m->cx, in->op->attr, A_addr, -1) : -1;
    int64_t bufs = attr_int(m->cx, in->op->attr, A_bufs, 1), copy = chip ? buffer_stride(ty) : 0;
    if (bufs < 1 || bufs > 1 << 20 || addr < -1 || addr > 1 << 20 || (addr >= 0 && addr + bufs * copy > 1 << 21))
        return bad(m, in, "buffer needs copies and an address within the memory, got %lld at %lld", (long long)bufs,
                   (long long)addr);
    if (addr > 0 && addr % bytes)
        return bad(m, in, "address %lld is not a multiple of %lld bytes", (long long)addr, (long long)bytes);
    *s = (Store){.row = row, .parts = chip ? (int32_t)ty->dim[0] : 1, .space = ty->space, .kind = (uint8_t)kind,
                 .dtype = ty->dtype, .bytes = (uint8_t)bytes, .addr = addr, .bufs = bufs, .copy_bytes = copy,
                 .loc = in->op->loc};
    m->ninputs += kind == BK_input;
    m->noutputs += kind == BK_output;
    return ST_OK;
}

/* An input or output needs an array of the caller. */
static Status
check_index(Machine *m, const Instr *in)
{
    const Store *s = &m->store[in->var];
    int64_t index = attr_int(m->cx, in->op->attr, A_index, 0);
    int64_t most = s->kind == BK_input ? m->ninputs : s->kind == BK_output ? m->noutputs : INT64_MAX;
    if (s->space != SP_hbm && s->kind != BK_tile && s->kind != BK_scratch)
        return bad(m, in, "inputs, outputs and constants are in hbm");
    if (index < 0 || index >= most)
        return bad(m, in, "buffer has index %lld, the program has %lld of its kind", (long long)index,
                   (long long)most);
    return ST_OK;
}

/* Matches loops with their ends. */
static Status
decode_loops(Machine *m)
{
    const Graph *g = m->g;
    uint32_t open = 0; /* innermost open loop; its `mate` is the next one out until its end is known */
    for (uint32_t i = 1; i < g->ops.n; i++) {
        Instr *in = &m->code[i];
        if (in->code == K_loop) {
            in->var = in->op->out.i;
            in->count = attr_int(m->cx, in->op->attr, A_count, 0);
            if (in->var == 0 || in->var >= g->vals.n)
                return bad(m, in, "loop has no variable");
            in->mate = open;
            open = i;
        } else if (in->code == K_end) {
            if (!open)
                return bad(m, in, "end without a loop");
            uint32_t outer = m->code[open].mate;
            in->mate = open;
            m->code[open].mate = i;
            open = outer;
        }
    }
    return open ? bad(m, &m->code[open], "loop without an end") : ST_OK;
}

static Status
decode(Machine *m)
{
    const Graph *g = m->g;
    NEW(m->cx, &m->arena, m->code, g->ops.n);
    NEW(m->cx, &m->arena, m->store, g->vals.n);
    NEW(m->cx, &m->arena, m->var, g->vals.n);
    FOR_OPS(g, o) {
        Instr *in = &m->code[o.i];
        *in = (Instr){.op = graph_op(g, o), .id = o.i};
        if (in->op->code == K_none || in->op->code >= K_COUNT)
            return fail(m->cx, ST_LIMIT, in->op->loc, "NKI-5004 op %u is not of the tile dialect", o.i);
        in->code = in->op->code;
        in->fn = handlers[in->code];
        if (in->op->nout && (in->op->out.i == 0 || in->op->out.i >= g->vals.n))
            return fail(m->cx, ST_LIMIT, in->op->loc, "NKI-5005 op %u has no result", o.i);
        if (in->code == K_buffer)
            TRY(decode_buffer(m, in));
    }
    TRY(decode_loops(m));
    FOR_OPS(g, o) {
        Instr *in = &m->code[o.i];
        if (in->code == K_buffer)
            TRY(check_index(m, in));
        else if (in->fn)
            TRY(decode_instr(m, in));
    }
    for (uint32_t i = 1; i + 2 < g->ops.n; i++)
        if (m->code[i].code == K_loop && m->code[i].mate == i + 2)
            m->code[i].batch = is_batch(&m->code[i], &m->code[i + 1]);
    return ST_OK;
}

/* ---- how much there is to do ---- */

static int64_t
times_within(int64_t a, int64_t b, int64_t most) /* a * b, at most `most` */
{
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) || r > most ? most : r;
}

/* Entering a buffer clears its bits; the elements of an output are looked at in the end. */
static int64_t
buffer_work(const Store *s)
{
    return INSTR_WORK + (s->kind == BK_output ? s->row : s->parts * (s->row / 64));
}

static Work
count_work(const Machine *m, int64_t most)
{
    int64_t times[MAX_NEST + 1] = {1};
    int depth = 0;
    Work w = {0, 0};
    for (uint32_t i = 1; i < m->g->ops.n; i++) {
        const Instr *in = &m->code[i];
        int64_t work = INSTR_WORK;
        if (in->code == K_loop) {
            times[depth + 1] = times_within(times[depth], MAX(in->count, 0), most + 1);
            depth++;
        } else if (in->code == K_end) {
            int64_t trips = times_within(times[depth--], LOOP_WORK, most + 1);
            w.all = MIN(w.all + trips, most + 1);
            continue;
        }
        if (in->code == K_buffer)
            work = buffer_work(&m->store[in->var]);
        else if (in->fn)
            work = in->work;
        w.once += MIN(work, OP_WORK);
        work = times_within(times[depth], work, most + 1);
        w.all = MIN(w.all + work, most + 1);
    }
    return w;
}

Status
tile_work(const Graph *g, int64_t most, Work *out)
{
    Machine m = {.cx = g->cx, .g = g};
    arena_init(&m.arena, &g->cx->mem);
    Status st = graph_check(g);
    if (st == ST_OK)
        st = decode(&m);
    if (st == ST_OK)
        *out = count_work(&m, MIN(most, INT64_MAX / 4));
    arena_free(&m.arena);
    return st;
}

/* Buffers with memory of their own are released after the last op that touches them. */
static Status
plan_release(Machine *m)
{
    const Graph *g = m->g;
    Live *live;
    NEW(m->cx, &m->arena, m->free_at, g->ops.n);
    NEW(m->cx, &m->arena, m->free_next, g->vals.n);
    TRY(tile_liveness(g, &m->arena, &live));
    for (uint32_t v = 1; v < g->vals.n; v++) {
        const Store *s = &m->store[v];
        if (!s->bytes || s->addr >= 0 || s->kind == BK_output || s->kind == BK_input || s->kind == BK_constant)
            continue;
        uint32_t last = live[v].last.i;
        if (last == 0 || last >= g->ops.n)
            continue;
        m->free_next[v] = m->free_at[last];
        m->free_at[last] = v;
    }
    return ST_OK;
}

/* ---- run ---- */

static Status
poll(Machine *m, LocId loc)
{
    m->work = 0;
    if (m->opt && m->opt->poll && !m->opt->poll(m->opt->poll_env))
        return fail(m->cx, ST_USER, loc, "NKI-5006 interrupted");
    return ST_OK;
}

static Status
run_instr(Machine *m, const Instr *in)
{
    for (int i = 0; i < in->nopnd; i++)
        if (in->opnd[i].ap)
            TRY(operand_view(m, in, i));
    if (m->undefined_by)
        TRY(check_defined(m, in));
    TRY(in->fn(m, in));
    if (m->undefined_by)
        TRY(check_kept(m));
    for (int i = 0; i < in->nopnd && !in->marks_self; i++)
        if (in->opnd[i].ap && (in->opnd[i].role & R_write))
            mark_written(m, in, i);
    m->work += in->work;
    return m->work > POLL_EVERY ? poll(m, in->op->loc) : ST_OK;
}

static Status
run_batch(Machine *m, const Instr *loop)
{
    const Instr *mm = loop + 1;
    TRY(eval_batch(m, loop, mm));
    m->var[loop->var] = 0;
    m->work += mm->work * loop->count;
    return m->work > POLL_EVERY ? poll(m, mm->op->loc) : ST_OK;
}

static void
release_after(Machine *m, uint32_t op)
{
    for (uint32_t v = m->free_at[op]; v; v = m->free_next[v])
        buffer_release(m, v);
}

static Status
run(Machine *m)
{
    uint32_t n = m->g->ops.n;
    for (uint32_t pc = 1; pc < n; pc++) {
        const Instr *in = &m->code[pc];
        if (in->fn) {
            TRY(run_instr(m, in));
        } else if (in->code == K_buffer) {
            TRY(buffer_enter(m, in));
        } else if (in->code == K_loop) {
            bool batch = in->batch && !m->undefined_by;
            m->var[in->var] = 0;
            if (batch)
                TRY(run_batch(m, in));
            if (in->count <= 0 || batch)
                pc = in->mate;
        } else {
            const Instr *loop = &m->code[in->mate];
            if (++m->work > POLL_EVERY)
                TRY(poll(m, in->op->loc));
            if (++m->var[loop->var] < loop->count) {
                pc = in->mate;
                continue;
            }
            m->var[loop->var] = 0;
        }
        if (m->free_at[pc])
            release_after(m, pc);
    }
    return machine_check_outputs(m);
}

Status
tile_eval(const Graph *g, const void *const *in, void *const *out, const EvalOptions *opt)
{
    Machine m = {.cx = g->cx, .g = g, .opt = opt, .in = in, .out = out};
    arena_init(&m.arena, &g->cx->mem);
    uint8_t *stage = NULL;
    Status st = graph_check(g);
    if (st == ST_OK)
        st = decode(&m);
    if (st == ST_OK)
        st = plan_release(&m);
    if (st == ST_OK)
        st = machine_memory(&m);
    if (st == ST_OK)
        st = new_in(g->cx, &m.arena, (size_t)NSTAGE * CHUNK * 8, &stage);
    for (int i = 0; i < NSTAGE && stage; i++)
        m.stage[i] = stage + (size_t)i * CHUNK * 8;
    if (st == ST_OK)
        st = run(&m);
    machine_free(&m);
    return st;
}
