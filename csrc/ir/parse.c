/* parse.c - reads the text form that print.c writes.
 *
 * in:   any bytes; or a text that goes on behind the program
 * out:  a graph that passes graph_check, with names, types, attributes and patterns as written;
 * nothing is folded or shared. Each op's location is its line and column. The dialect's own rules
 * are not checked here. rule: an error says what was found and what was expected, with line and
 * column, and frees the graph.
 *
 * A `#` starts a comment. Line ends separate ops; elsewhere white space does not matter.
 */
#include "ir/parse.h"

#include <stdio.h>
#include <string.h>

/* ---- ops ---- */

static Status
parse_results(Parser *ps)
{
    do {
        Slice name;
        scan_blanks(&ps->s);
        const char *at = ps->s.p;
        TRY(need_name(ps, &name));
        if (find_val(ps, name).i)
            return SCAN_FAIL(&ps->s, at, "NKI-2514 %%%.*s is defined twice", shown(name), name.p);
        VEC_PUSH(ps->cx, &ps->tmp, &ps->results, name);
    } while (scan_take(&ps->s, ','));
    return scan_need(&ps->s, '=');
}

/* Enters the results of the op just appended under their names. */
static Status
define_results(Parser *ps, OpId o, const char *at)
{
    Val out = graph_op(ps->g, o)->out;
    for (uint32_t i = 0; i < ps->results.n; i++) {
        Slice name = ps->results.p[i];
        Val v = {out.i + i};
        if (find_val(ps, name).i)
            return SCAN_FAIL(&ps->s, at, "NKI-2515 %%%.*s is defined twice", shown(name), name.p);
        VEC_PUSH(ps->cx, &ps->tmp, &ps->vals, name);
        TRY(map_insert(ps->cx, &ps->tmp, &ps->val_names, hash_bytes(name.p, name.n, 0), v.i));
        if (!is_digit(name.p[0]))
            TRY(str_make(ps->cx, name.p, name.n, &ps->g->vals.p[v.i].name));
    }
    return ST_OK;
}

static bool
same_op(const void *env, uint32_t id)
{
    const void *const *e = env;
    return slice_is(*(const Slice *)e[1], ((const Dialect *)e[0])->ops[id].name);
}

static Status
need_op(Parser *ps, int *code)
{
    Slice w = scan_word(&ps->s);
    const void *env[2] = {ps->g->dialect, &w};
    if (!w.n)
        return scan_expected(&ps->s, "an op, 'return' or a value");
    *code = (int)map_find(&ps->op_names, hash_bytes(w.p, w.n, 0), same_op, env);
    if (!*code)
        return SCAN_FAIL(&ps->s, w.p, "NKI-2516 %s IR has no op '%.*s'", ps->g->dialect->name, shown(w), w.p);
    return ST_OK;
}

/* The types after ':'; a loop's index needs none. */
static Status
parse_result_types(Parser *ps, int code)
{
    const OpDef *def = &ps->g->dialect->ops[code];
    const char *at = ps->s.p;
    if (ps->results.n && code == ps->loop && !scan_peek(&ps->s, ':')) {
        TyId index;
        TRY(type_make(ps->cx, TY_index, SP_hbm, DT_none, 0, NULL, &index));
        VEC_PUSH(ps->cx, &ps->tmp, &ps->types, index);
    } else if (ps->results.n) {
        TRY(scan_need(&ps->s, ':'));
        TRY(parse_types(ps));
    }
    if (ps->results.n != def->nout)
        return SCAN_FAIL(&ps->s, at, "NKI-2517 %s has %d results, here it has %u", def->name, def->nout, ps->results.n);
    if (ps->types.n != ps->results.n)
        return SCAN_FAIL(&ps->s, at, "NKI-2518 %u types for %u results", ps->types.n, ps->results.n);
    return ST_OK;
}

static Status
parse_op(Parser *ps)
{
    int code;
    AttrId attr = {0};
    LocId loc;
    OpId o;
    ps->results.n = ps->operands.n = ps->types.n = 0;
    scan_blanks(&ps->s);
    const char *at = ps->s.p;
    if (scan_peek(&ps->s, '%'))
        TRY(parse_results(ps));
    TRY(need_op(ps, &code));
    TRY(loc_make(ps->cx, NULL, scan_column(&ps->s, at), ps->s.line, &loc));
    scan_blanks(&ps->s);
    if (scan_peek(&ps->s, '%') || scan_peek(&ps->s, '_')) {
        do
            TRY(parse_operand(ps));
        while (scan_take(&ps->s, ','));
    }
    if (scan_take(&ps->s, '{'))
        TRY(parse_attrs(ps, &ps->g->dialect->ops[code], &attr));
    TRY(parse_result_types(ps, code));
    if (ps->operands.n > UINT16_MAX)
        return SCAN_FAIL(&ps->s, at, "NKI-2519 an op has at most %d operands", UINT16_MAX);
    TRY(graph_append(ps->g, code, ps->operands.p, (int)ps->operands.n, attr, loc, ps->types.p,
                     (int)ps->types.n, &o));
    TRY(define_results(ps, o, at));
    return scan_line_end(&ps->s);
}

/* ---- the graph ---- */

/* ` aliases=[0, -1]`; without it no output updates an input */
static Status
parse_aliases(Parser *ps)
{
    Graph *g = ps->g;
    scan_blanks(&ps->s);
    const char *at = ps->s.p;
    Slice w = scan_word(&ps->s);
    ps->ints.n = 0;
    if (slice_is(w, "aliases")) {
        TRY(scan_need(&ps->s, '='));
        TRY(need_ints(ps));
        if (ps->ints.n != g->outputs.n)
            return SCAN_FAIL(&ps->s, at, "NKI-2520 %u aliases for %u outputs", ps->ints.n, g->outputs.n);
    } else {
        ps->s.p = at;
    }
    for (uint32_t i = 0; i < g->outputs.n; i++) {
        int64_t a = i < ps->ints.n ? ps->ints.p[i] : -1;
        if (a < -1 || a > INT32_MAX)
            return SCAN_FAIL(&ps->s, at, "NKI-2521 an alias is the number of an input, or -1");
        VEC_PUSH(ps->cx, &g->arena, &g->aliases, (int32_t)a);
    }
    return ST_OK;
}

static Status
parse_return(Parser *ps)
{
    Graph *g = ps->g;
    ps->return_line = ps->s.line;
    if (scan_peek(&ps->s, '%')) {
        do {
            Val v;
            TRY(need_val(ps, &v));
            VEC_PUSH(ps->cx, &g->arena, &g->outputs, v);
        } while (scan_take(&ps->s, ','));
    }
    TRY(parse_aliases(ps));
    TRY(scan_line_end(&ps->s));
    return scan_need(&ps->s, '}');
}

static Status
parse_body(Parser *ps)
{
    for (;;) {
        scan_lines(&ps->s);
        const char *at = ps->s.p;
        if (slice_is(scan_word(&ps->s), "return"))
            return parse_return(ps);
        ps->s.p = at;
        TRY(parse_op(ps));
    }
}

static Status
need_dialect(Parser *ps, const Dialect **out)
{
    scan_lines(&ps->s);
    Slice w = scan_word(&ps->s);
    for (int i = 0; i < ps->ndialects; i++)
        if (slice_is(w, ps->dialects[i]->name)) {
            *out = ps->dialects[i];
            return ST_OK;
        }
    char what[100] = "";
    size_t n = 0;
    for (int i = 0; i < ps->ndialects && n < sizeof(what); i++)
        n += (size_t)snprintf(what + n, sizeof(what) - n, "%s'%s'", i ? " or " : "",
                              ps->dialects[i]->name);
    ps->s.p = w.p;
    return scan_expected(&ps->s, what);
}

static Status
parse_target(Parser *ps)
{
    Slice w = scan_word(&ps->s);
    int t = w.n ? target_from_name(w.p, w.n) : -1;
    if (t < 0) {
        ps->s.p = w.p;
        return scan_expected(&ps->s, "a target such as trn2");
    }
    ps->g->target = (uint8_t)t;
    return ST_OK;
}

static Status
parse_header(Parser *ps)
{
    const Dialect *d = NULL;
    StrId name;
    TRY(need_dialect(ps, &d));
    TRY(scan_need(&ps->s, '@'));
    if (scan_peek(&ps->s, '"')) {
        TRY(scan_string(&ps->s, &ps->tmp, &name));
    } else {
        Slice w = scan_word(&ps->s);
        if (!w.n || is_digit(w.p[0])) {
            ps->s.p = w.p;
            return scan_expected(&ps->s, "the program's name");
        }
        TRY(str_make(ps->cx, w.p, w.n, &name));
    }
    TRY(graph_new(ps->cx, d, str_get(ps->cx, name), &ps->g));
    if (strcmp(d->name, "tile") == 0)
        TRY(parse_target(ps));
    TRY(scan_need(&ps->s, '{'));
    ps->loop = dialect_find(d, "loop", 4);
    for (int i = 1; i < d->nops; i++)
        if (d->ops[i].name)
            TRY(map_insert(ps->cx, &ps->tmp, &ps->op_names,
                           hash_bytes(d->ops[i].name, strlen(d->ops[i].name), 0), (uint32_t)i));
    VEC_PUSH(ps->cx, &ps->tmp, &ps->vals, (Slice){"", 0});
    return scan_line_end(&ps->s);
}

/* ---- inputs ---- */

/* By index; what does not fit is left out, for graph_check to name. */
static Status
collect_inputs(Parser *ps)
{
    Graph *g = ps->g;
    FOR_OPS(g, o)
        if (interface_kind(g, graph_op(g, o)) == BK_input)
            VEC_PUSH(ps->cx, &g->arena, &g->inputs, (Val){0});
    FOR_OPS(g, o)
    {
        const Op *op = graph_op(g, o);
        int64_t index = attr_int(ps->cx, op->attr, A_index, -1);
        if (interface_kind(g, op) == BK_input && index >= 0 && index < (int64_t)g->inputs.n)
            g->inputs.p[index] = op->out;
    }
    return ST_OK;
}

/* A violation in a text is its writer's fault; it gets a line of the text. */
static Status
check_parsed(Parser *ps)
{
    Status st = graph_check(ps->g);
    if (st != ST_BUG)
        return st;
    ErrorInfo *err = &ps->cx->err;
    const Loc *loc = loc_get(ps->cx, err->loc);
    err->line = loc->line ? loc->line : ps->return_line; /* no op's fault: the outputs */
    err->col = loc->line ? loc->offset : 1;
    err->st = ST_USER;
    return ST_USER;
}

static Status
parse_all(Parser *ps)
{
    TRY(parse_header(ps));
    TRY(parse_body(ps));
    TRY(collect_inputs(ps));
    return check_parsed(ps);
}

static Status
keep_names(const Parser *ps, Slice **out)
{
    NEW(ps->cx, &ps->g->arena, *out, ps->vals.n);
    memcpy(*out, ps->vals.p, sizeof **out * ps->vals.n);
    return ST_OK;
}

Status
graph_scan(Scan *sc, const Dialect *const *dialects, int ndialects, int *return_line, Slice **names, Graph **out)
{
    Parser ps = {.s = *sc, .cx = sc->cx, .dialects = dialects, .ndialects = ndialects};
    *out = NULL;
    if (sc->end - sc->p > INT32_MAX)
        return fail(sc->cx, ST_LIMIT, (LocId){0}, "NKI-2522 IR text of %zu bytes is too long",
                    (size_t)(sc->end - sc->p));
    arena_init(&ps.tmp, &sc->cx->mem);
    Status st = parse_all(&ps);
    if (st == ST_OK && names)
        st = keep_names(&ps, names);
    arena_free(&ps.tmp);
    *sc = ps.s;
    *return_line = ps.return_line;
    if (st == ST_OK)
        *out = ps.g;
    else
        graph_free(ps.g);
    return st;
}

Status
graph_parse(Ctx *cx, const char *text, size_t n, const Dialect *const *dialects, int ndialects, Graph **out)
{
    Scan sc = scan_text(cx, text, n);
    int return_line;
    TRY(graph_scan(&sc, dialects, ndialects, &return_line, NULL, out));
    return graph_end(scan_end(&sc), out);
}
