/* intern.c - types, attributes, strings, locations, array constants and access patterns, each
 * stored once per Ctx.
 *
 * A table per kind: records by id, and a Map from content hash to id. Records are allocated one by
 * one in cx->arena and never move. Looking up what exists allocates nothing.
 */
#include "ir/ir.h"

#include <string.h>

typedef struct Str {
    size_t n;
    char s[];
} Str;
typedef struct Attr {
    uint32_t n;
    AttrItem item[];
} Attr;

typedef struct Intern {
    VEC(const Type *) types; /* in every table [0] is "none" */
    VEC(const Attr *) attrs;
    VEC(const Str *) strs;
    VEC(const Loc *) locs;
    VEC(const Data *) datas;
    VEC(const Ap *) aps;
    Map type_map, attr_map, str_map, loc_map, data_map, ap_map;
} Intern;

static const uint8_t kind_of[A_COUNT] = {
#define ATTR(id, kind, doc) [A_##id] = kind,
#include "ir/attrs.def"
#undef ATTR
};
static const char *const name_of[A_COUNT] = {
    [A_none] = "none",
#define ATTR(id, kind, doc) [A_##id] = #id,
#include "ir/attrs.def"
#undef ATTR
};

AttrKind
attr_kind(Key k)
{
    return (AttrKind)kind_of[k];
}

const char *
attr_name(Key k)
{
    return name_of[k];
}

Status
intern_init(Ctx *cx)
{
    static const Type none_type = {0};
    static const Attr none_attr = {0};
    static const Str none_str = {0};
    static const Loc none_loc = {0};
    static const Data none_data = {0};
    static const Ap none_ap = {0};
    Intern *in;
    NEW(cx, &cx->arena, in, 1);
    VEC_PUSH(cx, &cx->arena, &in->types, &none_type);
    VEC_PUSH(cx, &cx->arena, &in->attrs, &none_attr);
    VEC_PUSH(cx, &cx->arena, &in->strs, &none_str);
    VEC_PUSH(cx, &cx->arena, &in->locs, &none_loc);
    VEC_PUSH(cx, &cx->arena, &in->datas, &none_data);
    VEC_PUSH(cx, &cx->arena, &in->aps, &none_ap);
    cx->intern = in;
    return ST_OK;
}

/* Adds a record to a table: *id is its number. */
#define INTERN_ADD(cx, vec, map, hash, rec, id)                                                    \
    do {                                                                                           \
        VEC_PUSH((cx), &(cx)->arena, (vec), (rec));                                                \
        *(id) = (vec)->n - 1;                                                                      \
        Status st_ = map_insert((cx), &(cx)->arena, (map), (hash), (vec)->n - 1);                  \
        if (st_ != ST_OK) {                                                                        \
            (vec)->n--;                                                                            \
            return st_;                                                                            \
        }                                                                                          \
    } while (0)

/* What a lookup compares: the table, and the content wanted. */
typedef struct Want {
    const Intern *in;
    const void *p;
    size_t n;
} Want;

/* ---- types ---- */

static bool
same_type(const void *env, uint32_t id)
{
    const Want *w = env;
    return memcmp(w->in->types.p[id], w->p, sizeof(Type)) == 0;
}

static Status
check_type(Ctx *cx, TyKind kind, Space space, DType dt, int rank, const int64_t *dim)
{
    LocId none = {0};
    if (rank < 0 || rank > MAX_RANK)
        return fail(cx, ST_LIMIT, none, "NKI-2557 arrays have at most %d dimensions, got %d", MAX_RANK, rank);
    if (kind != TY_index && (dt <= DT_none || dt >= DT_COUNT))
        return fail(cx, ST_BUG, none, "NKI-2558 type_make: no such dtype: %d", dt);
    if (space < 0 || space >= SP_COUNT)
        return fail(cx, ST_BUG, none, "NKI-2559 type_make: no such space: %d", space);
    int64_t bytes = kind == TY_index ? 1 : dtypes[dt].bytes;
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 0)
            return fail(cx, ST_BUG, none, "NKI-2560 type_make: dimension %d is %lld", i, (long long)dim[i]);
        /* zeros are skipped: products of any of the dims must stay in range */
        if (__builtin_mul_overflow(bytes, MAX(dim[i], 1), &bytes) || bytes > (int64_t)1 << 62)
            return fail(cx, ST_LIMIT, none, "NKI-2561 array of %d dimensions is too large", rank);
    }
    return ST_OK;
}

Status
type_make(Ctx *cx, TyKind kind, Space space, DType dt, int rank, const int64_t *dim, TyId *out)
{
    Intern *in = cx->intern;
    TRY(check_type(cx, kind, space, dt, rank, dim));
    Type t;
    memset(&t, 0, sizeof(t));
    t.kind = (uint8_t)kind;
    t.dtype = (uint8_t)dt;
    t.space = kind == TY_buffer ? (uint8_t)space : 0;
    t.rank = (uint8_t)rank;
    if (rank)
        memcpy(t.dim, dim, (size_t)rank * sizeof(*dim));
    uint64_t h = hash_bytes(&t, 8 + (size_t)rank * sizeof(*dim), 1);
    Want w = {in, &t, sizeof(t)};
    out->i = map_find(&in->type_map, h, same_type, &w);
    if (out->i)
        return ST_OK;
    Type *rec;
    NEW(cx, &cx->arena, rec, 1);
    *rec = t;
    INTERN_ADD(cx, &in->types, &in->type_map, h, rec, &out->i);
    return ST_OK;
}

Status
tensor_type(Ctx *cx, DType dt, int rank, const int64_t *dim, TyId *out)
{
    return type_make(cx, TY_tensor, SP_hbm, dt, rank, dim, out);
}

const Type *
type_get(const Ctx *cx, TyId t)
{
    return cx->intern->types.p[t.i];
}

int64_t
type_numel(const Type *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

/* ---- strings ---- */

static bool
same_str(const void *env, uint32_t id)
{
    const Want *w = env;
    const Str *s = w->in->strs.p[id];
    return s->n == w->n && memcmp(s->s, w->p, w->n) == 0;
}

Status
str_make(Ctx *cx, const char *s, size_t n, StrId *out)
{
    Intern *in = cx->intern;
    const char *nul = n ? memchr(s, 0, n) : NULL; /* str_get could not show what follows */
    if (nul)
        n = (size_t)(nul - s);
    out->i = 0;
    if (n == 0)
        return ST_OK;
    uint64_t h = hash_bytes(s, n, 2);
    Want w = {in, s, n};
    out->i = map_find(&in->str_map, h, same_str, &w);
    if (out->i)
        return ST_OK;
    Str *rec;
    TRY(new_in(cx, &cx->arena, sizeof(*rec) + n + 1, &rec));
    rec->n = n;
    memcpy(rec->s, s, n);
    INTERN_ADD(cx, &in->strs, &in->str_map, h, rec, &out->i);
    return ST_OK;
}

const char *
str_get(const Ctx *cx, StrId s)
{
    return s.i ? cx->intern->strs.p[s.i]->s : "";
}

/* ---- locations ---- */

static bool
same_loc(const void *env, uint32_t id)
{
    const Want *w = env;
    const Loc *a = w->in->locs.p[id], *b = w->p;
    return a->code == b->code && a->offset == b->offset && a->line == b->line;
}

Status
loc_make(Ctx *cx, const void *code, int32_t offset, int32_t line, LocId *out)
{
    Intern *in = cx->intern;
    Loc loc = {code, offset, line};
    uint64_t at = (uint64_t)(uint32_t)offset << 32 | (uint32_t)line;
    uint64_t h = hash_int(at, hash_int((uintptr_t)code, 3));
    Want w = {in, &loc, sizeof(loc)};
    out->i = map_find(&in->loc_map, h, same_loc, &w);
    if (out->i)
        return ST_OK;
    Loc *rec;
    NEW(cx, &cx->arena, rec, 1);
    *rec = loc;
    INTERN_ADD(cx, &in->locs, &in->loc_map, h, rec, &out->i);
    return ST_OK;
}

const Loc *
loc_get(const Ctx *cx, LocId l)
{
    return cx->intern->locs.p[l.i];
}

/* ---- array constants ---- */

static bool
same_data(const void *env, uint32_t id)
{
    const Want *w = env;
    const Data *a = w->in->datas.p[id], *b = w->p;
    return a->dtype == b->dtype && a->bytes == b->bytes &&
           (!b->bytes || !memcmp(a->p, b->p, b->bytes));
}

Status
data_make(Ctx *cx, DType dt, const void *p, size_t bytes, const Data **out)
{
    Intern *in = cx->intern;
    Data d = {.hash = hash_bytes(p, bytes, 4 + (uint64_t)dt),
              .bytes = bytes,
              .p = p,
              .dtype = (uint8_t)dt};
    Want w = {in, &d, sizeof(d)};
    uint32_t id = map_find(&in->data_map, d.hash, same_data, &w);
    if (!id) {
        char *copy;
        Data *rec;
        NEW(cx, &cx->arena, copy, MAX(bytes, 64));
        if (bytes)
            memcpy(copy, p, bytes);
        NEW(cx, &cx->arena, rec, 1);
        d.p = copy;
        *rec = d;
        INTERN_ADD(cx, &in->datas, &in->data_map, d.hash, rec, &id);
    }
    *out = in->datas.p[id];
    return ST_OK;
}

/* ---- attributes ---- */

static uint64_t
item_hash(const AttrItem *t, uint64_t h)
{
    switch (kind_of[t->key]) {
    case AK_ints:
        return hash_bytes(t->ints, t->n * sizeof(int64_t), hash_int(t->key, h));
    case AK_str:
        return hash_int(t->s.i, hash_int(t->key, h));
    case AK_data:
        return hash_int(t->data->hash, hash_int(t->key, h));
    default: /* a double by its bits */
        return hash_int((uint64_t)t->i, hash_int(t->key, h));
    }
}

static bool
same_item(const AttrItem *a, const AttrItem *b)
{
    if (a->key != b->key)
        return false;
    switch (kind_of[a->key]) {
    case AK_ints:
        return a->n == b->n && (!a->n || !memcmp(a->ints, b->ints, a->n * sizeof(int64_t)));
    case AK_str:
        return a->s.i == b->s.i;
    case AK_data:
        return a->data == b->data;
    default:
        return a->i == b->i;
    }
}

static bool
same_attr(const void *env, uint32_t id)
{
    const Want *w = env;
    const Attr *a = w->in->attrs.p[id];
    const AttrItem *item = w->p;
    if (a->n != w->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!same_item(&a->item[i], &item[i]))
            return false;
    return true;
}

static int64_t
enum_limit(int kind)
{
    switch (kind) {
    case AK_bool:
        return 2;
    case AK_dtype:
        return DT_COUNT;
    case AK_engine:
        return EN_COUNT;
    case AK_alu:
        return ALU_COUNT;
    case AK_act:
        return ACT_COUNT;
    case AK_bufkind:
        return BK_COUNT;
    default:
        return 0;
    }
}

/* Insertion sort of a handful of items into `to`. */
static Status
sort_items(Ctx *cx, const AttrItem *item, int n, AttrItem *to)
{
    LocId none = {0};
    if (n >= A_COUNT)
        return fail(cx, ST_BUG, none, "NKI-2562 attr_make: %d attributes, there are only %d keys", n, A_COUNT - 1);
    for (int i = 0; i < n; i++) {
        AttrItem t = item[i];
        if (t.key == A_none || t.key >= A_COUNT)
            return fail(cx, ST_BUG, none, "NKI-2563 attr_make: no such key: %d", t.key);
        int64_t limit = enum_limit(kind_of[t.key]);
        if (limit && (t.i < 0 || t.i >= limit))
            return fail(cx, ST_BUG, none, "NKI-2564 attr_make: value %lld of %s is out of range", (long long)t.i,
                        name_of[t.key]);
        int k = i;
        for (; k > 0 && to[k - 1].key > t.key; k--)
            to[k] = to[k - 1];
        if (k > 0 && to[k - 1].key == t.key)
            return fail(cx, ST_BUG, none, "NKI-2565 attr_make: %s is given twice", name_of[t.key]);
        to[k] = t;
    }
    return ST_OK;
}

static Status
store_attr(Ctx *cx, const AttrItem *item, int n, Attr **out)
{
    Attr *rec;
    TRY(new_in(cx, &cx->arena, sizeof(Attr) + (size_t)n * sizeof(AttrItem), &rec));
    rec->n = (uint32_t)n;
    for (int i = 0; i < n; i++) {
        rec->item[i] = item[i];
        if (kind_of[item[i].key] != AK_ints) {
            rec->item[i].n = 0;
        } else {
            int64_t *ints;
            NEW(cx, &cx->arena, ints, item[i].n);
            if (item[i].n)
                memcpy(ints, item[i].ints, item[i].n * sizeof(*ints));
            rec->item[i].ints = ints;
        }
    }
    *out = rec;
    return ST_OK;
}

Status
attr_make(Ctx *cx, const AttrItem *item, int n, AttrId *out)
{
    Intern *in = cx->intern;
    AttrItem sorted[A_COUNT];
    out->i = 0;
    if (n == 0)
        return ST_OK;
    TRY(sort_items(cx, item, n, sorted));
    uint64_t h = 5;
    for (int i = 0; i < n; i++)
        h = item_hash(&sorted[i], h);
    Want w = {in, sorted, (size_t)n};
    out->i = map_find(&in->attr_map, h, same_attr, &w);
    if (out->i)
        return ST_OK;
    Attr *rec;
    TRY(store_attr(cx, sorted, n, &rec));
    INTERN_ADD(cx, &in->attrs, &in->attr_map, h, rec, &out->i);
    return ST_OK;
}

const AttrItem *
attr_items(const Ctx *cx, AttrId a, int *n)
{
    const Attr *rec = cx->intern->attrs.p[a.i];
    *n = (int)rec->n;
    return rec->item;
}

const AttrItem *
attr_find(const Ctx *cx, AttrId a, Key k)
{
    const Attr *rec = cx->intern->attrs.p[a.i];
    for (uint32_t i = 0; i < rec->n; i++)
        if (rec->item[i].key == k)
            return &rec->item[i];
    return NULL;
}

int64_t
attr_int(const Ctx *cx, AttrId a, Key k, int64_t absent)
{
    const AttrItem *t = attr_find(cx, a, k);
    return t ? t->i : absent;
}

double
attr_float(const Ctx *cx, AttrId a, Key k, double absent)
{
    const AttrItem *t = attr_find(cx, a, k);
    return t ? t->f : absent;
}

int
attr_ints(const Ctx *cx, AttrId a, Key k, const int64_t **out)
{
    const AttrItem *t = attr_find(cx, a, k);
    *out = t ? t->ints : NULL;
    return t ? t->n : 0;
}

/* The entries of `a` but that of a key; returns how many. */
static int
other_items(const Ctx *cx, AttrId a, Key key, AttrItem out[A_COUNT])
{
    const Attr *rec = cx->intern->attrs.p[a.i];
    int n = 0;
    for (uint32_t i = 0; i < rec->n; i++)
        if (rec->item[i].key != key)
            out[n++] = rec->item[i];
    return n;
}

Status
attr_with(Ctx *cx, AttrId a, AttrItem item, AttrId *out)
{
    AttrItem all[A_COUNT + 1];
    int n = other_items(cx, a, item.key, all);
    all[n++] = item;
    return attr_make(cx, all, n, out);
}

Status
attr_without(Ctx *cx, AttrId a, Key key, AttrId *out)
{
    AttrItem all[A_COUNT];
    return attr_make(cx, all, other_items(cx, a, key, all), out);
}

/* ---- access patterns ---- */

static bool
same_ap(const void *env, uint32_t id)
{
    const Want *w = env;
    return memcmp(w->in->aps.p[id], w->p, sizeof(Ap)) == 0;
}

/* Sorted by variable, equal variables added up, zero coefficients dropped; unused terms are zero.
 */
static bool
normal_affine(const Affine *a, Affine *to)
{
    const int64_t limit = (int64_t)1 << 60;
    to->c = a->c;
    if (a->c <= -limit || a->c >= limit)
        return false;
    for (uint32_t i = 0; i < a->nterms; i++) {
        Term t = a->term[i];
        uint32_t k = to->nterms;
        if (!t.var.i || t.coef <= -limit || t.coef >= limit)
            return false;
        while (k > 0 && to->term[k - 1].var.i >= t.var.i)
            k--;
        if (k < to->nterms && to->term[k].var.i == t.var.i) {
            to->term[k].coef += t.coef;
            if (to->term[k].coef <= -limit || to->term[k].coef >= limit)
                return false;
            continue;
        }
        for (uint32_t j = to->nterms; j > k; j--)
            to->term[j] = to->term[j - 1];
        to->term[k].var = t.var;
        to->term[k].coef = t.coef;
        to->nterms++;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < to->nterms; i++)
        if (to->term[i].coef)
            to->term[n++] = to->term[i];
    for (uint32_t i = n; i < to->nterms; i++)
        memset(&to->term[i], 0, sizeof(Term));
    to->nterms = n;
    return true;
}

/* The sum of |(count - 1) * stride| and the product of counts stay below 2^60. */
static bool
dims_in_range(const Ap *ap)
{
    int64_t count = 1, reach = 0, limit = (int64_t)1 << 60;
    for (uint32_t i = 0; i < ap->ndim; i++) {
        ApDim d = ap->dim[i];
        int64_t far;
        if (d.count < 1 || d.count >= limit || d.stride <= -limit || d.stride >= limit)
            return false;
        if (__builtin_mul_overflow(count, d.count, &count) || count >= limit)
            return false;
        if (__builtin_mul_overflow(d.count - 1, d.stride < 0 ? -d.stride : d.stride, &far) ||
            far >= limit)
            return false;
        reach += far;
        if (reach >= limit)
            return false;
    }
    return true;
}

Status
ap_make(Ctx *cx, const Ap *ap, ApId *out)
{
    Intern *in = cx->intern;
    Ap n;
    memset(&n, 0, sizeof(n));
    n.nparts = ap->nparts;
    n.ndim = ap->ndim;
    if (ap->ndim > MAX_AP_DIMS)
        return fail(cx, ST_LIMIT, (LocId){0}, "NKI-2566 an access pattern has at most %d dims, got %u", MAX_AP_DIMS,
                    ap->ndim);
    if (ap->part.nterms > MAX_TERMS || ap->off.nterms > MAX_TERMS)
        return fail(cx, ST_LIMIT, (LocId){0}, "NKI-2567 an access pattern uses at most %d loop variables", MAX_TERMS);
    if (ap->nparts < 0 || !dims_in_range(ap) || !normal_affine(&ap->part, &n.part) ||
        !normal_affine(&ap->off, &n.off))
        return fail(cx, ST_BUG, (LocId){0}, "NKI-2568 access pattern out of range");
    memcpy(n.dim, ap->dim, ap->ndim * sizeof(n.dim[0]));
    uint64_t h = hash_bytes(&n, sizeof(n), 6);
    Want w = {in, &n, sizeof(n)};
    out->i = map_find(&in->ap_map, h, same_ap, &w);
    if (out->i)
        return ST_OK;
    Ap *rec;
    NEW(cx, &cx->arena, rec, 1);
    memcpy(rec, &n, sizeof(n));
    INTERN_ADD(cx, &in->aps, &in->ap_map, h, rec, &out->i);
    return ST_OK;
}

const Ap *
ap_get(const Ctx *cx, ApId a)
{
    return cx->intern->aps.p[a.i];
}
