/* nki_instr.c - one `nisa` call per instruction: keywords as nki.isa names them, defaults left out. */
#include <string.h>

#include "emit/nki.h"

#define MAX_ARGS 12

typedef struct Call {
    const char *fn;
    int n;
    const char *key[MAX_ARGS], *val[MAX_ARGS];
} Call;

static const char *const alu_nl[ALU_COUNT] = {
#define ALU(id, name, ...) name,
#include "ir/enums.def"
};
static const char *const act_nl[ACT_COUNT] = {
#define ACT(id, name) name,
#include "ir/enums.def"
};
static const char *const engine_nl[EN_COUNT] = {
#define ENGINE(id, name) name,
#include "ir/enums.def"
};

/* ---- calls ---- */

static void
add(Call *c, const char *key, const char *val)
{
    c->key[c->n] = key;
    c->val[c->n++] = val;
}

/* One line when it fits, else as many arguments per line as fit. */
static void
put_call(Py *py, const Call *c)
{
    size_t room = (size_t)MAX(NKI_WIDTH - 4 * py->depth, 20), len = strlen(c->fn) + 7, used = 0;

    py->empty = false;
    for (int i = 0; i < c->n; i++)
        len += strlen(c->key[i]) + strlen(c->val[i]) + 3;
    nki_indent(py);
    text_put(&py->body, "nisa.%s(", c->fn);
    for (int i = 0; i < c->n; i++) {
        size_t arg = strlen(c->key[i]) + strlen(c->val[i]) + 3;
        if (len - 2 > room && (i == 0 || used + arg > room - 4)) {
            text_puts(&py->body, "\n");
            nki_indent(py);
            text_puts(&py->body, "    ");
            used = 0;
        } else if (i) {
            text_puts(&py->body, " ");
        }
        text_put(&py->body, "%s=", c->key[i]);
        if (arg > room - 4)
            nki_wrapped(&py->body, c->val[i], (size_t)(4 * py->depth + 5) + strlen(c->key[i]), 4 * py->depth + 8, 1);
        else
            text_puts(&py->body, c->val[i]);
        if (i + 1 < c->n || len - 2 > room)
            text_puts(&py->body, ",");
        used += arg;
    }
    if (len - 2 > room) {
        text_puts(&py->body, "\n");
        nki_indent(py);
    }
    text_puts(&py->body, ")\n");
}

static bool
is_bitwise(int alu)
{
    return alu == ALU_bitwise_and || alu == ALU_bitwise_or || alu == ALU_bitwise_xor || alu == ALU_left_shift ||
           alu == ALU_right_shift;
}

static const char *
scalar_text(Py *py, double v, bool integer)
{
    return integer ? nki_format(py, "%lld", (long long)v) : nki_float(py, v);
}

static bool
has(const Py *py, const Op *op, int i)
{
    return op_val(py->g, op, i).i != 0;
}

static void
add_operand(Py *py, Call *c, const Op *op, int i)
{
    add(c, op_def(py->g, op)->operand[i].name, nki_any_view(py, op, i).text);
}

static void
add_engine(Py *py, Call *c, const Op *op)
{
    add(c, "engine", nki_format(py, "nisa.engine.%s", engine_nl[instr_engine(py->g, op)]));
}

static int
alu_of(const Py *py, const Op *op, Key key)
{
    return (int)attr_int(py->g->cx, op->attr, key, ALU_none);
}

static void
add_alu(Py *py, Call *c, const Op *op, Key key, const char *name)
{
    add(c, name, nki_format(py, "nl.%s", alu_nl[alu_of(py, op, key)]));
}

static void
add_flag(Py *py, Call *c, const Op *op, Key key, const char *name)
{
    if (attr_int(py->g->cx, op->attr, key, 0))
        add(c, name, "True");
}

/* A [P, 1] tile when operand i is there, else the scalar attribute. */
static void
add_scalar(Py *py, Call *c, const Op *op, int i, Key imm, bool integer)
{
    const char *name = op_def(py->g, op)->operand[i].name;

    if (has(py, op, i))
        add(c, name, nki_any_view(py, op, i).text);
    else
        add(c, name, scalar_text(py, attr_float(py->g->cx, op->attr, imm, 0), integer));
}

static void
emit_transpose_dma(Py *py, Call *c, const Op *op)
{
    Ap dst = *ap_get(py->g->cx, op_in(py->g, op, KI_dst)->ap);
    Ap src = *ap_get(py->g->cx, op_in(py->g, op, KI_src)->ap);
    bool chip = val_type(py->g, op_val(py->g, op, KI_src))->space != SP_hbm;

    add(c, "dst", nki_exact_view(py, op, KI_dst, dst).text);
    add(c, "src", nki_exact_view(py, op, KI_src, src).text);
    add(c, "axes", src.ndim + chip == 3 ? "(2, 1, 0)" : "(1, 0)");
}

static void
emit_copy_dma(Py *py, Call *c, const Op *op)
{
    View dst, src;

    nki_pair(py, op, &dst, &src);
    add(c, "dst", dst.text);
    add(c, "src", src.text);
}

static void
emit_matmul(Py *py, Call *c, const Op *op)
{
    add(c, "dst", nki_flat_text(py, op, KI_dst));
    add(c, "stationary", nki_flat_text(py, op, KM_stationary));
    add(c, "moving", nki_flat_text(py, op, KM_moving));
    if (has(py, op, KM_first))
        add(c, "accumulate", nki_format(py, "(%s > 0)", py->name[op_val(py->g, op, KM_first).i]));
    else
        add(c, "accumulate", attr_int(py->g->cx, op->attr, A_accumulate, 0) ? "True" : "False");
}

static void
emit_transpose(Py *py, Call *c, const Op *op)
{
    add(c, "dst", nki_flat_text(py, op, 0));
    add(c, "data", nki_flat_text(py, op, 1));
    add_engine(py, c, op);
}

static void
emit_tensor_scalar(Py *py, Call *c, const Op *op)
{
    int op0 = alu_of(py, op, A_op0), op1 = alu_of(py, op, A_op1);

    add_operand(py, c, op, 0);
    add_operand(py, c, op, 1);
    add_alu(py, c, op, A_op0, "op0");
    add_scalar(py, c, op, 2, A_imm0, is_bitwise(op0));
    add_flag(py, c, op, A_reverse0, "reverse0");
    if (op1 != ALU_none) {
        add_alu(py, c, op, A_op1, "op1");
        add_scalar(py, c, op, 3, A_imm1, is_bitwise(op1));
        add_flag(py, c, op, A_reverse1, "reverse1");
    }
    add_engine(py, c, op);
}

static void
emit_scalar_tensor_tensor(Py *py, Call *c, const Op *op)
{
    add_operand(py, c, op, 0);
    add_operand(py, c, op, 1);
    add_alu(py, c, op, A_op0, "op0");
    add_scalar(py, c, op, 2, A_imm0, false);
    add_alu(py, c, op, A_op1, "op1");
    add_operand(py, c, op, 3);
    add_flag(py, c, op, A_reverse0, "reverse0");
    add_flag(py, c, op, A_reverse1, "reverse1");
}

static void
emit_select(Py *py, Call *c, const Op *op)
{
    for (int i = 0; i < 3; i++)
        add_operand(py, c, op, i);
    add_scalar(py, c, op, 3, A_imm0, false);
    add_flag(py, c, op, A_reverse_pred, "reverse_pred");
}

/* (first, ..., n - 1) */
static const char *
axes_text(Py *py, int first, int n)
{
    Text t;

    text_init(&t, py->g->cx, &py->arena);
    text_puts(&t, "(");
    for (int i = first; i < n; i++)
        text_put(&t, i == first ? "%d" : ", %d", i);
    text_puts(&t, n - first == 1 ? ",)" : ")");
    return nki_written(py, &t);
}

/* The reduced axes must be whole dims of the view: when the slice has others, the pattern itself is used. */
static void
emit_reduce(Py *py, Call *c, const Op *op)
{
    const Operand *in = op_in(py->g, op, 1);
    const Ap *ap = ap_get(py->g->cx, in->ap);
    int naxes = (int)attr_int(py->g->cx, op->attr, A_naxes, 1), first;
    View v = nki_any_view(py, op, 1);
    int64_t want = 1, got = 1;

    for (int i = 0; i < naxes && i < (int)ap->ndim; i++)
        want *= ap->dim[ap->ndim - 1 - (uint32_t)i].count;
    for (first = v.shape.n; first > 1 && got < want; first--)
        got *= v.shape.dim[first - 1];
    if (got != want || first == v.shape.n) {
        v = nki_exact_view(py, op, 1, *ap);
        first = v.shape.n - MIN(naxes, v.shape.n - 1);
    }
    add_operand(py, c, op, 0);
    add_alu(py, c, op, A_op, "op");
    add(c, "data", v.text);
    add(c, "axis", axes_text(py, first, v.shape.n));
    add_flag(py, c, op, A_negate, "negate");
}

static void
emit_scalar_reduce(Py *py, Call *c, const Op *op)
{
    add_operand(py, c, op, 0);
    add_operand(py, c, op, 2);
    add_alu(py, c, op, A_op0, "op0");
    add_scalar(py, c, op, 3, A_imm0, false);
    add_alu(py, c, op, A_op1, "reduce_op");
    add_operand(py, c, op, 1);
}

static void
emit_activation(Py *py, Call *c, const Op *op)
{
    const Graph *g = py->g;
    double scale = attr_float(g->cx, op->attr, A_scale, 1);

    add_operand(py, c, op, 0);
    add(c, "op", nki_format(py, "nl.%s", act_nl[attr_int(g->cx, op->attr, A_func, ACT_copy)]));
    add_operand(py, c, op, KA_data);
    if (has(py, op, KA_bias) || attr_find(g->cx, op->attr, A_bias))
        add_scalar(py, c, op, KA_bias, A_bias, false);
    if (has(py, op, KA_scale) || scale != 1)
        add_scalar(py, c, op, KA_scale, A_scale, false);
    if (!has(py, op, KA_reduce_res))
        return;
    add(c, "reduce_op", "nl.add");
    add_operand(py, c, op, KA_reduce_res);
    add(c, "reduce_cmd", "nisa.reduce_cmd.reset_reduce");
}

static const char *
ints_text(Py *py, const Op *op, Key key, bool pairs)
{
    const int64_t *v;
    int n = attr_ints(py->g->cx, op->attr, key, &v), same = n > 0;
    Text t;

    while (same < n && v[same] == v[0])
        same++;
    if (!pairs && n > 1 && same == n)
        return nki_format(py, "[%lld] * %d", (long long)v[0], n);
    text_init(&t, py->g->cx, &py->arena);
    text_puts(&t, "[");
    for (int i = 0; i < n; i++)
        text_put(&t, pairs && i % 2 == 0 ? "%s[%lld" : pairs ? "%s%lld]" : "%s%lld", i ? ", " : "", (long long)v[i]);
    text_puts(&t, "]");
    return nki_written(py, &t);
}

static void
add_affine(Py *py, Call *c, const Op *op, Key key, const char *name)
{
    add(c, name, nki_format(py, "%lld", (long long)attr_int(py->g->cx, op->attr, key, 0)));
}

static void
emit_affine_select(Py *py, Call *c, const Op *op)
{
    add_operand(py, c, op, 0);
    add(c, "pattern", ints_text(py, op, A_pattern, true));
    add_affine(py, c, op, A_channel_multiplier, "channel_multiplier");
    add(c, "on_true_tile", nki_any_view(py, op, 1).text);
    add(c, "on_false_value", nki_float(py, attr_float(py->g->cx, op->attr, A_imm0, 0)));
    add_alu(py, c, op, A_op, "cmp_op");
    add_affine(py, c, op, A_offset, "offset");
}

static void
emit_memset(Py *py, Call *c, const Op *op)
{
    DType dt = val_dtype(py->g, op_val(py->g, op, 0));

    add_operand(py, c, op, 0);
    add(c, "value", scalar_text(py, attr_float(py->g->cx, op->attr, A_imm0, 0), !is_float(dt)));
    add_engine(py, c, op);
}

/* Operands in the row's order, then what the row's attributes say. */
static void
emit_plain(Py *py, Call *c, const Op *op)
{
    for (int i = 0; i < op->nin; i++)
        if (has(py, op, i))
            add_operand(py, c, op, i);
    if (alu_of(py, op, A_op) != ALU_none)
        add_alu(py, c, op, A_op, "op");
    add_flag(py, c, op, A_reverse_pred, "reverse_pred");
    if (attr_find(py->g->cx, op->attr, A_mask))
        add(c, "shuffle_mask", ints_text(py, op, A_mask, false));
    if (op->code == K_iota) {
        add(c, "pattern", ints_text(py, op, A_pattern, true));
        add_affine(py, c, op, A_offset, "offset");
        add_affine(py, c, op, A_channel_multiplier, "channel_multiplier");
    }
    if (op->code == K_tensor_copy || op->code == K_tensor_tensor)
        add_engine(py, c, op);
}

typedef void EmitFn(Py *py, Call *c, const Op *op);
static EmitFn *const emitters[K_COUNT] = {
    [K_dma_copy] = emit_copy_dma,
    [K_dma_transpose] = emit_transpose_dma,
    [K_memset] = emit_memset,
    [K_nc_matmul] = emit_matmul,
    [K_nc_transpose] = emit_transpose,
    [K_tensor_scalar] = emit_tensor_scalar,
    [K_scalar_tensor_tensor] = emit_scalar_tensor_tensor,
    [K_select_reduce] = emit_select,
    [K_tensor_reduce] = emit_reduce,
    [K_tensor_scalar_reduce] = emit_scalar_reduce,
    [K_activation] = emit_activation,
    [K_affine_select] = emit_affine_select,
};

void
nki_instr(Py *py, const Op *op)
{
    Call c = {.fn = op_def(py->g, op)->isa};
    EmitFn *fn = emitters[op->code] ? emitters[op->code] : emit_plain;

    fn(py, &c, op);
    put_call(py, &c);
}
