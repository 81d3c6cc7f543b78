/* read.c - a plan from its text.
 *
 * in:   any bytes
 * out:  the plan that they say, word for word, and where its lines stand; or an error with line and column
 * rule: every line counts and nothing is added to what it says. Whether a plan that can be read can be carried out is
 *       not asked here (check.c). A text without a program holds the limits of its first line only.
 */
#include "plan/text.h"

#include <string.h>

#define LEAST_ROW 64 /* bytes of a row, of which everything has a tiling */

typedef struct Reader {
    Scan *sc;
    Plan *p;
    const Slice *name; /* by val: in the text */
    Arena *a;          /* of the plan */
    Arena tmp;         /* freed when the text has been read */
    Map by_name;
    Text line;
} Reader;

/* ---- the program and the first line ---- */

/* `name=N`: no limit, or at least `least`. */
static Status
read_limit(Scan *sc, const char *name, int64_t least, int64_t *out)
{
    Slice w = scan_word(sc);
    if (!slice_is(w, name)) {
        sc->p = w.p;
        return scan_expected(sc, name);
    }
    TRY(scan_need(sc, '='));
    scan_blanks(sc);
    const char *at = sc->p;
    TRY(scan_digits(sc, false, out));
    if (*out > 0 && *out < least)
        return SCAN_FAIL(sc, at, "NKI-4503 plan: %s is %lld, expected 0 for no limit, or at least %lld", name,
                         (long long)*out, (long long)least);
    return ST_OK;
}

Status
plan_begin(PlanText *pt)
{
    Scan *sc = &pt->body;
    scan_lines(sc);
    const char *at = sc->p;
    pt->line = sc->line;
    pt->row_bytes = pt->max_ops = 0;
    Slice plan = scan_word(sc), name = scan_word(sc);
    pt->target = name.n ? target_from_name(name.p, name.n) : -1;
    bool ok = slice_is(plan, "plan") && pt->target >= 0;
    if (ok && !scan_peek(sc, '{') && sc->p < sc->end && is_word_char(*sc->p)) {
        TRY(read_limit(sc, "row_bytes", LEAST_ROW, &pt->row_bytes));
        TRY(read_limit(sc, "max_ops", 1, &pt->max_ops));
    }
    if (!ok || !scan_take(sc, '{'))
        return SCAN_FAIL(sc, at, "NKI-4015 plan: expected `plan trn2 {` ... `}`, got `%.*s`",
                         (int)MIN(sc->end - at, 24), at);
    return scan_line_end(sc);
}

static Status
only_limits(PlanText *pt)
{
    if (!scan_take(&pt->body, '}'))
        return SCAN_FAIL(&pt->body, pt->body.p, "NKI-4504 plan: a plan with groups begins with its tensor program");
    return scan_end(&pt->body);
}

Status
plan_open(Ctx *cx, const char *text, size_t n, PlanText *out)
{
    static const Dialect *const dialect = &tensor_dialect;
    *out = (PlanText){.body = scan_text(cx, text, n)};
    scan_lines(&out->body);
    const char *at = out->body.p;
    Slice first = scan_word(&out->body);
    out->body.p = at;
    if (first.n == 0 || slice_is(first, "plan")) {
        TRY(plan_begin(out));
        return only_limits(out);
    }
    out->first_line = out->body.line;
    TRY(graph_scan(&out->body, &dialect, 1, &out->return_line, &out->names, &out->g));
    return graph_end(plan_begin(out), &out->g);
}

/* ---- words ---- */

/* The next token is the one at *at; both move behind it. Blanks between tokens do not matter. */
static bool
same_token(Scan *sc, const char **at)
{
    size_t n = 1;
    if (is_word_char(**at))
        for (n = 0; is_word_char((*at)[n]); n++)
            ;
    scan_blanks(sc);
    bool word = is_word_char(**at), longer = (size_t)(sc->end - sc->p) > n && is_word_char(sc->p[n]);
    if ((size_t)(sc->end - sc->p) < n || memcmp(sc->p, *at, n) != 0 || (word && longer))
        return false;
    sc->p += n;
    *at += n;
    return true;
}

/* What t holds stands here. */
static Status
need_same(Scan *sc, const Text *t)
{
    TRY(t->st);
    const char *at = t->p;
    char what[200];
    for (at += strspn(at, " "); *at; at += strspn(at, " "))
        if (!same_token(sc, &at)) {
            size_t n = MIN(strlen(t->p), sizeof what - 10);
            memcpy(what, "`", 1);
            memcpy(what + 1, t->p, n);
            memcpy(what + 1 + n, strlen(t->p) > n ? "...`" : "`", strlen(t->p) > n ? 5 : 2);
            return scan_expected(sc, what);
        }
    return ST_OK;
}

static bool
take_word(Scan *sc, const char *word)
{
    Slice w = scan_word(sc);
    if (slice_is(w, word))
        return true;
    sc->p = w.p;
    return false;
}

/* `name=N` */
static Status
need_number(Scan *sc, const char *name, int64_t *out)
{
    char what[32] = "";
    strncat(strncat(what, name, 20), "=", 2);
    if (!take_word(sc, name))
        return scan_expected(sc, what);
    TRY(scan_need(sc, '='));
    return scan_int(sc, out);
}

static bool
is_named(const void *env, uint32_t v)
{
    const void *const *e = env;
    const Slice *own = (const Slice *)e[0] + v, *name = e[1];
    return own->n == name->n && memcmp(own->p, name->p, name->n) == 0;
}

static Status
collect_names(Reader *r)
{
    const Graph *g = r->p->g;
    for (Val v = {1}; v.i < g->vals.n; v.i++)
        TRY(map_insert(g->cx, &r->tmp, &r->by_name, hash_bytes(r->name[v.i].p, r->name[v.i].n, 0), v.i));
    return ST_OK;
}

static Status
need_value(Reader *r, Val *out)
{
    if (!scan_take(r->sc, '%'))
        return scan_expected(r->sc, "a value");
    Slice name = scan_word(r->sc);
    const void *env[2] = {r->name, &name};
    out->i = name.n ? map_find(&r->by_name, hash_bytes(name.p, name.n, 0), is_named, env) : 0;
    if (out->i == 0)
        return SCAN_FAIL(r->sc, name.p, "NKI-4507 plan: its program has no value %%%.*s", shown(name), name.p);
    return ST_OK;
}

/* ---- a line ---- */

static void
put_name(Reader *r, const char *before, Val v)
{
    text_puts(&r->line, before);
    text_putn(&r->line, r->name[v.i].p, r->name[v.i].n);
}

/* What follows is the op, as the program has it. */
static Status
need_definition(Reader *r, const Op *op)
{
    r->line.n = 0;
    put_name(r, "%", op->out);
    text_put(&r->line, " = %s", op_def(r->p->g, op)->name);
    for (int i = 0; i < op->nin; i++)
        put_name(r, i ? ", %" : " %", op_val(r->p->g, op, i));
    return need_same(r->sc, &r->line);
}

/* `%3 = matmul %x, %w`, for the first time */
static Status
read_definition(Reader *r, OpId *out)
{
    Scan *sc = r->sc;
    Val v;
    scan_blanks(sc);
    const char *at = sc->p;
    TRY(need_value(r, &v));
    const Graph *g = r->p->g;
    Spot *spot = &r->p->spot[g->vals.p[v.i].def.i];
    if (spot->line)
        return SCAN_FAIL(sc, at, "NKI-4509 plan: this value is in line %d already", spot->line);
    *out = g->vals.p[v.i].def;
    *spot = (Spot){.line = sc->line, .at = scan_column(sc, at)};
    sc->p = at;
    TRY(need_definition(r, graph_op(g, *out)));
    scan_blanks(sc);
    spot->span = spot->home = scan_column(sc, sc->p);
    return ST_OK;
}

/* `[lo,hi)` */
static Status
need_range(Scan *sc, const Type *t, Range *out)
{
    int64_t lo, hi;
    scan_blanks(sc);
    const char *at = sc->p;
    TRY(scan_need(sc, '['));
    TRY(scan_int(sc, &lo));
    TRY(scan_need(sc, ','));
    TRY(scan_int(sc, &hi));
    TRY(scan_need(sc, ')'));
    if (lo < 0 || hi <= lo || hi > t->rank)
        return SCAN_FAIL(sc, at, "NKI-4510 plan: expected [lo,hi) with 0 <= lo < hi <= %d, the dims there are",
                         t->rank);
    *out = (Range){(int8_t)lo, (int8_t)hi};
    return ST_OK;
}

/* `row [0,1) outer [1,2) cols [2,3)`; of an acc, the dims are those of its operand. */
static Status
read_span(Reader *r, OpId o)
{
    Scan *sc = r->sc;
    const Op *op = graph_op(r->p->g, o);
    Span *s = &r->p->span[op->out.i];
    Slice w = scan_word(sc);
    for (uint8_t role = RO_row; role < RO_COUNT; role++)
        if (role != RO_mat && slice_is(w, role_words[role]))
            s->role = role;
    if (s->role == RO_none || (s->role == RO_acc && op->nin == 0)) {
        sc->p = w.p;
        return scan_expected(sc, "row, free, acc or move");
    }
    const Type *t = val_type(r->p->g, s->role == RO_acc ? op_val(r->p->g, op, 0) : op->out);
    if (scan_peek(sc, '['))
        TRY(need_range(sc, t, &s->spine));
    if (take_word(sc, "outer"))
        TRY(need_range(sc, t, &s->outer));
    if (take_word(sc, "cols"))
        TRY(need_range(sc, t, &s->col));
    return ST_OK;
}

/* The dims of which a row lies in a lane, if any: `sbuf [0,1)` */
static Status
read_chip(Reader *r, Val v)
{
    Home *home = &r->p->home[v.i];
    home->chip = true;
    r->p->stored[v.i] = !is_source(r->p->g, v);
    return scan_peek(r->sc, '[') ? need_range(r->sc, val_type(r->p->g, v), &home->rows) : ST_OK;
}

/* `home=hbm`, `home=sbuf [0,1)`, `home=view %x`, `home=part %4 + 128` */
static Status
read_home(Reader *r, OpId o)
{
    Scan *sc = r->sc;
    Plan *p = r->p;
    uint32_t v = graph_op(p->g, o)->out.i;
    scan_blanks(sc);
    p->spot[o.i].home = scan_column(sc, sc->p);
    if (!take_word(sc, "home"))
        return scan_expected(sc, "home=");
    TRY(scan_need(sc, '='));
    Slice w = scan_word(sc);
    if (slice_is(w, "sbuf"))
        return read_chip(r, (Val){v});
    if (is_source(p->g, (Val){v})) {
        sc->p = w.p;
        return scan_expected(sc, "sbuf, for a parameter or a constant");
    }
    if (slice_is(w, "view"))
        return need_value(r, &p->view_base[v]);
    if (!slice_is(w, "hbm") && !slice_is(w, "part")) {
        sc->p = w.p;
        return scan_expected(sc, "hbm, sbuf, view or part");
    }
    p->stored[v] = true;
    if (slice_is(w, "hbm"))
        return ST_OK;
    TRY(need_value(r, &p->part_of[v]));
    TRY(scan_need(sc, '+'));
    return scan_digits(sc, false, &p->part_at[v]);
}

static Status
read_loose(Reader *r, OpId *last)
{
    OpId o;
    scan_blanks(r->sc);
    const char *at = r->sc->p;
    TRY(read_definition(r, &o));
    if (o.i < last->i)
        return SCAN_FAIL(r->sc, at, "NKI-4511 plan: values outside of the groups stand in the order of the program");
    *last = o;
    TRY(read_home(r, o));
    return scan_line_end(r->sc);
}

static Status
read_member(Reader *r, Group *gr)
{
    OpId o;
    scan_blanks(r->sc);
    const char *at = r->sc->p;
    TRY(read_definition(r, &o));
    if (is_source(r->p->g, graph_op(r->p->g, o)->out))
        return SCAN_FAIL(r->sc, at, "NKI-4508 plan: nothing computes a parameter or a constant");
    TRY(read_span(r, o));
    if (scan_peek(r->sc, 'h'))
        TRY(read_home(r, o));
    gr->moves |= r->p->span[graph_op(r->p->g, o)->out.i].role == RO_move;
    gr->has_matmul |= graph_op(r->p->g, o)->code == T_matmul;
    gr->n++;
    r->p->group_of[o.i] = r->p->groups.n + 1;
    VEC_PUSH(r->sc->cx, r->a, &r->p->member, o);
    return scan_line_end(r->sc);
}

/* ---- a group ---- */

static Status
read_knob(Scan *sc, const Group *gr, int k, int64_t *out)
{
    const Knob *knob = &knobs[k];
    TRY(need_number(sc, knob->name, out));
    if (*out >= knob->lo && *out <= knob_most(gr, k) && *out % knob->step == 0)
        return ST_OK;
    const char *at = sc->p;
    while (at > sc->line_start && (is_word_char(at[-1]) || at[-1] == '-'))
        at--;
    return SCAN_FAIL(sc, at, "NKI-4501 plan: %s is %lld, expected a multiple of %lld from %lld to %lld", knob->name,
                     (long long)*out, (long long)knob->step, (long long)knob->lo, (long long)knob_most(gr, k));
}

static Status
read_knobs(Scan *sc, Group *gr)
{
    int64_t value[KB_COUNT] = {0};
    const char *at = sc->p;
    for (int k = 0; k < KB_COUNT; k++)
        if (has_knob(gr, k)) {
            scan_blanks(sc);
            at = sc->p;
            TRY(read_knob(sc, gr, k, &value[k]));
        }
    set_knobs(gr, value);
    if (gr->cols > 0 && gr->panel != gr->cols && gr->panel % gr->psum_width)
        return SCAN_FAIL(sc, at, "NKI-4502 plan: a panel is all %lld columns or a multiple of psum_width=%d, not %lld",
                         (long long)gr->cols, gr->psum_width, (long long)gr->panel);
    return ST_OK;
}

/* `group 0 rows=512 outer=1 cols=1024` and its numbers, which a group that is not decided lacks */
static Status
read_frame(Reader *r, Group *gr)
{
    Scan *sc = r->sc;
    int64_t number;
    scan_blanks(sc);
    const char *at = sc->p;
    *gr = (Group){.first = r->p->member.n, .line = sc->line, .col = scan_column(sc, at)};
    if (!take_word(sc, "group"))
        return scan_expected(sc, "'group' or '}'");
    scan_blanks(sc);
    at = sc->p;
    TRY(scan_digits(sc, false, &number));
    if (number != r->p->groups.n)
        return SCAN_FAIL(sc, at, "NKI-4512 plan: groups are numbered in the order in which they run, this is group %u",
                         r->p->groups.n);
    TRY(need_number(sc, "rows", &gr->rows));
    TRY(need_number(sc, "outer", &gr->outer));
    scan_blanks(sc);
    at = sc->p;
    bool cols = take_word(sc, "cols");
    sc->p = at;
    if (cols)
        TRY(need_number(sc, "cols", &gr->cols));
    if (cols && gr->cols < 1)
        return SCAN_FAIL(sc, at, "NKI-4513 plan: a group without columns has no cols=");
    if (cols || !scan_peek(sc, '{'))
        TRY(read_knobs(sc, gr));
    TRY(scan_need(sc, '{'));
    return scan_line_end(sc);
}

static Status
read_group(Reader *r)
{
    Group gr;
    TRY(read_frame(r, &gr));
    while (!scan_take(r->sc, '}'))
        TRY(read_member(r, &gr));
    VEC_PUSH(r->sc->cx, r->a, &r->p->groups, gr);
    return scan_line_end(r->sc);
}

static Status
read_all(Reader *r)
{
    OpId last = {0};
    TRY(collect_names(r));
    for (scan_lines(r->sc); !scan_peek(r->sc, '}'); scan_lines(r->sc))
        TRY(scan_peek(r->sc, '%') && r->p->groups.n == 0 ? read_loose(r, &last) : read_group(r));
    TRY(scan_need(r->sc, '}'));
    return scan_end(r->sc);
}

Status
plan_alloc(const Graph *g, Arena *a, Plan *p)
{
    NEW(g->cx, a, p->group_of, g->ops.n);
    NEW(g->cx, a, p->span, g->vals.n);
    NEW(g->cx, a, p->stored, g->vals.n);
    NEW(g->cx, a, p->home, g->vals.n);
    NEW(g->cx, a, p->view_base, g->vals.n);
    NEW(g->cx, a, p->part_of, g->vals.n);
    NEW(g->cx, a, p->part_at, g->vals.n);
    return ST_OK;
}

Status
plan_read(PlanText *pt, const Graph *g, Arena *a, Plan *out)
{
    Reader r = {.sc = &pt->body, .p = out, .name = pt->names, .a = a};
    *out = (Plan){.g = g, .target = pt->target, .row_bytes = pt->row_bytes, .max_ops = pt->max_ops, .line = pt->line};
    TRY(plan_alloc(g, a, out));
    NEW(g->cx, a, out->spot, g->ops.n);
    arena_init(&r.tmp, &g->cx->mem);
    text_init(&r.line, g->cx, &r.tmp);
    Status st = read_all(&r);
    arena_free(&r.tmp);
    return st;
}
