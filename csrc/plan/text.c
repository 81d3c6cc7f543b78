/* text.c - the text of a plan.
 *
 * in:   a plan; or a text and the plan whose decisions it is to replace
 * out:  the text; the plan with the decisions of the text, or an error with its line and column
 * rule: every line counts. What stands in the table of knobs is a decision and is obeyed within its range; everything
 *       else (members, their operands and spans, what is stored, views) has to be what fuse found for the program: a
 *       line that says anything else, that is missing or too many is refused where it begins to differ.
 */
#include "ir/scan.h"
#include "plan/plan.h"

#include <string.h>

#define LEAST_ROW 64 /* bytes of a row, of which everything has a tiling */

/* ---- knobs ---- */
enum { KB_per_tile, KB_in_place, KB_bufs, KB_psum_width, KB_psum_bufs, KB_resident, KB_panel, KB_COUNT };

static const struct {
    const char *name;
    int64_t lo, hi, step;
} knobs[KB_COUNT] = {
    [KB_per_tile] = {"per_tile", 1, 0, 1}, /* up to all rows, see knob_most */
    [KB_in_place] = {"in_place", 0, 1, 1},
    [KB_bufs] = {"bufs", 1, 8, 1},
    [KB_psum_width] = {"psum_width", 512, 4096, 512},
    [KB_psum_bufs] = {"psum_bufs", 1, 8, 1},
    [KB_resident] = {"resident", 0, 1 << 20, 1},
    [KB_panel] = {"panel", 1, INT32_MAX, 1},
};

static int64_t
knob_most(const Group *gr, int k)
{
    return k == KB_per_tile ? MAX(gr->rows / 128, 1) : knobs[k].hi;
}

static bool
has_knob(const Group *gr, int k)
{
    return gr->per_tile > 0 && (k != KB_panel || gr->cols > 0); /* none is decided when fuse is done */
}

static void
get_knobs(const Group *gr, int64_t value[KB_COUNT])
{
    value[KB_per_tile] = gr->per_tile;
    value[KB_in_place] = gr->in_place;
    value[KB_bufs] = gr->bufs;
    value[KB_psum_width] = gr->psum_width;
    value[KB_psum_bufs] = gr->psum_bufs;
    value[KB_resident] = gr->resident;
    value[KB_panel] = gr->panel;
}

static void
set_knobs(Group *gr, const int64_t value[KB_COUNT])
{
    gr->per_tile = (int32_t)value[KB_per_tile];
    gr->in_place = value[KB_in_place] != 0;
    gr->bufs = (int32_t)value[KB_bufs];
    gr->psum_width = (int32_t)value[KB_psum_width];
    gr->psum_bufs = (int32_t)value[KB_psum_bufs];
    gr->resident = value[KB_resident];
    gr->panel = value[KB_panel];
    gr->chunk = gr->psum_width;
}

/* ---- lines ---- */
typedef struct Lines {
    const Plan *p;
    uint32_t *number; /* of values, as the program's own text has them */
    Text *t;
} Lines;

static void
put_val(const Lines *l, Val v)
{
    print_numbered(l->p->g, l->number, v, l->t);
}

static void
put_range(const Lines *l, const char *what, Range r)
{
    if (r.lo < r.hi)
        text_put(l->t, "%s [%d,%d)", what, r.lo, r.hi);
}

/* Where a value lives when its group is done; nothing for one that stays within the group. */
static void
put_home(const Lines *l, Val v)
{
    const Plan *p = l->p;
    if (p->view_base[v.i].i) {
        text_puts(l->t, "  home=view ");
        put_val(l, p->view_base[v.i]);
    } else if (p->part_of[v.i].i) {
        text_puts(l->t, "  home=part ");
        put_val(l, p->part_of[v.i]);
        text_put(l->t, " + %lld", (long long)p->part_at[v.i]);
    } else if (p->stored[v.i]) {
        text_puts(l->t, "  home=hbm");
    }
}

/* `%3 = matmul %x, %w    row [0,1) cols [1,2)  home=hbm` */
static void
put_op(const Lines *l, OpId o)
{
    static const char *const roles[] = {"", "row", "free", "mat", "acc", "move"};
    const Graph *g = l->p->g;
    const Op *op = graph_op(g, o);
    Span s = l->p->span[op->out.i];
    put_val(l, op->out);
    text_put(l->t, " = %s", op_def(g, op)->name);
    for (int i = 0; i < op->nin; i++) {
        text_puts(l->t, i ? ", " : " ");
        put_val(l, op_val(g, op, i));
    }
    if (s.role != RO_none)
        text_put(l->t, "    %s", roles[s.role]);
    put_range(l, "", s.spine);
    put_range(l, " outer", s.outer);
    put_range(l, " cols", s.col);
    put_home(l, op->out);
}

static void
put_frame(const Lines *l, uint32_t k)
{
    const Group *gr = &l->p->groups.p[k];
    text_put(l->t, "group %u rows=%lld outer=%lld", k, (long long)gr->rows, (long long)gr->outer);
    if (gr->cols > 0)
        text_put(l->t, " cols=%lld", (long long)gr->cols);
}

/* In no group, but in HBM: a view, or a concat whose parts are written in place. */
static bool
is_loose(const Plan *p, OpId o)
{
    const Op *op = graph_op(p->g, o);
    return op->nout > 0 && p->group_of[o.i] == 0 && (p->view_base[op->out.i].i || p->stored[op->out.i]);
}

static void
print_group(const Lines *l, uint32_t k)
{
    const Group *gr = &l->p->groups.p[k];
    int64_t value[KB_COUNT];
    get_knobs(gr, value);
    text_puts(l->t, "  ");
    put_frame(l, k);
    for (int i = 0; i < KB_COUNT; i++)
        if (has_knob(gr, i))
            text_put(l->t, " %s=%lld", knobs[i].name, (long long)value[i]);
    text_puts(l->t, " {\n");
    for (uint32_t m = 0; m < gr->n; m++) {
        text_puts(l->t, "    ");
        put_op(l, l->p->member.p[gr->first + m]);
        text_puts(l->t, "\n");
    }
    text_puts(l->t, "  }\n");
}

Status
plan_print(const Plan *p, Text *t)
{
    Lines l = {.p = p, .t = t};
    TRY(val_numbers(p->g, &p->g->cx->scratch, &l.number));
    text_put(t, "plan %s", target_names[p->target]);
    if (p->row_bytes > 0 || p->max_ops > 0)
        text_put(t, " row_bytes=%lld max_ops=%lld", (long long)p->row_bytes, (long long)p->max_ops);
    text_puts(t, " {\n");
    FOR_OPS(p->g, o) {
        if (!is_loose(p, o))
            continue;
        text_puts(t, "  ");
        put_op(&l, o);
        text_puts(t, "\n");
    }
    for (uint32_t k = 0; k < p->groups.n; k++)
        print_group(&l, k);
    text_puts(t, "}\n");
    return t->st;
}

/* ---- reading ---- */

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

/* What l->t holds stands here. */
static Status
need_same(Scan *sc, const Lines *l)
{
    TRY(l->t->st);
    const char *at = l->t->p;
    char what[200];
    for (at += strspn(at, " "); *at; at += strspn(at, " "))
        if (!same_token(sc, &at)) {
            size_t n = MIN(strlen(l->t->p), sizeof what - 10);
            memcpy(what, "`", 1);
            memcpy(what + 1, l->t->p, n);
            memcpy(what + 1 + n, strlen(l->t->p) > n ? "...`" : "`", strlen(l->t->p) > n ? 5 : 2);
            return scan_expected(sc, what);
        }
    return ST_OK;
}

static Status
read_knob(Scan *sc, const Group *gr, int k, int64_t *out)
{
    char what[32] = "";
    Slice w = scan_word(sc);
    strncat(strncat(what, knobs[k].name, 20), "=", 2);
    if (!slice_is(w, knobs[k].name)) {
        sc->p = w.p;
        return scan_expected(sc, what);
    }
    TRY(scan_need(sc, '='));
    scan_blanks(sc);
    const char *at = sc->p;
    TRY(scan_int(sc, out));
    if (*out < knobs[k].lo || *out > knob_most(gr, k) || *out % knobs[k].step)
        return SCAN_FAIL(sc, at, "NKI-4501 plan: %s is %lld, expected a multiple of %lld from %lld to %lld",
                         knobs[k].name, (long long)*out, (long long)knobs[k].step, (long long)knobs[k].lo,
                         (long long)knob_most(gr, k));
    return ST_OK;
}

static Status
read_knobs(Scan *sc, Group *gr)
{
    int64_t value[KB_COUNT];
    const char *at = sc->p;
    get_knobs(gr, value);
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

static Status
read_op(Scan *sc, const Lines *l, OpId o)
{
    l->t->n = 0;
    put_op(l, o);
    TRY(need_same(sc, l));
    return scan_line_end(sc);
}

static Status
read_group(Scan *sc, const Lines *l, uint32_t k, Group *gr)
{
    scan_lines(sc);
    gr->line = sc->line;
    l->t->n = 0;
    put_frame(l, k);
    TRY(need_same(sc, l));
    TRY(read_knobs(sc, gr));
    TRY(scan_need(sc, '{'));
    TRY(scan_line_end(sc));
    for (uint32_t m = 0; m < gr->n; m++)
        TRY(read_op(sc, l, l->p->member.p[gr->first + m]));
    TRY(scan_need(sc, '}'));
    return scan_line_end(sc);
}

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

/* `plan trn2 row_bytes=32768 max_ops=16 {`; without limits both are 0. */
static Status
read_header(Scan *sc, int target, int64_t *row_bytes, int64_t *max_ops)
{
    scan_lines(sc);
    const char *at = sc->p;
    *row_bytes = *max_ops = 0;
    Slice plan = scan_word(sc), name = scan_word(sc);
    bool ok = slice_is(plan, "plan") && slice_is(name, target_names[target]);
    if (ok && !scan_peek(sc, '{') && sc->p < sc->end && is_word_char(*sc->p)) {
        TRY(read_limit(sc, "row_bytes", LEAST_ROW, row_bytes));
        TRY(read_limit(sc, "max_ops", 1, max_ops));
    }
    if (!ok || !scan_take(sc, '{'))
        return SCAN_FAIL(sc, at, "NKI-4015 plan: expected `plan %s {` ... `}`, got `%.*s`", target_names[target],
                         (int)MIN(sc->end - at, 24), at);
    return scan_line_end(sc);
}

static Scan
scan_text(Ctx *cx, const char *text)
{
    return (Scan){.cx = cx, .p = text, .end = text + strlen(text), .line_start = text, .line = 1};
}

Status
plan_limits(Ctx *cx, const char *text, CompileOptions *opt)
{
    Scan sc = scan_text(cx, text);
    return read_header(&sc, opt->target, &opt->row_bytes, &opt->max_ops);
}

static Status
read_body(Scan *sc, const Lines *l, Plan *p)
{
    if (scan_peek(sc, '}'))
        return ST_OK; /* limits only */
    FOR_OPS(p->g, o)
        if (is_loose(p, o))
            TRY(read_op(sc, l, o));
    for (uint32_t k = 0; k < p->groups.n; k++)
        TRY(read_group(sc, l, k, &p->groups.p[k]));
    return ST_OK;
}

Status
plan_apply(Plan *p, const char *text)
{
    Ctx *cx = p->g->cx;
    Scan sc = scan_text(cx, text);
    Text t;
    Lines l = {.p = p, .t = &t};
    int64_t row_bytes, max_ops;
    text_init(&t, cx, &cx->scratch);
    TRY(val_numbers(p->g, &cx->scratch, &l.number));
    TRY(read_header(&sc, p->target, &row_bytes, &max_ops));
    TRY(read_body(&sc, &l, p));
    TRY(scan_need(&sc, '}'));
    scan_lines(&sc);
    return sc.p < sc.end ? scan_expected(&sc, "the end of the text") : ST_OK;
}
