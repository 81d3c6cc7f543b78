/* verify_number.c - rules of the numbers that an instruction carries: immediates, and the integers of index patterns.
 *
 * in:   an instruction whose operands are there
 * out:  violations
 * rule: an engine computes in f32 and counts in 32-bit integers; an infinity is a number of f32, a rounded one is not.
 */
#include "tile/verify.h"

#include <math.h>

void
need_int_value(Check *c, Key k, DType dt)
{
    double v = attr_float(c->cx, c->op->attr, k, 0), lo;
    if (attr_find(c->cx, c->op->attr, k) == NULL)
        return;
    lo = dtypes[dt].kind == DK_int ? -dtypes[dt].max - 1 : 0;
    if (v != floor(v) || v < lo || v > dtypes[dt].max)
        report(c, "immediate", "NKI-3011 %s=%g is not a value of %s", attr_name(k), v, dtypes[dt].name);
}

/* What does not become infinite when it is converted. */
static void
need_float_value(Check *c, Key k, DType dt)
{
    double v = attr_float(c->cx, c->op->attr, k, 0);
    if (isfinite(v) && fabs(v) > dtypes[dt].max)
        report(c, "immediate", "NKI-3096 %s=%g is beyond the largest %s, %g", attr_name(k), v, dtypes[dt].name,
               dtypes[dt].max);
}

void
check_immediates(Check *c)
{
    static const Key keys[] = {A_imm0, A_imm1, A_scale, A_bias};
    const AttrItem *item;
    int n;
    DType dt = c->op->code == K_memset ? (DType)c->in[KI_dst].v->dtype : DT_f32;
    item = attr_items(c->cx, c->op->attr, &n);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < COUNT_OF(keys); k++)
            if (item[i].key == keys[k] && is_float(dt))
                need_float_value(c, keys[k], dt);
}

static void
need_int32(Check *c, const char *what, int64_t v)
{
    if (v < INT32_MIN || v > INT32_MAX)
        report(c, "index-pattern", "NKI-3100 %s is %lld, indices are 32-bit integers", what, (long long)v);
}

/* Operand i has the shape that the instruction's index pattern says. */
void
index_pattern(Check *c, int i)
{
    const int64_t *p;
    int n = attr_ints(c->cx, c->op->attr, A_pattern, &p);
    int64_t count = 1;
    if (n == 0 || n % 2 != 0 || n / 2 > (int)c->hw->ap_free_dims) {
        report(c, "index-pattern", "NKI-3046 pattern has %d numbers, allowed: 1 to %d (step, num) pairs", n,
               (int)c->hw->ap_free_dims);
        return;
    }
    for (int k = 1; k < n; k += 2) {
        if (p[k] < 1 || __builtin_mul_overflow(count, p[k], &count)) {
            report(c, "index-pattern", "NKI-3047 num %lld of pair %d is out of range", (long long)p[k], k / 2);
            return;
        }
    }
    if (count != c->in[i].use.count)
        report(c, "element-count", "NKI-3048 the pattern has %lld elements, %s has %lld per partition",
               (long long)count, operand_name(c, i), (long long)c->in[i].use.count);
    need_int32(c, "offset", attr_int(c->cx, c->op->attr, A_offset, 0));
    need_int32(c, "channel_multiplier", attr_int(c->cx, c->op->attr, A_channel_multiplier, 0));
    for (int k = 0; k < n; k++)
        need_int32(c, k % 2 ? "a num of the pattern" : "a step of the pattern", p[k]);
}
