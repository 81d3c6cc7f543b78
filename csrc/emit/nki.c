/* nki.c - the Python source of an NKI 0.6 kernel.
 *
 * in:   a verified tile program
 * out:  valid, deterministic Python: one statement per op, loops as loops, operands as nki_view.c writes them, names as
 *       nki_names.c finds them, the user's lines as comments above what they became
 * rule: nothing is decided here; buffers are declared where the program declares them and the NKI compiler places them
 */
#include <stdlib.h>
#include <string.h>

#include "emit/nki.h"

/* ---- buffers ---- */

static const char *
dtype_text(const Type *ty, bool interface)
{
    return interface && ty->dtype == DT_bool ? "bool_" : dtypes[ty->dtype].nki;
}

/* The shape as source: the partitions of a full tile are P. */
static const char *
shape_text(Py *py, const Type *ty)
{
    Shape s = nki_shape(ty);
    const char *all = nki_tuple(py, s.dim, s.n);

    if (ty->space == SP_hbm || s.dim[0] != hw_get(py->g->target)->pmax)
        return all;
    py->rows = true;
    return nki_format(py, "(P%s", strchr(all, ','));
}

static bool
is_empty(const Graph *g, const Op *op)
{
    return buffer_bytes(val_type(g, op->out)) == 0;
}

/* Bytes are what instructions see of bools in HBM. */
static void
open_bools(Py *py, const Op *op)
{
    uint32_t v = op->out.i;

    if (py->nest || val_type(py->g, op->out)->dtype != DT_bool || is_empty(py->g, op))
        return;
    if (nki_pick_name(py, nki_format(py, "%s_bytes", py->given[v]), v, &py->name[v]) == ST_OK)
        nki_line(py, nki_format(py, "%s = %s.view(nl.uint8)", py->name[v], py->given[v]));
}

static Status
emit_constant(Py *py, const Op *op)
{
    const char *global;

    TRY(nki_pick_name(py, nki_format(py, "DATA_%s", py->name[op->out.i]), op->out.i, &global));
    TRY(nki_constant(py, op, global));
    nki_line(py, nki_format(py, "%s = nl.shared_constant(%s)", py->name[op->out.i], global));
    return ST_OK;
}

static Status
emit_buffer(Py *py, const Op *op)
{
    const Graph *g = py->g;
    const Type *ty = val_type(g, op->out);
    int kind = nki_kind(g, op);
    bool interface = kind == BK_input || kind == BK_output;
    const char *space = kind == BK_output ? "shared_hbm" : ty->space == SP_hbm ? "private_hbm" : space_names[ty->space];

    if (!dtypes[ty->dtype].nki)
        return fail(g->cx, ST_UNSUPPORTED, op->loc, "NKI-6001 nki.language has no dtype %s", dtypes[ty->dtype].name);
    if (is_empty(g, op))
        return ST_OK;
    if (kind == BK_constant)
        return emit_constant(py, op);
    if (kind != BK_input)
        nki_line(py, nki_format(py, "%s = nl.ndarray(%s, dtype=nl.%s, buffer=nl.%s)", py->name[op->out.i],
                                shape_text(py, ty), dtype_text(ty, interface), space));
    if (interface)
        open_bools(py, op);
    return ST_OK;
}

/* ---- the kernel ---- */

/* The user's line above what it becomes. */
static void
say_line(Py *py, const Op *op)
{
    const char *s = py->user && op->loc.i ? py->user->line(py->user->env, op->loc) : "";
    int room = NKI_WIDTH - 4 * py->depth - 2;

    if (!*s || (py->said && strcmp(s, py->said) == 0))
        return;
    nki_line(py, nki_format(py, "# %.*s", room, s));
    py->said = nki_format(py, "%s", s);
}

/* Loops at one depth share a variable name; the first six are i to n. */
static Status
open_loop(Py *py, const Op *op)
{
    int d = py->nest++;

    if (d >= NKI_DEPTH)
        return fail(py->g->cx, ST_LIMIT, op->loc, "NKI-6002 loops are nested more than %d deep", NKI_DEPTH);
    if (!py->loop_name[d]) {
        const char letter[2] = {"ijklmn"[d % 6], 0};
        TRY(nki_pick_name(py, letter, (uint32_t)d, &py->loop_name[d]));
    }
    py->name[op->out.i] = py->loop_name[d];
    nki_line(py, nki_format(py, "for %s in range(%lld):", py->loop_name[d],
                        (long long)attr_int(py->g->cx, op->attr, A_count, 0)));
    py->depth++;
    py->empty = true;
    return ST_OK;
}

static void
close_loop(Py *py)
{
    if (py->empty)
        nki_line(py, "pass");
    py->depth--;
    py->nest--;
}

static Status
emit_body(Py *py)
{
    FOR_OPS(py->g, o) {
        const Op *op = graph_op(py->g, o);
        if (op->code == K_end) {
            close_loop(py);
            continue;
        }
        if (op->code != K_buffer || val_type(py->g, op->out)->space != SP_hbm)
            say_line(py, op);
        if (op->code == K_buffer)
            TRY(emit_buffer(py, op));
        else if (op->code == K_loop)
            TRY(open_loop(py, op));
        else
            nki_instr(py, op);
        TRY(py->out->st);
    }
    return ST_OK;
}

/* Inputs or outputs in order, as a list or as lines of the docstring. Results without elements cannot be returned. */
static const char *
list_buffers(Py *py, int kind, bool describe)
{
    const Graph *g = py->g;
    const char *lead = kind == BK_output ? "returns " : "";
    Text t;

    text_init(&t, g->cx, &py->arena);
    text_puts(&t, "");
    for (uint32_t i = 0; i < py->hbm.n; i++) {
        const Op *op = graph_op(g, py->hbm.p[i]);
        const Type *ty = val_type(g, op->out);
        const char *name = py->given[op->out.i];
        bool lost = kind == BK_output && is_empty(g, op);
        if (nki_kind(g, op) != kind || (lost && !describe))
            continue;
        Shape s = nki_shape(ty);
        if (!describe)
            text_put(&t, "%s%s", t.n ? ", " : "", name);
        else
            text_put(&t, "    %s%s: %s %s%s%s\n", lost ? "not returned, no elements: " : lead, name,
                     nki_tuple(py, s.dim, s.n), ty->dtype == DT_bool ? "bool" : dtypes[ty->dtype].nki,
                     ty->rank > NKI_DIMS ? ", reshaped from " : "",
                     ty->rank > NKI_DIMS ? nki_tuple(py, ty->dim, ty->rank) : "");
    }
    return nki_written(py, &t);
}

static void
put_imports(Py *py)
{
    Text *t = py->out;

    if (py->base64)
        text_puts(t, "import base64\n");
    if (py->path)
        text_puts(t, "from pathlib import Path\n");
    if (py->base64 || py->path)
        text_puts(t, "\n");
    if (py->ml)
        text_puts(t, "import ml_dtypes\n");
    text_puts(t, "import nki\nimport nki.isa as nisa\nimport nki.language as nl\n");
    if (py->np)
        text_puts(t, "import numpy as np\n");
    if (py->inf || py->nan || py->consts.n || py->rows)
        text_puts(t, "\n");
    if (py->rows)
        text_put(t, "P = %d  # partitions: rows of a full tile\n", (int)hw_get(py->g->target)->pmax);
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
    const char *names = list_buffers(py, BK_output, false);
    bool wrap = strlen(names) + 11 > NKI_WIDTH;

    text_puts(py->out, wrap ? "    return (\n        " : "    return ");
    nki_wrapped(py->out, names, 8, 8, 0);
    text_puts(py->out, wrap ? "\n    )\n" : "\n");
}

static Status
put_kernel(Py *py)
{
    text_put(py->out, "\n\n@nki.jit\ndef %s(", py->kernel);
    nki_wrapped(py->out, list_buffers(py, BK_input, false), 5 + strlen(py->kernel), 8, 2);
    text_put(py->out, "):\n    \"\"\"%s for %s, written by nkigen.\n\n", py->kernel, target_names[py->g->target]);
    text_puts(py->out, list_buffers(py, BK_input, true));
    text_puts(py->out, list_buffers(py, BK_output, true));
    text_puts(py->out, "    \"\"\"\n");
    if (py->body.n)
        text_puts(py->out, py->body.p);
    TRY(py->body.st);
    TRY(py->consts.st);
    put_return(py);
    return py->out->st;
}

static int
compare_index(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (x[0] > y[0]) - (x[0] < y[0]);
}

/* Buffers of the interface by their index: the program may declare them in any order. */
static Status
sort_interface(Py *py)
{
    const Graph *g = py->g;
    int64_t(*at)[2];

    NEW(g->cx, &py->arena, at, py->hbm.n + 1);
    for (uint32_t i = 0; i < py->hbm.n; i++) {
        at[i][0] = attr_int(g->cx, graph_op(g, py->hbm.p[i])->attr, A_index, 0);
        at[i][1] = py->hbm.p[i].i;
    }
    qsort(at, py->hbm.n, sizeof(at[0]), compare_index);
    for (uint32_t i = 0; i < py->hbm.n; i++)
        py->hbm.p[i].i = (uint32_t)at[i][1];
    return ST_OK;
}

static Status
emit_kernel(Py *py)
{
    const Graph *g = py->g;
    const char *name = str_get(g->cx, g->name);

    TRY(nki_reserve_words(py));
    TRY(nki_name_buffers(py));
    TRY(nki_pick_name(py, *name ? name : "kernel", 0, &py->kernel));
    TRY(sort_interface(py));
    text_init(&py->body, g->cx, &py->arena);
    text_init(&py->consts, g->cx, &py->arena);
    py->depth = 1;
    TRY(emit_body(py));
    const char *results = list_buffers(py, BK_output, false);
    TRY(py->out->st);
    if (g->outputs.n && !*results)
        return fail(g->cx, ST_UNSUPPORTED, (LocId){0},
                    "NKI-6003 no result of this kernel has elements: there is no source for it");
    put_imports(py);
    return put_kernel(py);
}

Status
emit_nki(const Graph *g, const Source *user, Text *t)
{
    Py py = {.g = g, .user = user, .out = t};
    Status st;

    arena_init(&py.arena, &g->cx->mem);
    st = emit_kernel(&py);
    arena_free(&py.arena);
    return st;
}
