/* undefined.c - results that the device leaves undefined: activations outside of their range, logic on other than 0 and 1.
 *
 * An activation whose argument (after scale and bias) is outside of the function's range (tile/act.def) delivers a mark, a
 * NaN with a payload of its own. Arithmetic hands the payload on, copies and selects move it, so a lane that a program
 * computes and then discards does no harm. Who would turn it into something else fails: an output, a sum or another
 * reduction, a product, a comparison, a predicate, a conversion to a dtype without room for the mark. The failure stands
 * at the activation.
 *
 * Until the first mark all of this costs one look at the arguments of functions that have a range.
 */
#include "eval/machine.h"

#include <math.h>
#include <string.h>

static float
mark(void)
{
    const uint32_t u = MARK;
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* ---- activations ---- */

CLONES static bool
any_outside(const float *x, int64_t n, float lo, float hi, bool of_magnitude)
{
    int out = 0;
    for (int64_t i = 0; i < n; i++) {
        float v = of_magnitude ? fabsf(x[i]) : x[i];
        out |= (v < lo) | (v > hi);
    }
    return out != 0;
}

static bool
is_outside(const Domain *d, float x)
{
    double v = d->of_magnitude ? fabs((double)x) : (double)x;
    return v < d->lo || v > d->hi;
}

Status
bad_result(Machine *m, const char *use)
{
    const Instr *in = m->undefined_by;
    const Domain *d = act_domain(in->func);
    return bad(m, in, "%s is defined %s %g to %g and was given %g: the result is undefined, and %s",
               enum_name(AK_act, in->func), d->of_magnitude ? "for magnitudes from" : "from", d->lo, d->hi,
               (double)m->undefined_arg, use);
}

static void
remember(Machine *m, const Instr *in, float x)
{
    if (m->undefined_by)
        return;
    m->undefined_by = in;
    m->undefined_arg = x;
}

Status
act_apply(Machine *m, const Instr *in, float *y, const float *x, int64_t n)
{
    const Domain *d = act_domain(in->func);
    bool outside = d->bounded && any_outside(x, n, (float)d->lo, (float)d->hi, d->of_magnitude);
    if (!outside && !m->undefined_by) {
        act_fns[in->func](y, x, n);
        return ST_OK;
    }
    float *was = (float *)(void *)m->stage[5]; /* y may be x */
    bool found = false;
    memcpy(was, x, (size_t)n * sizeof(float));
    act_fns[in->func](y, x, n);
    for (int64_t i = 0; i < n; i++) {
        if (!is_mark(was[i]) && !is_outside(d, was[i]))
            continue;
        if (!is_mark(was[i]))
            remember(m, in, was[i]);
        y[i] = mark();
        found = true;
    }
    return found && has_opnd(in, KA_reduce_res) ? bad_result(m, "is part of a sum") : ST_OK;
}

/* ---- conversions ---- */

void
round_to(Machine *m, DType dt, const float *from, int64_t n, void *to)
{
    dtype_from_f32(dt, from, n, to, 1);
    if (!m->undefined_by)
        return;
    for (int64_t i = 0; i < n; i++) {
        uint16_t as = dt == DT_bf16 ? MARK >> 16 : MARK_F16;
        if (!is_mark(from[i]) || dt == DT_f32)
            continue;
        if (dt == DT_bf16 || dt == DT_f16)
            memcpy((uint8_t *)to + i * 2, &as, sizeof(as));
        else
            m->undefined_lost = true;
    }
}

Status
check_kept(Machine *m)
{
    return m->undefined_lost ? bad_result(m, "is converted") : ST_OK;
}

/* ---- logic ---- */

Status
check_logic(Machine *m, const Instr *in, int op, const float *x, int64_t n)
{
    for (int64_t i = 0; is_logic(op) && i < n; i++)
        if (x[i] != 0 && x[i] != 1)
            return bad(m, in, "%s is defined for 0 and 1 and was given %g", enum_name(AK_alu, op), (double)x[i]);
    return ST_OK;
}
