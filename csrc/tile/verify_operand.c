/* verify_operand.c - rules that hold for the operands of every instruction: engine, spaces, partitions, patterns.
 *
 * in:   an instruction whose operands are decoded
 * out:  violations; whether all operands are there and are buffers, so that the instruction's own rules can be applied
 * rule: what is allowed stands in the row of ops.def and in hw.def
 */
#include "tile/verify.h"

/* Where operands may start: the quadrant, half or whole array their size rounds up to. DMAs may start anywhere. */
static void
start_partition(Check *c, int i)
{
    const Opnd *x = &c->in[i];
    int q = (int)c->hw->quadrant, n = x->use.ap->nparts;
    int unit = n > 2 * q ? 4 * q : n > q ? 2 * q : q;
    const Affine *a = &x->use.ap->part;
    bool bad = a->c % unit != 0;
    for (uint32_t k = 0; k < a->nterms; k++)
        bad |= c->val[a->term[k].var.i].count > 1 && a->term[k].coef % unit != 0;
    if (bad)
        report(c, "start-partition", "NKI-3074 %s has %d partitions and starts at %lld%s, allowed: multiples of %d",
               operand_name(c, i), n, (long long)a->c, a->nterms ? " plus a loop's step" : "", unit);
}

/* Dims that hardware needs: neighbours that form one run count once. */
static int
dim_count(const Ap *ap)
{
    if (ap->ndim <= 1)
        return (int)ap->ndim;
    Ap m = *ap;
    return ap_merge(&m);
}

static void
pattern_fields(Check *c, int i)
{
    const Ap *ap = c->in[i].use.ap;
    int64_t reach = (int64_t)c->hw->ap_stride_max, most = (int64_t)c->hw->ap_count_max;
    for (uint32_t d = 0; d < ap->ndim; d++) {
        ApDim x = ap->dim[d];
        if (x.count > most)
            report(c, "pattern-count", "NKI-3075 dim %u of %s has %lld elements, at most %lld are allowed", d,
                   operand_name(c, i), (long long)x.count, (long long)most);
        if (x.count > 1 && x.stride > reach)
            report(c, "pattern-stride", "NKI-3076 dim %u of %s has stride %lld, at most %lld is allowed", d,
                   operand_name(c, i), (long long)x.stride, (long long)reach);
    }
}

/* On chip and in HBM: NKI documents no pattern that runs backwards. */
static void
forwards(Check *c, int i)
{
    const Ap *ap = c->in[i].use.ap;
    for (uint32_t d = 0; d < ap->ndim; d++)
        if (ap->dim[d].count > 1 && ap->dim[d].stride < 0)
            report(c, "pattern-stride", "NKI-3077 dim %u of %s has stride %lld, at least 0 is needed", d,
                   operand_name(c, i), (long long)ap->dim[d].stride);
}

static void
free_size(Check *c, int i)
{
    const Opnd *x = &c->in[i];
    int64_t limit = (int64_t)c->hw->max_free_sbuf;
    if (x->v->space == SP_psum) /* given in f32 elements: the bytes of the partition */
        limit = (int64_t)c->hw->max_free_psum * 4 / x->v->esize;
    if (x->use.count > limit)
        report(c, "free-size", "NKI-3078 %s has %lld elements per partition, at most %lld are allowed in %s",
               operand_name(c, i), (long long)x->use.count, (long long)limit, space_names[x->v->space]);
}

static void
check_pattern(Check *c, int i)
{
    const Opnd *x = &c->in[i];
    bool chip = is_chip(x->v->space);
    int limit = (int)(chip ? c->hw->ap_free_dims : c->hw->ap_dma_dims);
    if ((int)x->use.ap->ndim > limit) {
        int n = dim_count(x->use.ap);
        if (n > limit)
            report(c, "pattern-dims", "NKI-3079 %s has %d dims, at most %d are allowed in %s", operand_name(c, i), n,
                   limit, space_names[x->v->space]);
    }
    forwards(c, i);
    if (!chip)
        return;
    if (x->use.ap->nparts > (int)c->hw->pmax)
        report(c, "partition-limit", "NKI-3080 %s has %d partitions, at most %d are allowed", operand_name(c, i),
               x->use.ap->nparts, (int)c->hw->pmax);
    if (c->def->flags & F_DMA)
        return;
    start_partition(c, i);
    pattern_fields(c, i);
    free_size(c, i);
}

/* True when the operand can be looked at further. */
static bool
check_operand(Check *c, int i)
{
    const OperandDef *o = &c->def->operand[i];
    const Opnd *x = &c->in[i];
    if (o->spaces == 0) /* a loop variable, or absent */
        return true;
    if (x->use.ap == NULL) {
        bool absent = x->v == NULL && (o->role & R_optional);
        if (!absent)
            report(c, "operand", "NKI-3081 %s is missing", o->name);
        return absent;
    }
    if (x->v->is != V_BUFFER) {
        report(c, "operand", "NKI-3082 %s is no buffer", o->name);
        return false;
    }
    if (!(o->spaces & BIT(x->v->space)))
        report(c, "operand-space", "NKI-3083 %s may not be in %s", o->name, space_names[x->v->space]);
    else if (c->engine == EN_gpsimd && x->v->space != SP_sbuf)
        report(c, "operand-space", "NKI-3084 %s is in %s, the gpsimd engine works in SBUF only", o->name,
               space_names[x->v->space]);
    check_pattern(c, i);
    return true;
}

static bool
check_engine(Check *c)
{
    if (c->hw->gen < c->def->min_gen) {
        report(c, "engine-generation", "NKI-3085 needs generation %d, %s is generation %d", c->def->min_gen, c->target,
               c->hw->gen);
        return false;
    }
    if ((c->def->flags & F_DMA) || (c->def->engines & BIT(c->engine)))
        return true;
    report(c, "engine", "NKI-3086 does not run on the %s engine", enum_name(AK_engine, c->engine));
    return false;
}

bool
check_operands(Check *c)
{
    bool ok = check_engine(c);
    for (int i = 0; i < c->op->nin; i++)
        ok &= check_operand(c, i);
    return ok;
}
