/* pipeline_link.c - what each node of a straight program waits for.
 *
 * in:   nodes in the naive order
 * out:  edges from earlier nodes, and the nodes that touch each value
 * rule: every order of the nodes that keeps the edges computes the same, bit for bit. A write hides what it covers; a
 *       read hides nothing: in another order it may come before one that it came after.
 */
#include "lower/pipeline.h"

#include <string.h>

#define NONE UINT32_MAX

typedef struct Link {
    Straight *s;
    uint32_t *reads, *writes; /* by value: its last touch of the kind that still counts */
    uint32_t *next;           /* by touch: the one before of the same value and kind */
    uint32_t *node_of;        /* by touch */
    uint32_t *edge_to;        /* by node: 1 + its edge to the node at hand, if there is one */
} Link;

/* Whether kept loops move both by as much. */
static bool
move_alike(const Straight *s, const Touch *a, const Touch *b)
{
    const bool *kept = s->src->kept;
    for (int side = 0; side < 2 && (a->moves || b->moves); side++) {
        const Ap *x = side ? b->ap : a->ap, *y = side ? a->ap : b->ap;
        for (uint32_t i = 0; i < x->off.nterms; i++)
            if (kept[x->off.term[i].var.i] && affine_coef(&y->off, x->off.term[i].var) != x->off.term[i].coef)
                return false;
        for (uint32_t i = 0; i < x->part.nterms; i++)
            if (kept[x->part.term[i].var.i] && affine_coef(&y->part, x->part.term[i].var) != x->part.term[i].coef)
                return false;
    }
    return true;
}

static bool
touches_overlap(const Straight *s, const Touch *a, const Touch *b)
{
    const Value *v = &s->value.p[a->buf];
    if (!move_alike(s, a, b))
        return true;
    if (!extents_overlap(&a->at, &b->at))
        return false;
    return v->chip || a->buf != b->buf || hbm_overlap(val_type(s->g, v->val), a->ap, a->off, b->ap, b->off);
}

static Status
add_edge(Link *k, uint32_t from, unsigned why)
{
    Straight *s = k->s;
    uint32_t *at = &k->edge_to[from];
    if (*at) {
        s->pred.p[*at - 1].why |= (uint8_t)why;
        return ST_OK;
    }
    VEC_PUSH(s->g->cx, s->a, &s->pred, (Arc){from, (uint8_t)why});
    *at = s->pred.n;
    return ST_OK;
}

/* Edges to the node of touch `t` from the touches of a list that meet it. */
static Status
wait_for(Link *k, uint32_t t, uint32_t list)
{
    const Touch *now = &k->s->touch.p[t];
    for (; list != NONE; list = k->next[list]) {
        const Touch *old = &k->s->touch.p[list];
        unsigned why = role_deps(old->role, now->role);
        if (why && k->node_of[list] != k->node_of[t] && touches_overlap(k->s, old, now))
            TRY(add_edge(k, k->node_of[list], why));
    }
    return ST_OK;
}

/* Takes out of a list what the write `t` covers: who comes later waits for the write. */
static void
hide(Link *k, uint32_t t, uint32_t *list)
{
    const Touch *now = &k->s->touch.p[t];
    while (*list != NONE) {
        const Touch *old = &k->s->touch.p[*list];
        bool covered =
            k->s->value.p[now->buf].chip && extent_contains(&now->at, &old->at) && move_alike(k->s, now, old);
        if (covered && k->node_of[*list] != k->node_of[t])
            *list = k->next[*list];
        else
            list = &k->next[*list];
    }
}

static Status
link_node(Link *k, uint32_t i)
{
    Straight *s = k->s;
    Node *n = &s->node.p[i];
    n->pred = s->pred.n;
    for (uint32_t t = n->touch; t < n->touch + n->ntouch; t++) {
        const Touch *now = &s->touch.p[t];
        k->node_of[t] = i;
        if (now->value == NO_VALUE)
            continue;
        TRY(wait_for(k, t, k->writes[now->value]));
        if (now->role & R_write)
            TRY(wait_for(k, t, k->reads[now->value]));
    }
    n->npred = s->pred.n - n->pred;
    for (uint32_t e = n->pred; e < s->pred.n; e++)
        k->edge_to[s->pred.p[e].node] = 0;
    for (uint32_t t = n->touch; t < n->touch + n->ntouch; t++) {
        const Touch *now = &s->touch.p[t];
        if (now->value == NO_VALUE)
            continue;
        bool writes = now->role & R_write;
        uint32_t *list = writes ? &k->writes[now->value] : &k->reads[now->value];
        if (writes) {
            hide(k, t, &k->writes[now->value]);
            hide(k, t, &k->reads[now->value]);
        }
        k->next[t] = *list;
        *list = t;
    }
    return ST_OK;
}

/* The edges once more, by the node that they leave. */
static Status
turn_edges(Straight *s)
{
    uint32_t at = 0, n = s->node.n;
    NEW(s->g->cx, s->a, s->succ, s->pred.n + 1);
    for (uint32_t e = 0; e < s->pred.n; e++)
        s->node.p[s->pred.p[e].node].nsucc++;
    for (uint32_t i = 0; i < n; i++) {
        s->node.p[i].succ = at;
        at += s->node.p[i].nsucc;
        s->node.p[i].nsucc = 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t e = 0; e < s->node.p[i].npred; e++) {
            Arc x = s->pred.p[s->node.p[i].pred + e];
            Node *from = &s->node.p[x.node];
            s->succ[from->succ + from->nsucc++] = (Arc){i, x.why};
        }
    }
    return ST_OK;
}

static Status
list_users(Straight *s)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < s->node.n; i++)
        for (uint32_t k = 0; k < s->node.p[i].nvalue; k++)
            s->value.p[s->used.p[s->node.p[i].value + k]].nuser++;
    for (uint32_t v = 0; v < s->value.n; v++) {
        s->value.p[v].user = at;
        at += s->value.p[v].nuser;
        s->value.p[v].nuser = 0;
    }
    NEW(s->g->cx, s->a, s->users, at + 1);
    for (uint32_t i = 0; i < s->node.n; i++) {
        const Node *n = &s->node.p[i];
        for (uint32_t k = 0; k < n->nvalue; k++) {
            Value *v = &s->value.p[s->used.p[n->value + k]];
            s->users[v->user + v->nuser++] = i;
        }
    }
    return ST_OK;
}

Status
straight_link(Straight *s)
{
    Link k = {.s = s};
    Ctx *cx = s->g->cx;
    NEW(cx, s->a, k.reads, s->value.n);
    NEW(cx, s->a, k.writes, s->value.n);
    NEW(cx, s->a, k.next, s->touch.n);
    NEW(cx, s->a, k.node_of, s->touch.n);
    NEW(cx, s->a, k.edge_to, s->node.n);
    memset(k.reads, 0xff, sizeof(*k.reads) * s->value.n);
    memset(k.writes, 0xff, sizeof(*k.writes) * s->value.n);
    TRY(vec_reserve(cx, s->a, &s->pred, 2 * s->node.n, sizeof(Arc)));
    for (uint32_t i = 0; i < s->node.n; i++)
        TRY(link_node(&k, i));
    TRY(turn_edges(s));
    return list_users(s);
}
