/* nki.c - the Python source of an NKI 0.6 kernel.
 *
 * in:   a verified tile program
 * out:  valid, deterministic Python: one statement per op, loops as loops, an operand as a slice of its buffer when its
 *       pattern is a box of the declared shape, else as `.ap(pattern, offset)`
 * rule: nothing is decided here; buffers are declared where the program declares them and the NKI compiler places them
 */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "emit/emit.h"

#define WIDTH 100
#define MAX_EMBED (1 << 20) /* bytes of a constant that still goes into the source */
#define MAX_ARGS 12
#define MAX_DEPTH 64

typedef struct Py {
    const Graph *g;
    Arena arena;
    Text *out;
    Text body, consts;
    const char **name;      /* by value */
    Map taken;
    VEC(const char *) names; /* by id in `taken`; [0] is none */
    VEC(OpId) hbm;           /* inputs, outputs and constants, in program order */
    int depth;              /* of Python indentation, in levels */
    int nest;               /* open loops */
    const char *loop_name[MAX_DEPTH];
    bool empty;             /* the innermost block has no statement yet */
    bool np, base64, ml, inf, nan;
} Py;

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
/* Keywords, built-in functions and what the source imports: no buffer may have these names. */
static const char *const python_words[] = {
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while",
    "with", "yield", "match", "case", "type", "_", "abs", "all", "any", "ascii", "bin", "bool",
    "breakpoint", "bytearray", "bytes", "callable", "chr", "classmethod", "compile", "complex",
    "delattr", "dict", "dir", "divmod", "enumerate", "eval", "exec", "filter", "float", "format",
    "frozenset", "getattr", "globals", "hasattr", "hash", "help", "hex", "id", "input", "int",
    "isinstance", "issubclass", "iter", "len", "list", "locals", "map", "max", "memoryview", "min",
    "next", "object", "oct", "open", "ord", "pow", "print", "property", "range", "repr", "reversed",
    "round", "set", "setattr", "slice", "sorted", "staticmethod", "str", "sum", "super", "tuple",
    "vars", "zip", "nki", "nl", "nisa", "np", "base64", "ml_dtypes", "INF", "NAN"};

/* ---- text ---- */

static const char *
format(Py *py, const char *fmt, ...)
{
    char buf[512], *p;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(buf)) {
        py->out->st = ST_BUG;
        return "";
    }
    p = arena_alloc(&py->arena, (size_t)n + 1);
    if (!p) {
        py->out->st = fail_nomem(py->g->cx, (size_t)n + 1);
        return "";
    }
    memcpy(p, buf, (size_t)n + 1);
    return p;
}

static void
indent(Py *py)
{
    for (int i = 0; i < py->depth; i++)
        text_puts(&py->body, "    ");
}

static void
line(Py *py, const char *s)
{
    indent(py);
    text_puts(&py->body, s);
    text_puts(&py->body, "\n");
    py->empty = false;
}

static void
add(Call *c, const char *key, const char *val)
{
    c->key[c->n] = key;
    c->val[c->n++] = val;
}

/* Text that may break after any comma, because a bracket is open; `col` is where it begins, `deeper` where lines go on.
 * Returns the column after it. */
static size_t
put_wrapped(Text *t, const char *s, size_t col, int deeper, size_t tail)
{
    for (const char *end; *s; s = end) {
        const char *comma = strstr(s, ", ");
        size_t len;
        end = comma ? comma + 2 : s + strlen(s);
        len = (size_t)(end - s);
        if (col + len + (comma ? 0 : tail + 1) > WIDTH + 1 && col > (size_t)deeper) {
            while (t->n && t->p[t->n - 1] == ' ')
                t->p[--t->n] = 0;
            text_put(t, "\n%*s", deeper, "");
            col = (size_t)deeper;
        }
        text_putn(t, s, len);
        col += len;
    }
    return col;
}

/* One line when it fits, else as many arguments per line as fit. */
static void
put_call(Py *py, const Call *c)
{
    size_t room = WIDTH - 4 * (size_t)py->depth, len = strlen(c->fn) + 7, used = 0;

    py->empty = false;
    for (int i = 0; i < c->n; i++)
        len += strlen(c->key[i]) + strlen(c->val[i]) + 3;
    indent(py);
    text_put(&py->body, "nisa.%s(", c->fn);
    for (int i = 0; i < c->n; i++) {
        size_t arg = strlen(c->key[i]) + strlen(c->val[i]) + 3;
        if (len - 2 > room && (i == 0 || used + arg > room - 4)) {
            text_puts(&py->body, "\n");
            indent(py);
            text_puts(&py->body, "    ");
            used = 0;
        } else if (i) {
            text_puts(&py->body, " ");
        }
        text_put(&py->body, "%s=", c->key[i]);
        if (arg > room - 4)
            put_wrapped(&py->body, c->val[i], (size_t)(4 * py->depth + 5) + strlen(c->key[i]),
                        4 * py->depth + 8, 1);
        else
            text_puts(&py->body, c->val[i]);
        if (i + 1 < c->n || len - 2 > room)
            text_puts(&py->body, ",");
        used += arg;
    }
    if (len - 2 > room) {
        text_puts(&py->body, "\n");
        indent(py);
    }
    text_puts(&py->body, ")\n");
}

static const char *
float_text(Py *py, double v)
{
    Text t;

    if (isnan(v)) {
        py->nan = true;
        return "NAN";
    }
    if (isinf(v)) {
        py->inf = true;
        return v > 0 ? "INF" : "-INF";
    }
    text_init(&t, py->g->cx, &py->arena);
    text_float(&t, v);
    if (t.st != ST_OK)
        py->out->st = t.st;
    return t.st == ST_OK ? t.p : "";
}

static bool
is_bitwise(int alu)
{
    return alu == ALU_bitwise_and || alu == ALU_bitwise_or || alu == ALU_bitwise_xor
           || alu == ALU_left_shift || alu == ALU_right_shift;
}

static const char *
scalar_text(Py *py, double v, bool integer)
{
    return integer ? format(py, "%lld", (long long)v) : float_text(py, v);
}

/* ---- names ---- */

static bool
same_text(const void *env, uint32_t id)
{
    const Py *py = ((const void *const *)env)[0];

    return strcmp(py->names.p[id], ((const void *const *)env)[1]) == 0;
}

static bool
is_taken(const Py *py, const char *s)
{
    const void *env[2] = {py, s};

    return map_find(&py->taken, hash_bytes(s, strlen(s), 0), same_text, env) != 0;
}

static Status
take_name(Py *py, const char *s)
{
    uint32_t id = py->names.n;

    VEC_PUSH(py->g->cx, &py->arena, &py->names, s);
    return map_insert(py->g->cx, &py->arena, &py->taken, hash_bytes(s, strlen(s), 0), id);
}

/* A free identifier as close to `want` as possible; `number` tells equal wishes apart. */
static Status
pick_name(Py *py, const char *want, uint32_t number, const char **out)
{
    char buf[200];
    size_t n = 0;

    if (isdigit((unsigned char)*want))
        buf[n++] = '_';
    for (; *want && n < 150; want++) {
        bool word = isascii((unsigned char)*want) && isalnum((unsigned char)*want);
        buf[n++] = word ? *want : '_';
    }
    buf[n] = 0;
    if (is_taken(py, buf))
        snprintf(buf + n, sizeof(buf) - n, "_%u", number);
    while (is_taken(py, buf))
        strncat(buf, "_", sizeof(buf) - strlen(buf) - 1);
    *out = format(py, "%s", buf);
    return take_name(py, *out);
}

static int
buffer_kind(const Graph *g, const Op *op)
{
    return (int)attr_int(g->cx, op->attr, A_kind, BK_tile);
}

/* What the user called a buffer, or a word for what it is. */
static const char *
wish(Py *py, const Op *op)
{
    const Graph *g = py->g;
    const AttrItem *name = attr_find(g->cx, op->attr, A_name);
    const char *s = str_get(g->cx, g->vals.p[op->out.i].name);
    long long index = attr_int(g->cx, op->attr, A_index, 0);

    if (name && *str_get(g->cx, name->s))
        return str_get(g->cx, name->s);
    if (*s)
        return s;
    switch (buffer_kind(g, op)) {
    case BK_input: return format(py, "in%lld", index);
    case BK_output: return format(py, "out%lld", index);
    case BK_constant: return format(py, "const%lld", index);
    case BK_scratch: return format(py, "scratch%u", op->out.i);
    default: return format(py, val_type(g, op->out)->space == SP_psum ? "p%u" : "t%u", op->out.i);
    }
}

/* Parameters first, so that they keep their names. */
static Status
name_buffers(Py *py)
{
    const Graph *g = py->g;

    for (int pass = 0; pass < 2; pass++) {
        FOR_OPS(g, o) {
            const Op *op = graph_op(g, o);
            bool first = op->code == K_buffer && buffer_kind(g, op) == BK_input;
            if (op->code != K_buffer || first != !pass)
                continue;
            TRY(pick_name(py, wish(py, op), op->out.i, &py->name[op->out.i]));
            if (val_type(g, op->out)->space == SP_hbm && buffer_kind(g, op) != BK_scratch)
                VEC_PUSH(g->cx, &py->arena, &py->hbm, o);
        }
    }
    return ST_OK;
}

/* ---- operands ---- */

static const char *
affine_text(Py *py, const Affine *a)
{
    Text t;
    int64_t c = a->c;

    text_init(&t, py->g->cx, &py->arena);
    for (uint32_t i = 0; i < a->nterms; i++) {
        int64_t k = a->term[i].coef;
        if (t.n)
            text_puts(&t, k < 0 ? " - " : " + ");
        else if (k < 0)
            text_puts(&t, "-");
        k = k < 0 ? -k : k;
        if (k != 1)
            text_put(&t, "%lld * ", (long long)k);
        text_puts(&t, py->name[a->term[i].var.i]);
    }
    if (!t.n)
        text_put(&t, "%lld", (long long)c);
    else if (c)
        text_put(&t, " %c %lld", c < 0 ? '-' : '+', (long long)(c < 0 ? -c : c));
    if (t.st != ST_OK)
        py->out->st = t.st;
    return t.st == ST_OK ? t.p : "";
}

typedef struct Axis { /* one declared dim of a box: start, start + step, ... */
    Affine start;
    int64_t count, step, extent;
} Axis;
typedef struct Box {
    Axis axis[MAX_RANK + 1];
    int n;
} Box;
typedef struct View { /* an operand as Python sees it */
    const char *text;
    int64_t dim[MAX_RANK + 1];
    int ndim;
} View;

static Axis
split_start(Affine *rest, int64_t stride)
{
    Axis x = {.start = affine_const(rest->c / stride), .count = 1, .step = 1};
    Affine left = affine_const(rest->c % stride);

    for (uint32_t i = 0; i < rest->nterms; i++) {
        Term t = rest->term[i];
        x.start = affine_add(x.start, affine_var(t.var, t.coef / stride));
        left = affine_add(left, affine_var(t.var, t.coef % stride));
    }
    *rest = left;
    return x;
}

/* Does the axis stay inside its extent for all values of the loop variables? */
static bool
axis_fits(const Py *py, const Axis *x)
{
    int64_t lo = x->start.c, hi = x->start.c + (x->count - 1) * x->step;

    for (uint32_t i = 0; i < x->start.nterms; i++) {
        Term t = x->start.term[i];
        int64_t n = attr_int(py->g->cx, val_def(py->g, t.var)->attr, A_count, 1);
        *(t.coef < 0 ? &lo : &hi) += t.coef * (n - 1);
    }
    return lo >= 0 && hi < x->extent;
}

/* The dims of a pattern matched to the declared dims, innermost first; false: not a box. */
static bool
match_dims(Ap ap, const int64_t *dim, int n, Axis *axis)
{
    int64_t stride = 1;
    int k = ap_merge(&ap) - 1;

    for (int i = n - 1; i >= 0; stride *= dim[i--]) {
        ApDim *d = &ap.dim[MAX(k, 0)];
        axis[i].extent = dim[i];
        axis[i].count = axis[i].step = 1;
        if (k < 0 || d->stride <= 0 || d->stride % stride || (i && d->stride >= stride * dim[i]))
            continue;
        axis[i].step = d->stride / stride;
        if ((d->count - 1) * axis[i].step < dim[i]) {
            axis[i].count = d->count;
            k--;
        } else if (axis[i].step == 1 && d->count % dim[i] == 0) {
            axis[i].count = dim[i];
            d->count /= dim[i];
            d->stride = stride * dim[i];
        } else {
            return false;
        }
    }
    return k < 0;
}

static bool
box_of(const Py *py, const Type *ty, const Ap *ap, Box *b)
{
    bool chip = ty->space != SP_hbm;
    const int64_t one = 1, *dim = ty->rank > chip ? ty->dim + chip : &one;
    int n = MAX(ty->rank - chip, 1);
    Affine rest = ap->off;
    int64_t stride = 1;

    b->n = n + chip;
    if (chip)
        b->axis[0] = (Axis){ap->part, ap->nparts, 1, ty->dim[0]};
    if (!match_dims(*ap, dim, n, b->axis + chip))
        return false;
    for (int i = 0; i < n; i++)
        stride *= dim[i];
    for (int i = 0; i < n; i++) {
        Axis *x = &b->axis[i + chip];
        stride /= MAX(dim[i], 1);
        x->start = split_start(&rest, MAX(stride, 1)).start;
        if (!axis_fits(py, x))
            return false;
    }
    return rest.c == 0 && rest.nterms == 0;
}

static bool
is_whole(const Box *b)
{
    for (int i = 0; i < b->n; i++) {
        const Axis *x = &b->axis[i];
        if (x->start.c || x->start.nterms || x->step != 1 || x->count != x->extent)
            return false;
    }
    return true;
}

static void
put_axis(Py *py, const Axis *x, bool index, Text *t)
{
    Affine stop = x->start;

    text_puts(t, affine_text(py, &x->start));
    if (index)
        return;
    stop.c += (x->count - 1) * x->step + 1;
    text_puts(t, ":");
    text_puts(t, affine_text(py, &stop));
    if (x->step != 1)
        text_put(t, ":%lld", (long long)x->step);
}

static View
box_view(Py *py, const char *name, const Type *ty, const Box *b)
{
    View v = {.text = name};
    int chip = ty->space != SP_hbm, kept = 0;
    Text t;

    if (is_whole(b)) {
        for (int i = 0; i < b->n; i++)
            v.dim[v.ndim++] = b->axis[i].count;
        return v;
    }
    text_init(&t, py->g->cx, &py->arena);
    text_put(&t, "%s[", name);
    for (int i = 0; i < b->n; i++) { /* an index drops its dim; the partition and one more stay */
        const Axis *x = &b->axis[i];
        bool index = i >= chip && x->count == 1 && (i + 1 < b->n || kept);
        if (i)
            text_puts(&t, ", ");
        put_axis(py, x, index, &t);
        kept += i >= chip && !index;
        if (!index)
            v.dim[v.ndim++] = x->count;
    }
    text_puts(&t, "]");
    if (t.st != ST_OK)
        py->out->st = t.st;
    v.text = t.st == ST_OK ? t.p : "";
    return v;
}

/* The general form: strides and counts over the storage. */
static View
ap_view(Py *py, const char *name, const Type *ty, const Ap *ap)
{
    View v = {0};
    Affine off = ap->off;
    bool chip = ty->space != SP_hbm;
    int64_t row = chip ? buffer_bytes(ty) / dtypes[ty->dtype].bytes : 0;
    Text t;

    text_init(&t, py->g->cx, &py->arena);
    text_put(&t, "%s.ap(pattern=[", name);
    if (chip) {
        text_put(&t, "[%lld, %d], ", (long long)row, ap->nparts);
        v.dim[v.ndim++] = ap->nparts;
        off = affine_add(off, affine_scale(ap->part, row));
    }
    for (uint32_t i = 0; i < ap->ndim; i++) {
        text_put(&t, "%s[%lld, %lld]", i ? ", " : "", (long long)ap->dim[i].stride,
                 (long long)ap->dim[i].count);
        v.dim[v.ndim++] = ap->dim[i].count;
    }
    if (!ap->ndim) {
        text_puts(&t, "[1, 1]");
        v.dim[v.ndim++] = 1;
    }
    text_puts(&t, "]");
    if (off.c || off.nterms)
        text_put(&t, ", offset=%s", affine_text(py, &off));
    text_puts(&t, ")");
    if (t.st != ST_OK)
        py->out->st = t.st;
    v.text = t.st == ST_OK ? t.p : "";
    return v;
}

static View
any_view(Py *py, const Op *op, int i)
{
    const Operand *in = op_in(py->g, op, i);
    const Type *ty = val_type(py->g, in->v);
    const Ap *ap = ap_get(py->g->cx, in->ap);
    Box b = {0};

    if (box_of(py, ty, ap, &b))
        return box_view(py, py->name[in->v.i], ty, &b);
    return ap_view(py, py->name[in->v.i], ty, ap);
}

/* A view with exactly the dims given. */
static View
exact_view(Py *py, const Op *op, int i, Ap ap)
{
    const Operand *in = op_in(py->g, op, i);
    const Type *ty = val_type(py->g, in->v);
    View v = any_view(py, op, i);
    int chip = ty->space != SP_hbm;
    bool same = v.ndim == MAX((int)ap.ndim, 1) + chip;

    for (int k = 0; same && k < (int)ap.ndim; k++)
        same = v.dim[k + chip] == ap.dim[k].count;
    return same ? v : ap_view(py, py->name[in->v.i], ty, &ap);
}

/* [P, F]: for the tensor engine. */
static const char *
flat_text(Py *py, const Op *op, int i)
{
    Ap ap = *ap_get(py->g->cx, op_in(py->g, op, i)->ap);
    int n = ap_merge(&ap);

    return n <= 1 ? exact_view(py, op, i, ap).text : any_view(py, op, i).text;
}

static bool
has(const Py *py, const Op *op, int i)
{
    return op_val(py->g, op, i).i != 0;
}

/* ---- instructions ---- */

static void
add_operand(Py *py, Call *c, const Op *op, int i)
{
    add(c, op_def(py->g, op)->operand[i].name, any_view(py, op, i).text);
}

static void
add_engine(Py *py, Call *c, const Op *op)
{
    add(c, "engine", format(py, "nisa.engine.%s", engine_nl[instr_engine(py->g, op)]));
}

static int
alu_of(const Py *py, const Op *op, Key key)
{
    return (int)attr_int(py->g->cx, op->attr, key, ALU_none);
}

static void
add_alu(Py *py, Call *c, const Op *op, Key key, const char *name)
{
    add(c, name, format(py, "nl.%s", alu_nl[alu_of(py, op, key)]));
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
        add(c, name, any_view(py, op, i).text);
    else
        add(c, name, scalar_text(py, attr_float(py->g->cx, op->attr, imm, 0), integer));
}

static void
emit_transpose_dma(Py *py, Call *c, const Op *op)
{
    Ap dst = *ap_get(py->g->cx, op_in(py->g, op, KI_dst)->ap);
    Ap src = *ap_get(py->g->cx, op_in(py->g, op, KI_src)->ap);
    bool chip = val_type(py->g, op_val(py->g, op, KI_src))->space != SP_hbm;

    add(c, "dst", exact_view(py, op, KI_dst, dst).text);
    add(c, "src", exact_view(py, op, KI_src, src).text);
    add(c, "axes", src.ndim + chip == 3 ? "(2, 1, 0)" : "(1, 0)");
}

static void
emit_matmul(Py *py, Call *c, const Op *op)
{
    add(c, "dst", flat_text(py, op, KI_dst));
    add(c, "stationary", flat_text(py, op, KM_stationary));
    add(c, "moving", flat_text(py, op, KM_moving));
    if (has(py, op, KM_first))
        add(c, "accumulate", format(py, "(%s > 0)", py->name[op_val(py->g, op, KM_first).i]));
    else
        add(c, "accumulate", attr_int(py->g->cx, op->attr, A_accumulate, 0) ? "True" : "False");
}

static void
emit_transpose(Py *py, Call *c, const Op *op)
{
    add(c, "dst", flat_text(py, op, 0));
    add(c, "data", flat_text(py, op, 1));
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

/* The reduced axes must be whole dims of the view: when the slice has others, the pattern itself is used. */
static void
emit_reduce(Py *py, Call *c, const Op *op)
{
    const Operand *in = op_in(py->g, op, 1);
    const Ap *ap = ap_get(py->g->cx, in->ap);
    int naxes = (int)attr_int(py->g->cx, op->attr, A_naxes, 1), first;
    View v = any_view(py, op, 1);
    int64_t want = 1, got = 1;
    Text t;

    for (int i = 0; i < naxes && i < (int)ap->ndim; i++)
        want *= ap->dim[ap->ndim - 1 - (uint32_t)i].count;
    for (first = v.ndim; first > 1 && got < want; first--)
        got *= v.dim[first - 1];
    if (got != want || first == v.ndim) {
        v = ap_view(py, py->name[in->v.i], val_type(py->g, in->v), ap);
        first = v.ndim - MIN(naxes, v.ndim - 1);
    }
    text_init(&t, py->g->cx, &py->arena);
    text_puts(&t, "(");
    for (int i = first; i < v.ndim; i++)
        text_put(&t, i == first ? "%d" : ", %d", i);
    text_puts(&t, v.ndim - first == 1 ? ",)" : ")");
    if (t.st != ST_OK)
        py->out->st = t.st;
    add_operand(py, c, op, 0);
    add_alu(py, c, op, A_op, "op");
    add(c, "data", v.text);
    add(c, "axis", t.st == ST_OK ? t.p : "");
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
    add(c, "op", format(py, "nl.%s", act_nl[attr_int(g->cx, op->attr, A_func, ACT_copy)]));
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
        return format(py, "[%lld] * %d", (long long)v[0], n);
    text_init(&t, py->g->cx, &py->arena);
    text_puts(&t, "[");
    for (int i = 0; i < n; i++)
        text_put(&t, pairs && i % 2 == 0 ? "%s[%lld" : pairs ? "%s%lld]" : "%s%lld", i ? ", " : "",
                 (long long)v[i]);
    text_puts(&t, "]");
    if (t.st != ST_OK)
        py->out->st = t.st;
    return t.st == ST_OK ? t.p : "";
}

static void
add_affine(Py *py, Call *c, const Op *op, Key key, const char *name)
{
    add(c, name, format(py, "%lld", (long long)attr_int(py->g->cx, op->attr, key, 0)));
}

static void
emit_affine_select(Py *py, Call *c, const Op *op)
{
    add_operand(py, c, op, 0);
    add(c, "pattern", ints_text(py, op, A_pattern, true));
    add_affine(py, c, op, A_channel_multiplier, "channel_multiplier");
    add(c, "on_true_tile", any_view(py, op, 1).text);
    add(c, "on_false_value", float_text(py, attr_float(py->g->cx, op->attr, A_imm0, 0)));
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

static void
emit_instr(Py *py, const Op *op)
{
    Call c = {.fn = op_def(py->g, op)->isa};
    EmitFn *fn = emitters[op->code] ? emitters[op->code] : emit_plain;

    fn(py, &c, op);
    put_call(py, &c);
}

/* ---- buffers ---- */

static const char *
shape_text(Py *py, const Type *ty)
{
    Text t;
    int least = ty->space == SP_hbm ? 1 : 2;

    text_init(&t, py->g->cx, &py->arena);
    text_puts(&t, "(");
    for (int i = 0; i < MAX(ty->rank, least); i++)
        text_put(&t, "%s%lld", i ? ", " : "", i < ty->rank ? (long long)ty->dim[i] : 1LL);
    text_puts(&t, MAX(ty->rank, least) == 1 ? ",)" : ")");
    if (t.st != ST_OK)
        py->out->st = t.st;
    return t.st == ST_OK ? t.p : "";
}

static const char *
numpy_dtype(Py *py, DType dt)
{
    const char *s = dt == DT_bool ? "uint8" : dtypes[dt].np;
    bool ml = dt == DT_bf16 || strncmp(s, "float8", 6) == 0;

    py->ml |= ml;
    return format(py, "%s.%s", ml ? "ml_dtypes" : "np", s);
}

static bool
is_parameter(const Graph *g, const Op *op)
{
    if (op->code != K_buffer)
        return false;
    if (buffer_kind(g, op) == BK_constant)
        return buffer_bytes(val_type(g, op->out)) > MAX_EMBED;
    return buffer_kind(g, op) == BK_input;
}

static bool
is_uniform(const Data *d, size_t elem)
{
    return d->bytes >= elem && memcmp(d->p, (const char *)d->p + elem, d->bytes - elem) == 0;
}

static bool
is_identity(const Data *d, const Type *ty)
{
    size_t elem = dtypes[d->dtype].bytes;
    int64_t n = ty->rank == 2 ? ty->dim[0] : 0;

    if (n < 2 || ty->dim[1] != n || d->bytes != (size_t)(n * n) * elem)
        return false;
    for (int64_t i = 0; i < n * n; i++)
        if (dtype_load((DType)d->dtype, (const char *)d->p + (size_t)i * elem) != (i % (n + 1) == 0))
            return false;
    return true;
}

static void
put_base64(Py *py, const Data *d)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = d->p;
    char row[97];
    int k = 0;

    for (size_t i = 0; i < d->bytes; i += 3) {
        size_t n = MIN(d->bytes - i, 3);
        uint32_t v = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
        for (int q = 0; q < 4; q++)
            row[k++] = (size_t)q <= n ? digit[v >> (18 - 6 * q) & 63] : '=';
        if (k == 84 || i + 3 >= d->bytes) {
            row[k] = 0;
            text_put(&py->consts, "    \"%s\"\n", row);
            k = 0;
        }
    }
}

/* A module-level NumPy array. Uniform arrays and identities are said so; others are their bytes. */
static Status
put_constant(Py *py, const Op *op, const char *name)
{
    const Type *ty = val_type(py->g, op->out);
    const AttrItem *item = attr_find(py->g->cx, op->attr, A_data);
    const Data *d = item ? item->data : NULL;
    const char *shape = shape_text(py, ty);
    const char *dtype = numpy_dtype(py, (DType)ty->dtype);

    py->np = true;
    if (!d || d->dtype != ty->dtype || (int64_t)d->bytes != buffer_bytes(ty))
        return fail(py->g->cx, ST_BUG, op->loc, "constant buffer and its data disagree");
    if (is_uniform(d, dtypes[d->dtype].bytes)) {
        const char *v = float_text(py, dtype_load((DType)d->dtype, d->p));
        text_put(&py->consts, "%s = np.full(%s, %s, dtype=%s)\n", name, shape, v, dtype);
    } else if (is_identity(d, ty)) {
        text_put(&py->consts, "%s = np.eye(%lld, dtype=%s)\n", name, (long long)ty->dim[0], dtype);
    } else {
        py->base64 = true;
        text_put(&py->consts, "%s = np.frombuffer(base64.b64decode(\n", name);
        put_base64(py, d);
        text_put(&py->consts, "), dtype=%s).reshape(%s)\n", dtype, shape);
    }
    return ST_OK;
}

static const char *
hbm_space(const Graph *g, const Op *op)
{
    return buffer_kind(g, op) == BK_output ? "shared_hbm" : "private_hbm";
}

static Status
emit_buffer(Py *py, const Op *op)
{
    const Graph *g = py->g;
    const Type *ty = val_type(g, op->out);
    const char *name = py->name[op->out.i], *space;

    if (!dtypes[ty->dtype].nki)
        return fail(g->cx, ST_UNSUPPORTED, op->loc, "nki.language has no dtype %s", dtypes[ty->dtype].name);
    if (is_parameter(g, op))
        return ST_OK;
    if (buffer_kind(g, op) == BK_constant) {
        const char *global;
        TRY(pick_name(py, format(py, "DATA_%s", name), op->out.i, &global));
        TRY(put_constant(py, op, global));
        line(py, format(py, "%s = nl.shared_constant(%s)", name, global));
        return ST_OK;
    }
    space = ty->space == SP_hbm ? hbm_space(g, op) : space_names[ty->space];
    line(py, format(py, "%s = nl.ndarray(%s, dtype=nl.%s, buffer=nl.%s)", name, shape_text(py, ty),
                    dtypes[ty->dtype].nki, space));
    return ST_OK;
}

/* ---- the kernel ---- */

/* Loops at one depth share a variable name; the first six are i to n. */
static Status
open_loop(Py *py, const Op *op)
{
    int d = py->nest++;

    if (d >= MAX_DEPTH)
        return fail(py->g->cx, ST_LIMIT, op->loc, "loops are nested more than %d deep", MAX_DEPTH);
    if (!py->loop_name[d]) {
        const char letter[2] = {"ijklmn"[d % 6], 0};
        TRY(pick_name(py, letter, (uint32_t)d, &py->loop_name[d]));
    }
    py->name[op->out.i] = py->loop_name[d];
    line(py, format(py, "for %s in range(%lld):", py->loop_name[d],
                    (long long)attr_int(py->g->cx, op->attr, A_count, 0)));
    py->depth++;
    py->empty = true;
    return ST_OK;
}

static void
close_loop(Py *py)
{
    if (py->empty)
        line(py, "pass");
    py->depth--;
    py->nest--;
}

static Status
emit_body(Py *py)
{
    FOR_OPS(py->g, o) {
        const Op *op = graph_op(py->g, o);
        if (op->code == K_buffer)
            TRY(emit_buffer(py, op));
        else if (op->code == K_loop)
            TRY(open_loop(py, op));
        else if (op->code == K_end)
            close_loop(py);
        else
            emit_instr(py, op);
        TRY(py->out->st);
    }
    return ST_OK;
}

/* The buffer of a kind with an index; kernel text lists them in that order. */
static const Op *
nth_buffer(const Py *py, int kind, int64_t index)
{
    for (uint32_t i = 0; i < py->hbm.n; i++) {
        const Op *op = graph_op(py->g, py->hbm.p[i]);
        if (buffer_kind(py->g, op) == kind && attr_int(py->g->cx, op->attr, A_index, 0) == index)
            return op;
    }
    return NULL;
}

static int64_t
count_buffers(const Py *py, int kind)
{
    int64_t n = 0;

    for (uint32_t i = 0; i < py->hbm.n; i++) {
        const Op *op = graph_op(py->g, py->hbm.p[i]);
        if (buffer_kind(py->g, op) == kind)
            n = MAX(n, attr_int(py->g->cx, op->attr, A_index, 0) + 1);
    }
    return n;
}

static const char *
list_params(Py *py, bool describe)
{
    static const int kinds[] = {BK_input, BK_constant};
    const Graph *g = py->g;
    Text t;

    text_init(&t, g->cx, &py->arena);
    text_puts(&t, "");
    for (int k = 0; k < COUNT_OF(kinds); k++) {
        for (int64_t i = 0, n = count_buffers(py, kinds[k]); i < n; i++) {
            const Op *op = nth_buffer(py, kinds[k], i);
            if (!op || !is_parameter(g, op))
                continue;
            if (describe)
                text_put(&t, "    %s: %s %s%s\n", py->name[op->out.i],
                         shape_text(py, val_type(g, op->out)), dtypes[val_dtype(g, op->out)].nki,
                         k ? ", a constant too large for this file" : "");
            else
                text_put(&t, "%s%s", t.n ? ", " : "", py->name[op->out.i]);
        }
    }
    if (t.st != ST_OK)
        py->out->st = t.st;
    return t.st == ST_OK && t.p ? t.p : "";
}

static const char *
list_outputs(Py *py, bool describe)
{
    const Graph *g = py->g;
    int64_t n = count_buffers(py, BK_output);
    Text t;

    text_init(&t, g->cx, &py->arena);
    for (int64_t i = 0; i < n; i++) {
        const Op *op = nth_buffer(py, BK_output, i);
        if (op && describe)
            text_put(&t, "    returns %s: %s %s\n", py->name[op->out.i],
                     shape_text(py, val_type(g, op->out)), dtypes[val_dtype(g, op->out)].nki);
        else if (op)
            text_put(&t, "%s%s", t.n ? ", " : "", py->name[op->out.i]);
    }
    if (t.st != ST_OK)
        py->out->st = t.st;
    return t.st == ST_OK && t.p ? t.p : "";
}

static void
put_imports(Py *py)
{
    Text *t = py->out;

    if (py->base64)
        text_puts(t, "import base64\n\n");
    if (py->ml)
        text_puts(t, "import ml_dtypes\n");
    text_puts(t, "import nki\nimport nki.isa as nisa\nimport nki.language as nl\n");
    if (py->np)
        text_puts(t, "import numpy as np\n");
    if (py->inf || py->nan || py->consts.n)
        text_puts(t, "\n");
    if (py->inf)
        text_puts(t, "INF = float(\"inf\")\n");
    if (py->nan)
        text_puts(t, "NAN = float(\"nan\")\n");
    if (py->consts.n)
        text_puts(t, py->consts.p);
}

static void
put_return(Py *py)
{
    const char *names = list_outputs(py, false);
    bool wrap = strlen(names) + 11 > WIDTH;

    text_puts(py->out, wrap ? "    return (\n        " : "    return ");
    put_wrapped(py->out, names, 8, 8, 0);
    text_puts(py->out, wrap ? "\n    )\n" : "\n");
}

static Status
emit_kernel(Py *py)
{
    const Graph *g = py->g;
    const char *name = str_get(g->cx, g->name), *fn;

    NEW(g->cx, &py->arena, py->name, g->vals.n + 1);
    VEC_PUSH(g->cx, &py->arena, &py->names, "");
    for (int i = 0; i < COUNT_OF(python_words); i++)
        TRY(take_name(py, python_words[i]));
    TRY(name_buffers(py));
    TRY(pick_name(py, *name ? name : "kernel", 0, &fn));
    text_init(&py->body, g->cx, &py->arena);
    text_init(&py->consts, g->cx, &py->arena);
    py->depth = 1;
    TRY(emit_body(py));
    put_imports(py);
    text_put(py->out, "\n\n@nki.jit\ndef %s(", fn);
    put_wrapped(py->out, list_params(py, false), 5 + strlen(fn), 8, 2);
    text_put(py->out, "):\n    \"\"\"%s for %s, written by nkigen.\n\n", fn, target_names[g->target]);
    text_puts(py->out, list_params(py, true));
    text_puts(py->out, list_outputs(py, true));
    text_puts(py->out, "    \"\"\"\n");
    if (py->body.n)
        text_puts(py->out, py->body.p);
    TRY(py->body.st);
    TRY(py->consts.st);
    put_return(py);
    return py->out->st;
}

Status
emit_nki(const Graph *g, Text *t)
{
    Py py = {.g = g, .out = t};
    Status st;

    arena_init(&py.arena, &g->cx->mem);
    st = emit_kernel(&py);
    arena_free(&py.arena);
    return st;
}
