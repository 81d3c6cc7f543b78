/* print.c - the text form of graphs.
 *
 * One op per line: `%results = op operands {attributes} : types`. A value keeps its name when the
 * name is an identifier and no other value has it; all others are numbered from 1 in order.
 * Everything printed is ASCII and reads back to the same graph; locations are not printed. The brief form, for people
 * and messages, is the same but for the bytes of long constants, and does not read back.
 */
#include "ir/ir.h"

#include <string.h>

const char *const space_names[SP_COUNT] = {
#define SPACE(id) #id,
#include "ir/enums.def"
};
const char *const target_names[TG_COUNT] = {
#define TARGET(id, ...) #id,
#include "ir/enums.def"
};
static const char *const engine_names[EN_COUNT] = {
#define ENGINE(id, ...) #id,
#include "ir/enums.def"
};
static const char *const alu_names[ALU_COUNT] = {
#define ALU(id, ...) #id,
#include "ir/enums.def"
};
static const char *const act_names[ACT_COUNT] = {
#define ACT(id, ...) #id,
#include "ir/enums.def"
};
static const char *const bufkind_names[BK_COUNT] = {
#define BUFKIND(id) #id,
#include "ir/enums.def"
};

/* The names of a kind, NULL when it is not an enumeration (dtypes have a table of their own). */
static const char *const *
enum_table(AttrKind kind, int *n)
{
    switch (kind) {
    case AK_engine:
        *n = EN_COUNT;
        return engine_names;
    case AK_alu:
        *n = ALU_COUNT;
        return alu_names;
    case AK_act:
        *n = ACT_COUNT;
        return act_names;
    case AK_bufkind:
        *n = BK_COUNT;
        return bufkind_names;
    default:
        *n = 0;
        return NULL;
    }
}

const char *
enum_name(AttrKind kind, int value)
{
    int n;
    const char *const *names = enum_table(kind, &n);
    if (kind == AK_dtype)
        return value >= 0 && value < DT_COUNT ? dtypes[value].name : "?";
    return value >= 0 && value < n ? names[value] : "?";
}

static int
find_name(const char *const *names, int count, const char *s, size_t n)
{
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == n && memcmp(names[i], s, n) == 0)
            return i;
    return -1;
}

int
enum_value(AttrKind kind, const char *s, size_t n)
{
    int count;
    DType d;
    const char *const *names = enum_table(kind, &count);
    if (kind == AK_dtype)
        return dtype_from_name(s, n, &d) ? (int)d : n == 4 && !memcmp(s, "none", 4) ? DT_none : -1;
    return find_name(names, count, s, n);
}

int
target_from_name(const char *s, size_t n)
{
    static const int gens[TG_COUNT] = {
#define TARGET(id, gen) gen,
#include "ir/enums.def"
    };
    int t = find_name(target_names, TG_COUNT, s, n);
    for (int i = 0; t < 0 && i < TG_COUNT; i++)
        if (n == 4 && memcmp(s, "gen", 3) == 0 && s[3] == '0' + gens[i])
            t = i;
    return t;
}

/* ---- names of values ---- */

/* Per value: 0 when it is printed by its own name, else its number. */
typedef struct Names {
    Arena arena;
    uint32_t *number;
} Names;

static bool
is_identifier(const char *s)
{
    for (const char *p = s; *p; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_';
        if (!letter && !(p > s && *p >= '0' && *p <= '9'))
            return false;
    }
    return *s != 0;
}

static bool
same_name(const void *env, uint32_t id)
{
    const Graph *const *e = env;
    return e[0]->vals.p[id].name.i == ((const ValDef *)(const void *)e[1])->name.i;
}

Status
val_numbers(const Graph *g, Arena *a, uint32_t **out)
{
    uint32_t *number;
    Map seen = {0};
    uint32_t next = 1;
    NEW(g->cx, a, number, g->vals.n);
    for (uint32_t v = 1; v < g->vals.n; v++) { /* mark the unnamed, and both of two equal names */
        const ValDef *d = &g->vals.p[v];
        if (!d->name.i || !is_identifier(str_get(g->cx, d->name))) {
            number[v] = 1;
            continue;
        }
        const void *env[2] = {g, d};
        uint64_t h = hash_int(d->name.i, 0);
        uint32_t first = map_find(&seen, h, same_name, env);
        if (first)
            number[first] = number[v] = 1;
        else
            TRY(map_insert(g->cx, a, &seen, h, v));
    }
    for (uint32_t v = 1; v < g->vals.n; v++)
        if (number[v])
            number[v] = next++;
    *out = number;
    return ST_OK;
}

typedef struct Printer {
    const Graph *g;
    const uint32_t *number; /* NULL: not known, values are shown as %?id */
    Text *t;
    bool brief; /* the bytes of long constants are left out */
} Printer;

static void
put_val(Printer *p, Val v)
{
    if (v.i == 0 || v.i >= p->g->vals.n)
        text_put(p->t, "%%?%u", v.i);
    else if (p->number && p->number[v.i])
        text_put(p->t, "%%%u", p->number[v.i]);
    else if (p->number)
        text_put(p->t, "%%%s", str_get(p->g->cx, p->g->vals.p[v.i].name));
    else
        text_put(p->t, "%%?%u", v.i);
}

/* ---- types, patterns, attributes ---- */

void
print_type(const Type *ty, Text *t)
{
    if (ty->kind == TY_index) {
        text_puts(t, "index");
        return;
    }
    if (ty->kind == TY_buffer) {
        text_puts(t, space_names[ty->space]);
        text_putn(t, " ", 1);
    }
    text_puts(t, dtypes[ty->dtype].name);
    text_putn(t, "[", 1);
    for (int i = 0; i < ty->rank; i++) {
        if (i)
            text_putn(t, ", ", 2);
        text_int(t, ty->dim[i]);
    }
    text_putn(t, "]", 1);
}

/* a*%i - b*%j + c; the constant last, left out when it is 0 and not alone */
static void
put_affine(Printer *p, const Affine *a)
{
    for (uint32_t i = 0; i < a->nterms; i++) {
        int64_t c = a->term[i].coef;
        if (i)
            text_puts(p->t, c < 0 ? " - " : " + ");
        else if (c < 0)
            text_putn(p->t, "-", 1);
        c = c < 0 ? -c : c;
        if (c != 1) {
            text_int(p->t, c);
            text_putn(p->t, "*", 1);
        }
        put_val(p, a->term[i].var);
    }
    if (!a->nterms) {
        text_int(p->t, a->c);
    } else if (a->c) {
        text_puts(p->t, a->c < 0 ? " - " : " + ");
        text_int(p->t, a->c < 0 ? -a->c : a->c);
    }
}

static bool
is_on_chip(const Type *ty)
{
    return ty->kind == TY_buffer && (ty->space == SP_sbuf || ty->space == SP_psum);
}

static void
put_ap(Printer *p, const Type *buf, const Ap *ap)
{
    text_putn(p->t, "[", 1);
    if (is_on_chip(buf)) {
        put_affine(p, &ap->part);
        text_putn(p->t, "+", 1);
        text_int(p->t, ap->nparts);
        text_putn(p->t, ", ", 2);
    }
    put_affine(p, &ap->off);
    for (uint32_t i = 0; i < ap->ndim; i++) {
        text_puts(p->t, i ? ", " : ": ");
        text_int(p->t, ap->dim[i].count);
        text_putn(p->t, "*", 1);
        text_int(p->t, ap->dim[i].stride);
    }
    text_putn(p->t, "]", 1);
}

static void
put_string(Text *t, const char *s)
{
    text_putn(t, "\"", 1);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            text_put(t, "\\%c", c);
        else if (c == '\n')
            text_putn(t, "\\n", 2);
        else if (c < 32 || c > 126)
            text_put(t, "\\x%02x", c);
        else
            text_putn(t, s, 1);
    }
    text_putn(t, "\"", 1);
}

static void
put_data(Printer *p, const Data *d)
{
    static const char hex[] = "0123456789abcdef";
    Text *t = p->t;
    char line[512];
    size_t k = 0, shown = p->brief && is_long_data(d) ? 8 : d->bytes;
    text_put(t, "%s:0x", dtypes[d->dtype].name);
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = ((const unsigned char *)d->p)[i];
        line[k++] = hex[c >> 4];
        line[k++] = hex[c & 15];
        if (k == sizeof(line)) {
            text_putn(t, line, k);
            k = 0;
        }
    }
    text_putn(t, line, k);
    if (shown < d->bytes)
        text_put(t, "... %zu bytes", d->bytes);
}

static void
put_ints(Text *t, const int64_t *v, int n)
{
    text_putn(t, "[", 1);
    for (int i = 0; i < n; i++) {
        if (i)
            text_putn(t, ", ", 2);
        text_int(t, v[i]);
    }
    text_putn(t, "]", 1);
}

static void
put_item(Printer *p, const AttrItem *a)
{
    AttrKind kind = attr_kind((Key)a->key);
    text_puts(p->t, attr_name((Key)a->key));
    text_putn(p->t, "=", 1);
    switch (kind) {
    case AK_int:
        text_int(p->t, a->i);
        break;
    case AK_bool:
        text_puts(p->t, a->i ? "true" : "false");
        break;
    case AK_float:
        text_float(p->t, a->f);
        break;
    case AK_ints:
        put_ints(p->t, a->ints, a->n);
        break;
    case AK_str:
        put_string(p->t, str_get(p->g->cx, a->s));
        break;
    case AK_data:
        put_data(p, a->data);
        break;
    default:
        text_puts(p->t, enum_name(kind, (int)a->i));
        break;
    }
}

static void
put_attr(Printer *p, AttrId attr)
{
    int n;
    const AttrItem *item = attr_items(p->g->cx, attr, &n);
    for (int i = 0; i < n; i++) {
        text_puts(p->t, i ? ", " : " {");
        put_item(p, &item[i]);
    }
    if (n)
        text_putn(p->t, "}", 1);
}

/* ---- ops and graphs ---- */

static void
put_operand(Printer *p, Operand in)
{
    if (!in.v.i) {
        text_putn(p->t, "_", 1);
        return;
    }
    put_val(p, in.v);
    if (in.ap.i && in.v.i < p->g->vals.n)
        put_ap(p, val_type(p->g, in.v), ap_get(p->g->cx, in.ap));
}

/* A lone index result needs no type. */
static void
put_types(Printer *p, const Op *op)
{
    if (op->nout == 0 || (op->nout == 1 && val_type(p->g, op->out)->kind == TY_index))
        return;
    for (uint32_t i = 0; i < op->nout; i++) {
        text_puts(p->t, i ? ", " : " : ");
        print_type(val_type(p->g, (Val){op->out.i + i}), p->t);
    }
}

static void
put_op(Printer *p, const Op *op)
{
    for (uint32_t i = 0; i < op->nout; i++) {
        put_val(p, (Val){op->out.i + i});
        text_puts(p->t, i + 1 < op->nout ? ", " : " = ");
    }
    text_puts(p->t, op_def(p->g, op)->name);
    for (int i = 0; i < op->nin; i++) {
        text_puts(p->t, i ? ", " : " ");
        put_operand(p, *op_in(p->g, op, i));
    }
    put_attr(p, op->attr);
    put_types(p, op);
}

static void
put_header(Printer *p)
{
    const Graph *g = p->g;
    const char *name = str_get(g->cx, g->name);
    text_put(p->t, "%s @", g->dialect->name);
    if (is_identifier(name))
        text_puts(p->t, name);
    else
        put_string(p->t, name);
    if (strcmp(g->dialect->name, "tile") == 0)
        text_put(p->t, " %s", g->target < TG_COUNT ? target_names[g->target] : "?");
    text_puts(p->t, " {\n");
}

static void
put_return(Printer *p)
{
    const Graph *g = p->g;
    bool aliased = false;
    text_puts(p->t, "  return");
    for (uint32_t i = 0; i < g->outputs.n; i++) {
        text_puts(p->t, i ? ", " : " ");
        put_val(p, g->outputs.p[i]);
    }
    for (uint32_t i = 0; i < g->aliases.n; i++)
        aliased |= g->aliases.p[i] >= 0;
    for (uint32_t i = 0; aliased && i < g->aliases.n; i++)
        text_put(p->t, "%s%d", i ? ", " : " aliases=[", g->aliases.p[i]);
    text_puts(p->t, aliased ? "]\n}\n" : "\n}\n");
}

/* At most max_ops ops, and how many more there are. */
static Status
print_body(Printer *p, uint32_t max_ops)
{
    const Graph *g = p->g;
    int loop = dialect_find(g->dialect, "loop", 4), end = dialect_find(g->dialect, "end", 3),
        depth = 1;
    put_header(p);
    FOR_OPS(g, o)
    {
        const Op *op = graph_op(g, o);
        if (o.i > max_ops) {
            text_put(p->t, "  ... %u more ops\n", g->ops.n - o.i);
            break;
        }
        if (end && op->code == end)
            depth = MAX(depth - 1, 1);
        text_indent(p->t, depth);
        put_op(p, op);
        text_putn(p->t, "\n", 1);
        if (loop && op->code == loop)
            depth++;
    }
    put_return(p);
    return p->t->st;
}

static Status
print_with(const Graph *g, Text *t, bool brief, uint32_t max_ops)
{
    Names names = {0};
    arena_init(&names.arena, &g->cx->mem);
    Status st = val_numbers(g, &names.arena, &names.number);
    if (st == ST_OK)
        st = print_body(&(Printer){g, names.number, t, brief}, max_ops);
    arena_free(&names.arena);
    return st;
}

Status
graph_print(const Graph *g, Text *t)
{
    return print_with(g, t, false, UINT32_MAX);
}

Status
graph_print_brief(const Graph *g, uint32_t max_ops, Text *t)
{
    return print_with(g, t, true, max_ops);
}

Status
print_val(const Graph *g, Val v, Text *t)
{
    Names names = {0};
    arena_init(&names.arena, &g->cx->mem);
    Status st = val_numbers(g, &names.arena, &names.number);
    if (st == ST_OK)
        put_val(&(Printer){g, names.number, t, true}, v);
    arena_free(&names.arena);
    return st != ST_OK ? st : t->st;
}

void
print_numbered(const Graph *g, const uint32_t *number, Val v, Text *t)
{
    put_val(&(Printer){g, (uint32_t *)(uintptr_t)number, t, true}, v);
}

Status
print_op(const Graph *g, OpId o, Text *t)
{
    Names names = {0};
    arena_init(&names.arena, &g->cx->mem);
    Status st = val_numbers(g, &names.arena, &names.number);
    if (st == ST_OK)
        put_op(&(Printer){g, names.number, t, true}, graph_op(g, o));
    arena_free(&names.arena);
    return st != ST_OK ? st : t->st;
}
