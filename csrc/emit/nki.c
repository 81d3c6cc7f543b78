/* nki.c - the Python source of an NKI 0.6 kernel.
 *
 * in:   a verified tile program
 * out:  valid, deterministic Python: one statement per op, loops as loops, an operand as a slice of its buffer when its
 *       pattern is a box of the declared shape, else as `.ap(pattern, offset)`
 * rule: nothing is decided here; buffers are declared where the program declares them and the NKI compiler places them
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emit/nki.h"

#define MAX_EMBED (1 << 20) /* bytes of a constant that still goes into the source */

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
    "vars", "zip", "aiter", "anext", "__debug__", "__import__", "__build_class__",
    "nki", "nl", "nisa", "np", "base64", "ml_dtypes", "INF", "NAN"};

static void
line(Py *py, const char *s)
{
    nki_indent(py);
    text_puts(&py->body, s);
    text_puts(&py->body, "\n");
    py->empty = false;
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
        n += (size_t)snprintf(buf + n, sizeof(buf) - n, "_%u", number);
    for (uint32_t k = 2; is_taken(py, buf); k++)
        snprintf(buf + n, sizeof(buf) - n, "_%u", k);
    *out = nki_format(py, "%s", buf);
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
    case BK_input: return nki_format(py, "in%lld", index);
    case BK_output: return nki_format(py, "out%lld", index);
    case BK_constant: return nki_format(py, "const%lld", index);
    case BK_scratch: return nki_format(py, "scratch%u", op->out.i);
    default: return nki_format(py, val_type(g, op->out)->space == SP_psum ? "p%u" : "t%u", op->out.i);
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
    return nki_written(py, &t);
}

static const char *
numpy_dtype(Py *py, DType dt)
{
    const char *s = dt == DT_bool ? "uint8" : dtypes[dt].np;
    bool ml = dt == DT_bf16 || strncmp(s, "float8", 6) == 0;

    py->ml |= ml;
    return nki_format(py, "%s.%s", ml ? "ml_dtypes" : "np", s);
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
        const char *v = nki_float(py, dtype_load((DType)d->dtype, d->p));
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
        TRY(pick_name(py, nki_format(py, "DATA_%s", name), op->out.i, &global));
        TRY(put_constant(py, op, global));
        line(py, nki_format(py, "%s = nl.shared_constant(%s)", name, global));
        return ST_OK;
    }
    space = ty->space == SP_hbm ? hbm_space(g, op) : space_names[ty->space];
    line(py, nki_format(py, "%s = nl.ndarray(%s, dtype=nl.%s, buffer=nl.%s)", name, shape_text(py, ty),
                        dtypes[ty->dtype].nki, space));
    return ST_OK;
}

/* ---- the kernel ---- */

/* Loops at one depth share a variable name; the first six are i to n. */
static Status
open_loop(Py *py, const Op *op)
{
    int d = py->nest++;

    if (!py->loop_name[d]) {
        const char letter[2] = {"ijklmn"[d % 6], 0};
        TRY(pick_name(py, letter, (uint32_t)d, &py->loop_name[d]));
    }
    py->name[op->out.i] = py->loop_name[d];
    line(py, nki_format(py, "for %s in range(%lld):", py->loop_name[d],
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
            nki_instr(py, op);
        TRY(py->out->st);
    }
    return ST_OK;
}

typedef struct Listed { int64_t index; OpId op; } Listed;

static int
by_index(const void *a, const void *b)
{
    const Listed *x = a, *y = b;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return x->op.i < y->op.i ? -1 : x->op.i > y->op.i;
}

/* The buffers of a kind by index, those of one index in program order; inputs and constants: only the parameters. */
static Status
list_kind(Py *py, int kind, Listed **out, uint32_t *n)
{
    const Graph *g = py->g;

    *n = 0;
    NEW(g->cx, &py->arena, *out, py->hbm.n + 1);
    for (uint32_t i = 0; i < py->hbm.n; i++) {
        const Op *op = graph_op(g, py->hbm.p[i]);
        if (buffer_kind(g, op) == kind && (kind == BK_output || is_parameter(g, op)))
            (*out)[(*n)++] = (Listed){attr_int(g->cx, op->attr, A_index, 0), py->hbm.p[i]};
    }
    qsort(*out, *n, sizeof(**out), by_index);
    return ST_OK;
}

/* Names separated by commas, or a line that describes each. */
static Status
put_listed(Py *py, int kind, bool describe, Text *t)
{
    Listed *list;
    uint32_t n;

    TRY(list_kind(py, kind, &list, &n));
    for (uint32_t i = 0; i < n; i++) {
        const Op *op = graph_op(py->g, list[i].op);
        const Type *ty = val_type(py->g, op->out);
        if (describe)
            text_put(t, "    %s%s: %s %s%s\n", kind == BK_output ? "returns " : "", py->name[op->out.i],
                     shape_text(py, ty), dtypes[ty->dtype].nki,
                     kind == BK_constant ? ", a constant too large for this file" : "");
        else
            text_put(t, "%s%s", t->n ? ", " : "", py->name[op->out.i]);
    }
    return ST_OK;
}

/* What put_listed gives for each of the kinds. */
static const char *
listed(Py *py, const int *kinds, int nkinds, bool describe)
{
    Text t;

    text_init(&t, py->g->cx, &py->arena);
    text_puts(&t, "");
    for (int k = 0; k < nkinds; k++) {
        Status st = put_listed(py, kinds[k], describe, &t);
        t.st = t.st == ST_OK ? st : t.st;
    }
    return nki_written(py, &t);
}

static const char *
list_params(Py *py, bool describe)
{
    return listed(py, (const int[]){BK_input, BK_constant}, 2, describe);
}

static const char *
list_outputs(Py *py, bool describe)
{
    return listed(py, (const int[]){BK_output}, 1, describe);
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
    bool wrap = strlen(names) + 11 > NKI_WIDTH;

    text_puts(py->out, wrap ? "    return (\n        " : "    return ");
    nki_wrapped(py->out, names, 8, 8, 0);
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
    nki_wrapped(py->out, list_params(py, false), 5 + strlen(fn), 8, 2);
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
