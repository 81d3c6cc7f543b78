/* nki_names.c - what things are called in the source: the user's words where there are any.
 *
 * in:   a tile program, and what the user's code calls the values its instructions compute
 * out:  a Python identifier per buffer, each used once; parameters keep theirs
 * rule: a tile is named after the buffer it is loaded from or the variable that its first writer computes
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "emit/nki.h"

/* Keywords, built-in functions and what the source imports: nothing may have these names. */
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
    "vars", "zip", "nki", "nl", "nisa", "np", "base64", "ml_dtypes", "Path", "INF", "NAN", "P",
    "aiter", "anext", "__debug__", "__import__", "__build_class__", "__file__", "__name__", "__doc__",
    "__builtins__", "self"};

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

Status
nki_reserve_words(Py *py)
{
    VEC_PUSH(py->g->cx, &py->arena, &py->names, "");
    for (int i = 0; i < COUNT_OF(python_words); i++)
        TRY(take_name(py, python_words[i]));
    return ST_OK;
}

Status
nki_pick_name(Py *py, const char *want, uint32_t number, const char **out)
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

/* ---- buffers ---- */

typedef struct Writers { /* by value: the first instruction that writes it */
    OpId *first;
} Writers;

static const char *
variable_at(const Py *py, LocId loc)
{
    return py->user && loc.i ? py->user->variable(py->user->env, loc) : "";
}

/* What the user called a buffer in HBM, or a word for what it is. */
static const char *
wish_in_hbm(Py *py, const Op *op)
{
    const Graph *g = py->g;
    const AttrItem *name = attr_find(g->cx, op->attr, A_name);
    const char *s = str_get(g->cx, g->vals.p[op->out.i].name);
    long long index = attr_int(g->cx, op->attr, A_index, 0);

    if (name && *str_get(g->cx, name->s))
        return str_get(g->cx, name->s);
    if (*s)
        return s;
    switch (nki_kind(g, op)) {
    case BK_input: return nki_format(py, "in%lld", index);
    case BK_output: return nki_format(py, "out%lld", index);
    case BK_constant: return nki_format(py, "const%d", py->nconsts++);
    default: return nki_format(py, "scratch%u", op->out.i);
    }
}

static const char *
wish_on_chip(Py *py, const Op *op, const Op *writer)
{
    const Graph *g = py->g;
    bool psum = val_type(g, op->out)->space == SP_psum;
    const char *var = "";

    if (writer && (op_def(g, writer)->flags & F_DMA)) {
        Val from = op_val(g, writer, KI_src);
        if (val_type(g, from)->space == SP_hbm && py->given[from.i])
            return nki_format(py, "%s_tile", py->given[from.i]);
    }
    if (writer && writer->code == K_nc_stream_shuffle && py->name[op_val(g, writer, KI_src).i])
        return py->name[op_val(g, writer, KI_src).i];
    if (writer)
        var = variable_at(py, writer->loc);
    if (*var)
        return nki_format(py, psum ? "%.100s_psum" : "%.100s_tile", var);
    return nki_format(py, psum ? "p%u" : "t%u", op->out.i);
}

static Status
find_writers(Py *py, Writers *w)
{
    const Graph *g = py->g;

    NEW(g->cx, &py->arena, w->first, g->vals.n + 1);
    FOR_OPS(g, o) {
        const Op *op = graph_op(g, o);
        for (int i = 0; i < op->nin && is_instr(g, op); i++) {
            Val v = op_val(g, op, i);
            if (v.i && (operand_role(g, op, i) & R_write) && !w->first[v.i].i)
                w->first[v.i] = o;
        }
    }
    return ST_OK;
}

static Status
name_buffer(Py *py, OpId o, const Writers *w)
{
    const Graph *g = py->g;
    const Op *op = graph_op(g, o);
    uint32_t v = op->out.i;
    bool chip = val_type(g, op->out)->space != SP_hbm;
    const char *want = chip ? wish_on_chip(py, op, w->first[v].i ? graph_op(g, w->first[v]) : NULL)
                            : wish_in_hbm(py, op);

    TRY(nki_pick_name(py, want, v, &py->name[v]));
    if (chip)
        return ST_OK;
    py->given[v] = py->name[v];
    if (nki_kind(g, op) != BK_scratch)
        VEC_PUSH(g->cx, &py->arena, &py->hbm, o);
    return ST_OK;
}

/* Parameters first, so that they keep their names; then HBM, after which tiles are named. */
Status
nki_name_buffers(Py *py)
{
    const Graph *g = py->g;
    Writers w;

    NEW(g->cx, &py->arena, py->name, g->vals.n + 1);
    NEW(g->cx, &py->arena, py->given, g->vals.n + 1);
    TRY(find_writers(py, &w));
    for (int pass = 0; pass < 3; pass++) {
        FOR_OPS(g, o) {
            const Op *op = graph_op(g, o);
            if (op->code != K_buffer)
                continue;
            int turn = nki_kind(g, op) == BK_input ? 0 : val_type(g, op->out)->space == SP_hbm ? 1 : 2;
            if (turn == pass)
                TRY(name_buffer(py, o, &w));
        }
    }
    return ST_OK;
}
