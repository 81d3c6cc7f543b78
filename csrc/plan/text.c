/* text.c - the text of a plan.
 *
 * in:   a plan; or a text and the plan whose decisions it is to replace
 * out:  the text; the plan with the decisions of the text, or an error with its line
 */
#include "plan/plan.h"

#include <stdio.h>
#include <string.h>

#define LISTED 200u /* members of a group that the text names */

static void
print_range(Text *t, const char *what, Range r)
{
    if (r.lo < r.hi)
        text_put(t, " %s=[%d, %d)", what, r.lo, r.hi);
}

static void
print_member(const Plan *p, OpId o, Text *t)
{
    static const char *const roles[] = {"none", "row", "free", "mat", "acc", "move"};
    const Op *op = graph_op(p->g, o);
    Span s = p->span[op->out.i];
    text_put(t, "    # %s", roles[s.role]);
    print_range(t, "spine", s.spine);
    print_range(t, "outer", s.outer);
    text_put(t, "%s: %s ", p->stored[op->out.i] ? " stored" : "", op_def(p->g, op)->name);
    print_type(val_type(p->g, op->out), t);
    text_puts(t, "\n");
}

/* Decisions are lines that plan_apply reads back; what they are about stands in comments. */
Status
plan_print(const Plan *p, Text *t)
{
    text_put(t, "plan %s", target_names[p->target]);
    if (p->row_bytes > 0 || p->max_ops > 0)
        text_put(t, " row_bytes=%lld max_ops=%lld", (long long)p->row_bytes, (long long)p->max_ops);
    text_puts(t, " {\n");
    for (uint32_t k = 0; k < p->groups.n; k++) {
        const Group *gr = &p->groups.p[k];
        text_put(t,
                 "  group %u rows=%lld outer=%lld per_tile=%d in_place=%d bufs=%d psum_width=%d psum_bufs=%d "
                 "resident=%lld\n",
                 k, (long long)gr->rows, (long long)gr->outer, gr->per_tile, gr->in_place, gr->bufs, gr->psum_width,
                 gr->psum_bufs, (long long)gr->resident);
        for (uint32_t m = 0; m < MIN(gr->n, LISTED); m++)
            print_member(p, p->member.p[gr->first + m], t);
        if (gr->n > LISTED)
            text_put(t, "    # and %u more\n", gr->n - LISTED);
    }
    text_puts(t, "}\n");
    return t->st;
}

static Status
apply_line(Plan *p, const char *line, int number)
{
    unsigned k;
    long long rows, outer, per, place, bufs, width, psum, resident;
    int n = sscanf(line,
                   " group %u rows=%lld outer=%lld per_tile=%lld in_place=%lld bufs=%lld psum_width=%lld "
                   "psum_bufs=%lld resident=%lld",
                   &k, &rows, &outer, &per, &place, &bufs, &width, &psum, &resident);
    if (n != 9)
        return fail_at(p->g->cx, number, 1,
                       "NKI-4011 plan: expected `group K rows= outer= per_tile= in_place= bufs= psum_width= psum_bufs= "
                       "resident=`");
    if (k >= p->groups.n)
        return fail_at(p->g->cx, number, 1, "NKI-4012 plan: group %u of a plan with %u groups", k, p->groups.n);
    Group *gr = &p->groups.p[k];
    if (rows != gr->rows || outer != gr->outer)
        return fail_at(p->g->cx, number, 1,
                       "NKI-4013 plan: group %u has rows=%lld outer=%lld here, not rows=%lld outer=%lld", k,
                       (long long)gr->rows, (long long)gr->outer, rows, outer);
    bool ok = per >= 1 && per <= MAX(gr->rows / 128, 1) && bufs >= 1 && bufs <= 8 && width >= 512 && width <= 4096 &&
              width % 512 == 0 && psum >= 1 && psum <= 8 && resident >= 0 && resident <= 1 << 20;
    if (!ok)
        return fail_at(p->g->cx, number, 1,
                       "NKI-4014 plan: group %u: per_tile in 1..%lld, bufs and psum_bufs in 1..8, psum_width a "
                       "multiple of 512 up to 4096, resident up to 1048576",
                       k, (long long)MAX(gr->rows / 128, 1));
    gr->per_tile = (int32_t)per;
    gr->in_place = place != 0;
    gr->bufs = (int32_t)bufs;
    gr->psum_width = (int32_t)width;
    gr->psum_bufs = (int32_t)psum;
    gr->resident = resident;
    cut_columns(p, gr);
    return ST_OK;
}

void
plan_limits(const char *text, CompileOptions *opt)
{
    long long bytes = 0, ops = 0;
    if (sscanf(text, " plan %*s row_bytes=%lld max_ops=%lld", &bytes, &ops) == 2) {
        opt->row_bytes = MAX(bytes, 0);
        opt->max_ops = MAX(ops, 0);
    }
}

static Status
check_header(const Plan *p, const char *text)
{
    char target[16] = "";
    sscanf(text, " plan %15s", target);
    if (strcmp(target, target_names[p->target]) == 0 && strchr(text, '}'))
        return ST_OK;
    return fail_at(p->g->cx, 1, 1, "NKI-4015 plan: expected `plan %s {` ... `}`, got `%.24s`", target_names[p->target],
                   text);
}

Status
plan_apply(Plan *p, const char *text)
{
    int number = 1;
    TRY(check_header(p, text));
    for (const char *at = text; *at; number++) {
        const char *end = strchr(at, '\n');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        char line[400];
        if (n >= sizeof line)
            n = sizeof line - 1;
        memcpy(line, at, n);
        line[n] = 0;
        const char *word = line + strspn(line, " \t");
        if (strncmp(word, "group", 5) == 0)
            TRY(apply_line(p, line, number));
        else if (*word && *word != '#' && *word != '}' && strncmp(word, "plan", 4) != 0)
            return fail_at(p->g->cx, number, 1, "NKI-4016 plan: cannot read `%.40s`", word);
        at = end ? end + 1 : at + n + strlen(at + n);
    }
    return ST_OK;
}
