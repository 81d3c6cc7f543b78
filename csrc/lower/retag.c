/* retag.c - the same tile program with other attributes: what schedule and allocate have in common.
 *
 * in:   a tile program and what each op's attributes become
 * out:  the same ops, operands, values and names; ids do not change
 */
#include "lower/lower.h"

static Status
copy_ops(const Graph *in, Retag *retag, void *env, Graph *out)
{
    FOR_OPS(in, o) {
        const Op *op = graph_op(in, o);
        AttrId attr = op->attr;
        TyId type = op->nout ? in->vals.p[op->out.i].type : (TyId){0};
        OpId made;
        TRY(retag(env, op, &attr));
        TRY(graph_append(out, op->code, in->operands.p + op->in, op->nin, attr, op->loc, &type, op->nout, &made));
        if (op->nout)
            out->vals.p[out->ops.p[made.i].out.i].name = in->vals.p[op->out.i].name;
    }
    return graph_copy_interface(in, NULL, out);
}

Status
program_retag(const Graph *in, Retag *retag, void *env, Graph **out)
{
    TRY(graph_new(in->cx, in->dialect, str_get(in->cx, in->name), out));
    (*out)->target = in->target;
    return graph_end(copy_ops(in, retag, env, *out), out);
}
