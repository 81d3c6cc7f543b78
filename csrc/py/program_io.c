/* program_io.c - what must be known of a program before it runs: what it takes and gives, whether it keeps the rules,
 * how much work it may be.
 *
 * in:   a stage of a compilation, or a program that came as text
 * out:  its values; false with an exception set
 */
#include "py/py.h"

#include <string.h>

/* *v: allocated with PyMem; -1 with an exception. Indices are dense (graph_check). */
int
program_io(Session *s, const Graph *g, bool outputs, Val **v)
{
    const Val *list = outputs ? g->outputs.p : g->inputs.p;
    bool tile = g->dialect == &tile_dialect;
    BufKind kind = outputs ? BK_output : BK_input;
    uint32_t n = outputs ? g->outputs.n : g->inputs.n;

    if (tile && outputs) {
        n = 0;
        FOR_OPS(g, o)
            n += interface_kind(g, graph_op(g, o)) == kind;
    }
    *v = PyMem_Calloc((size_t)n + 1, sizeof(Val));
    if (!*v) {
        PyErr_NoMemory();
        return -1;
    }
    if (n && !(tile && outputs))
        memcpy(*v, list, sizeof(Val) * n);
    if (tile && outputs)
        FOR_OPS(g, o) {
            const Op *op = graph_op(g, o);

            if (interface_kind(g, op) == kind)
                (*v)[attr_int(&s->cx, op->attr, A_index, 0)] = op->out;
        }
    return (int)n;
}

/* What reads a program that came as text wants it verified; what was compiled is. */
bool
program_is_legal(Program *p)
{
    Session *s = p->session;
    Status st;

    if (!p->foreign)
        return true;
    if (!session_enter(s))
        return false;
    st = p->graph->dialect == &tile_dialect ? tile_verify(p->graph) : tensor_verify(p->graph);
    session_leave(s);
    if (st != ST_OK)
        raise_status(s, st == ST_NOMEM ? st : ST_USER, E_Verify);
    return st == ST_OK;
}

bool
work_allowed(Session *s, WorkLimit limit, double once, double all)
{
    double most = (double)limit.most + (limit.text ? 2 * once : 0);

    if (all <= most)
        return true;
    raise_plain(
        s->st, E_HardwareLimit,
        "NKI-1015 running this program takes %s%.4g units of work (an element touched is one, an instruction %d), "
        "%.4g are allowed; allow more with max_work",
        all > 2e18 ? "more than " : "", MIN(all, 2e18), INSTR_WORK, most);
    return false;
}
