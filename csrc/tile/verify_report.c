/* verify_report.c - what the verifier's files share: saying what is violated, and what loops make of an offset.
 *
 * in:   a rule and the numbers given and allowed
 * out:  a violation of the op at hand, or of another; none once as many as wanted are there
 */
#include "tile/verify.h"

#include <stdio.h>
#include <string.h>

static Status
push_violation(Check *c, OpId o, const char *rule, const char *fmt, va_list ap)
{
    const Op *op = graph_op(c->g, o);
    char buf[512], *text;
    int n = 0, code = take_code(&fmt);
    if (o.i != 0)
        n = snprintf(buf, sizeof(buf), "%s: ", op_def(c->g, op)->name);
    vsnprintf(buf + n, sizeof(buf) - (size_t)n, fmt, ap);
    NEW(c->cx, c->a, text, strlen(buf) + 1);
    memcpy(text, buf, strlen(buf) + 1);
    VEC_PUSH(c->cx, c->a, c->out, (Violation){o, op->loc, code, rule, text});
    return ST_OK;
}

bool
was_said(const Check *c, OpId o, const char *rule)
{
    for (uint32_t i = 0; i < c->out->n; i++)
        if (c->out->p[i].op.i == o.i && strcmp(c->out->p[i].rule, rule) == 0)
            return true;
    return false;
}

void
report(Check *c, const char *rule, const char *fmt, ...)
{
    va_list ap;
    if (is_full(c))
        return;
    va_start(ap, fmt);
    c->st = push_violation(c, c->at, rule, fmt, ap);
    va_end(ap);
}

void
report_at(Check *c, OpId o, const char *rule, const char *fmt, ...)
{
    va_list ap;
    if (is_full(c))
        return;
    va_start(ap, fmt);
    c->st = push_violation(c, o, rule, fmt, ap);
    va_end(ap);
}

/* One varying term and few iterations are enumerated; several are bounded by the gcd of their coefficients. */
int64_t
affine_residue_max(const Check *c, const Affine *a, int64_t mod)
{
    enum { FEW = 4096 };

    int64_t g = mod, base = ((a->c % mod) + mod) % mod, best = 0, one = 0, steps = 0;
    int varying = 0;
    for (uint32_t i = 0; i < a->nterms; i++) {
        int64_t count = c->val[a->term[i].var.i].count, step = a->term[i].coef % mod;
        if (count <= 1 || step == 0)
            continue;
        g = gcd(g, step);
        varying++;
        one = step;
        steps = count;
    }
    if (varying == 0)
        return base;
    if (varying > 1 || steps > FEW)
        return mod - g + base % g;
    for (int64_t k = 0, r = base; k < steps && k <= mod; k++, r = (r + one + mod) % mod)
        best = MAX(best, r);
    return best;
}
