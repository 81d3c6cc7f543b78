/* parse_value.c - reads what an op consists of: values, types, access patterns, attributes.
 *
 * in:   the text at such a thing
 * out:  the thing, interned; lists stand in the parser
 * rule: an error says what was found and what was expected, with line and column.
 */
#include "ir/parse.h"

#include <stdio.h>
#include <string.h>

/* ---- values ---- */

static bool
same_val(const void *env, uint32_t id)
{
    const void *const *e = env;
    const Slice *have = &((const Parser *)e[0])->vals.p[id], *want = e[1];
    return have->n == want->n && memcmp(have->p, want->p, want->n) == 0;
}

Val
find_val(const Parser *ps, Slice name)
{
    const void *env[2] = {ps, &name};
    return (Val){map_find(&ps->val_names, hash_bytes(name.p, name.n, 0), same_val, env)};
}

/* `%name`: an identifier or a number */
Status
need_name(Parser *ps, Slice *out)
{
    if (!scan_take(&ps->s, '%'))
        return scan_expected(&ps->s, "a value (%name)");
    const char *at = ps->s.p;
    if (at >= ps->s.end || !is_word_char(*at))
        return scan_expected(&ps->s, "a name after '%'");
    *out = scan_word(&ps->s);
    for (size_t i = 0; is_digit(*at) && i < out->n; i++)
        if (!is_digit(at[i]))
            return SCAN_FAIL(&ps->s, at, "NKI-2501 a value's name is an identifier or a number, got '%%%.*s'",
                             shown(*out), out->p);
    return ST_OK;
}

Status
need_val(Parser *ps, Val *out)
{
    Slice name;
    scan_blanks(&ps->s);
    const char *at = ps->s.p;
    TRY(need_name(ps, &name));
    *out = find_val(ps, name);
    if (!out->i)
        return SCAN_FAIL(&ps->s, at, "NKI-2502 %%%.*s is not defined", shown(name), name.p);
    return ST_OK;
}

/* ---- types ---- */

static Status
need_dims(Parser *ps, int *rank, int64_t *dim)
{
    *rank = 0;
    TRY(scan_need(&ps->s, '['));
    if (scan_take(&ps->s, ']'))
        return ST_OK;
    do {
        scan_blanks(&ps->s);
        if (*rank == MAX_RANK)
            return SCAN_FAIL(&ps->s, ps->s.p, "NKI-2503 a type has at most %d dimensions", MAX_RANK);
        TRY(scan_digits(&ps->s, false, &dim[(*rank)++]));
    } while (scan_take(&ps->s, ','));
    return scan_take(&ps->s, ']') ? ST_OK : scan_expected(&ps->s, "',' or ']'");
}

/* `f32[4, 4]`, `sbuf f32[128, 4]` or `index` */
static Status
need_type(Parser *ps, TyId *out)
{
    scan_blanks(&ps->s);
    const char *at = ps->s.p;
    Slice w = scan_word(&ps->s);
    TyKind kind = TY_tensor;
    int space = 0, rank;
    int64_t dim[MAX_RANK];
    DType dt;
    if (slice_is(w, "index"))
        return type_make(ps->cx, TY_index, SP_hbm, DT_none, 0, NULL, out);
    for (int i = 0; i < SP_COUNT; i++)
        if (slice_is(w, space_names[i])) {
            kind = TY_buffer;
            space = i;
        }
    if (kind == TY_buffer) {
        scan_blanks(&ps->s);
        at = ps->s.p;
        w = scan_word(&ps->s);
    }
    if (!w.n || !dtype_from_name(w.p, w.n, &dt)) {
        ps->s.p = at;
        return scan_expected(&ps->s, "a type such as f32[128, 512] or sbuf f32[128, 512]");
    }
    TRY(need_dims(ps, &rank, dim));
    return scan_placed(&ps->s, type_make(ps->cx, kind, (Space)space, dt, rank, dim, out), at);
}

Status
parse_types(Parser *ps)
{
    do {
        TyId ty;
        TRY(need_type(ps, &ty));
        VEC_PUSH(ps->cx, &ps->tmp, &ps->types, ty);
    } while (scan_take(&ps->s, ','));
    return ST_OK;
}

/* ---- access patterns ---- */

typedef struct AffineText {
    Affine a;
    int64_t last; /* the last term when it is a constant, not yet in a.c */
    bool has_last;
    bool last_added; /* it came after a '+' */
} AffineText;

static Status
affine_commit(Parser *ps, AffineText *t)
{
    if (t->has_last && __builtin_add_overflow(t->a.c, t->last, &t->a.c))
        return SCAN_FAIL(&ps->s, ps->s.p, "NKI-2504 offset is out of range");
    t->has_last = false;
    return ST_OK;
}

/* `8*%i`, `%i` or `8` */
static Status
affine_term(Parser *ps, AffineText *t, bool negative, bool added)
{
    int64_t k = negative ? -1 : 1;
    TRY(affine_commit(ps, t));
    bool times = false;
    if (!scan_peek(&ps->s, '%')) {
        TRY(scan_digits(&ps->s, negative, &k));
        times = scan_take(&ps->s, '*');
        if (!times) {
            t->last = k;
            t->has_last = true;
            t->last_added = added && !negative;
            return ST_OK;
        }
    }
    Val v;
    scan_blanks(&ps->s);
    const char *at = ps->s.p;
    TRY(need_val(ps, &v));
    if (val_type(ps->g, v)->kind != TY_index)
        return SCAN_FAIL(&ps->s, at, "NKI-2505 an access pattern is affine in loop variables; this value is none");
    if (t->a.nterms == MAX_TERMS)
        return SCAN_FAIL(&ps->s, at, "NKI-2506 an access pattern uses at most %d loop variables", MAX_TERMS);
    t->a.term[t->a.nterms++] = (Term){v, k};
    return ST_OK;
}

static Status
parse_affine(Parser *ps, AffineText *t)
{
    memset(t, 0, sizeof(*t));
    TRY(affine_term(ps, t, scan_take(&ps->s, '-'), false));
    for (;;) {
        if (scan_take(&ps->s, '+'))
            TRY(affine_term(ps, t, scan_take(&ps->s, '-'), true));
        else if (scan_take(&ps->s, '-'))
            TRY(affine_term(ps, t, true, true));
        else
            return ST_OK;
    }
}

static Status
parse_ap_dims(Parser *ps, Ap *ap)
{
    do {
        scan_blanks(&ps->s);
        if (ap->ndim == MAX_AP_DIMS)
            return SCAN_FAIL(&ps->s, ps->s.p, "NKI-2507 an access pattern has at most %d dims", MAX_AP_DIMS);
        ApDim *d = &ap->dim[ap->ndim];
        TRY(scan_digits(&ps->s, false, &d->count));
        TRY(scan_need(&ps->s, '*'));
        TRY(scan_int(&ps->s, &d->stride));
        ap->ndim++;
    } while (scan_take(&ps->s, ','));
    return ST_OK;
}

/* The rest of `[part+nparts, off: count*stride, ...]`, in HBM `[off: count*stride, ...]` */
static Status
parse_ap(Parser *ps, const Type *buf, ApId *out)
{
    Ap ap;
    AffineText t;
    const char *at = ps->s.p;
    memset(&ap, 0, sizeof(ap));
    if (buf->space == SP_sbuf || buf->space == SP_psum) {
        TRY(parse_affine(ps, &t));
        if (!t.has_last || !t.last_added || t.last > INT32_MAX)
            return scan_expected(&ps->s, "'+' and the number of partitions");
        ap.part = t.a;
        ap.nparts = (int32_t)t.last;
        TRY(scan_need(&ps->s, ','));
    }
    TRY(parse_affine(ps, &t));
    TRY(affine_commit(ps, &t));
    ap.off = t.a;
    if (scan_take(&ps->s, ':'))
        TRY(parse_ap_dims(ps, &ap));
    if (!scan_take(&ps->s, ']'))
        return scan_expected(&ps->s, ap.ndim ? "',' or ']'" : "':', '+' or ']'");
    return scan_placed(&ps->s, ap_make(ps->cx, &ap, out), at);
}

Status
parse_operand(Parser *ps)
{
    Operand in = {{0}, {0}};
    scan_blanks(&ps->s);
    const char *at = ps->s.p;
    if (scan_peek(&ps->s, '_') && slice_is(scan_word(&ps->s), "_")) {
        VEC_PUSH(ps->cx, &ps->tmp, &ps->operands, in);
        return ST_OK;
    }
    ps->s.p = at;
    TRY(need_val(ps, &in.v));
    if (scan_take(&ps->s, '[')) {
        const Type *ty = val_type(ps->g, in.v);
        if (ty->kind != TY_buffer)
            return SCAN_FAIL(&ps->s, at, "NKI-2508 only buffers have access patterns");
        TRY(parse_ap(ps, ty, &in.ap));
    }
    VEC_PUSH(ps->cx, &ps->tmp, &ps->operands, in);
    return ST_OK;
}

/* ---- attributes ---- */

Status
need_ints(Parser *ps)
{
    ps->ints.n = 0;
    TRY(scan_need(&ps->s, '['));
    if (scan_take(&ps->s, ']'))
        return ST_OK;
    do {
        int64_t v;
        TRY(scan_int(&ps->s, &v));
        VEC_PUSH(ps->cx, &ps->tmp, &ps->ints, v);
    } while (scan_take(&ps->s, ','));
    return scan_take(&ps->s, ']') ? ST_OK : scan_expected(&ps->s, "',' or ']'");
}

static Status
ints_value(Parser *ps, AttrItem *a)
{
    const char *at = ps->s.p;
    TRY(need_ints(ps));
    if (ps->ints.n > UINT16_MAX)
        return SCAN_FAIL(&ps->s, at, "NKI-2509 a list has at most %d integers", UINT16_MAX);
    int64_t *copy; /* several lists may be open until attr_make */
    NEW(ps->cx, &ps->tmp, copy, ps->ints.n);
    if (ps->ints.n)
        memcpy(copy, ps->ints.p, ps->ints.n * sizeof(*copy));
    a->ints = copy;
    a->n = (uint16_t)ps->ints.n;
    return ST_OK;
}

/* `f32:0x0000803f`: the bytes in order */
static Status
data_value(Parser *ps, AttrItem *a)
{
    DType dt;
    scan_blanks(&ps->s);
    const char *at = ps->s.p;
    Slice w = scan_word(&ps->s);
    if (!w.n || !dtype_from_name(w.p, w.n, &dt)) {
        ps->s.p = at;
        return scan_expected(&ps->s, "array data such as f32:0x0000803f");
    }
    TRY(scan_need(&ps->s, ':'));
    w = scan_word(&ps->s);
    if (w.n < 2 || memcmp(w.p, "0x", 2) != 0) {
        ps->s.p = w.p;
        return scan_expected(&ps->s, "0x and hexadecimal bytes");
    }
    size_t bytes = (w.n - 2) / 2;
    if (w.n % 2 || bytes % dtypes[dt].bytes)
        return SCAN_FAIL(&ps->s, w.p, "NKI-2510 array data is not a whole number of %s elements", dtypes[dt].name);
    unsigned char *buf;
    NEW(ps->cx, &ps->tmp, buf, bytes);
    for (size_t i = 0; i < bytes; i++) {
        int hi = hex_digit(w.p[2 + 2 * i]), lo = hex_digit(w.p[3 + 2 * i]);
        if (hi < 0 || lo < 0)
            return SCAN_FAIL(&ps->s, w.p + 2 + 2 * i, "NKI-2511 expected hexadecimal digits");
        buf[i] = (unsigned char)(hi << 4 | lo);
    }
    return data_make(ps->cx, dt, buf, bytes, &a->data);
}

static Status
word_value(Parser *ps, AttrKind kind, AttrItem *a)
{
    Slice w = scan_word(&ps->s);
    int v = -1;
    if (kind == AK_bool)
        v = slice_is(w, "true") ? 1 : slice_is(w, "false") ? 0 : -1;
    else if (w.n)
        v = enum_value(kind, w.p, w.n);
    a->i = v;
    if (v >= 0)
        return ST_OK;
    char what[48];
    snprintf(what, sizeof(what), "%s for %s",
             kind == AK_bool    ? "true or false"
             : kind == AK_dtype ? "a dtype"
                                : "a known name",
             attr_name((Key)a->key));
    ps->s.p = w.p;
    return scan_expected(&ps->s, what);
}

static Status
attr_value(Parser *ps, AttrItem *a)
{
    AttrKind kind = attr_kind((Key)a->key);
    switch (kind) {
    case AK_int:
        return scan_int(&ps->s, &a->i);
    case AK_float:
        return scan_float(&ps->s, &a->f);
    case AK_ints:
        return ints_value(ps, a);
    case AK_str:
        return scan_string(&ps->s, &ps->tmp, &a->s);
    case AK_data:
        return data_value(ps, a);
    default:
        return word_value(ps, kind, a);
    }
}

/* The key of that name among those of the row. */
static Status
attr_key(Parser *ps, const OpDef *def, Slice w, uint16_t *key)
{
    for (int i = 0; i < COUNT_OF(def->attrs) && w.n; i++)
        if (def->attrs[i] && slice_is(w, attr_name((Key)def->attrs[i]))) {
            *key = def->attrs[i];
            return ST_OK;
        }
    ps->s.p = w.p;
    if (!w.n)
        return scan_expected(&ps->s, "an attribute");
    return SCAN_FAIL(&ps->s, w.p, "NKI-2512 %s has no attribute '%.*s'", def->name, shown(w), w.p);
}

Status
parse_attrs(Parser *ps, const OpDef *def, AttrId *out)
{
    AttrItem item[A_COUNT];
    int n = 0;
    do {
        Slice w = scan_word(&ps->s);
        uint16_t key = A_none;
        TRY(attr_key(ps, def, w, &key));
        for (int i = 0; i < n; i++)
            if (item[i].key == key)
                return SCAN_FAIL(&ps->s, w.p, "NKI-2513 attribute '%.*s' is given twice", shown(w), w.p);
        TRY(scan_need(&ps->s, '='));
        memset(&item[n], 0, sizeof(item[n]));
        item[n].key = key;
        TRY(attr_value(ps, &item[n]));
        n++;
    } while (scan_take(&ps->s, ','));
    if (!scan_take(&ps->s, '}'))
        return scan_expected(&ps->s, "',' or '}'");
    return scan_placed(&ps->s, attr_make(ps->cx, item, n, out), ps->s.p);
}
