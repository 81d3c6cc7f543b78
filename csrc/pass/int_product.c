/* int_product.c - matrix products of integers and bools on an engine that multiplies floats.
 *
 * in:   operands of one integer dtype, or bool, in the graph that is being built, and what is known of their values
 * out:  NumPy's product in every bit: it wraps
 * rule: an operand is a sum of digits in [-128, 127] times powers of 256, which bf16 holds. Sums of products of two
 *       digits are exact in f32 over DEPTH of them; they are added up in words. What is shifted out of the dtype is
 *       not computed.
 */
#include "pass/expand.h"

#define DEPTH 1024     /* digits' products are at most 2**14 */
#define DEPTH_BYTE 256 /* of unsigned bytes below 2**16 */
#define MOST_PARTS 256 /* pieces of a row that is added up */

typedef struct Digits {
    Val of[4];
    int n;
} Digits;

typedef struct Product {
    Expr *e;
    Digits a, b;
    int bytes; /* of the result */
    int64_t k, depth;
} Product;

/* Digits that hold every number in the interval, at most `most`. */
static int
digits_needed(Interval i, int most)
{
    double lo = -128, hi = 127, scale = 1;
    int n = 1;
    while (n < most && (i.lo < lo || i.hi > hi)) {
        scale *= 256;
        lo -= 128 * scale;
        hi += 127 * scale;
        n++;
    }
    return n;
}

/* With 128 at each digit the bytes of a word are the digits, 128 more each. */
static Digits
digits(Expr *e, Val x, Interval i, DType dt)
{
    Digits d = {.n = digits_needed(i, dtypes[dt].bytes)};
    bool fits = i.lo >= -128 && i.hi <= 127;
    if (fits || dtypes[dt].bytes == 1) {
        d = (Digits){.of = {x_cast(e, x, DT_bf16)}, .n = 1};
        return d;
    }
    DType word = dt == DT_u32 ? DT_u32 : DT_i32;
    Val moved = x_with(e, T_add, x_cast(e, x, word), word, word == DT_u32 ? 2155905152.0 : -2139062144.0);
    for (int k = 0; k < d.n; k++) {
        Val byte = x_with(e, T_bitwise_and, x_with(e, T_shift_down, moved, word, 8 * k), word, 255);
        d.of[k] = x_cast(e, x_with(e, T_add, x_cast(e, byte, DT_f32), DT_f32, -128), DT_bf16);
    }
    return d;
}

/* Elements from, from + 1, ... of an axis. */
static Val
part_of(Expr *e, Val x, int axis, int64_t from, int64_t size)
{
    if (e->st != ST_OK)
        return x;
    Box b = box_whole(val_type(e->g, x));
    Val v = {0};
    b.start[axis] = from;
    b.size[axis] = size;
    e->st = t_slice(e->g, x, b.start, b.step, b.size, e->loc, &v);
    return v;
}

/* The words of a product of digits, piece by piece. */
static Val
product_of_digits(const Product *p, Val a, Val b)
{
    Expr *e = p->e;
    Val sum = {0};
    for (int64_t from = 0; from < p->k && e->st == ST_OK; from += p->depth) {
        int64_t size = MIN(p->depth, p->k - from);
        Val v = {0}, x = part_of(e, a, val_type(e->g, a)->rank - 1, from, size);
        Val y = part_of(e, b, val_type(e->g, b)->rank - 2, from, size);
        if (e->st == ST_OK)
            e->st = t_matmul(e->g, x, y, e->loc, &v);
        v = x_rcast(e, v, DT_i32);
        sum = sum.i ? x_binary(e, T_add, sum, v) : v;
    }
    return sum;
}

/* All products whose digits stand at `place` together. */
static Val
products_at(const Product *p, int place)
{
    Val sum = {0};
    for (int i = 0; i < p->a.n; i++) {
        int j = place - i;
        if (j < 0 || j >= p->b.n)
            continue;
        Val v = product_of_digits(p, p->a.of[i], p->b.of[j]);
        sum = sum.i ? x_binary(p->e, T_add, sum, v) : v;
    }
    return sum;
}

static Status
int_product(Product *p, DType dt, Val *out)
{
    Expr *e = p->e;
    Val sum = {0};
    for (int place = 0; place < p->bytes; place++) {
        Val v = products_at(p, place);
        if (v.i && place > 0)
            v = x_with(e, T_left_shift, v, DT_i32, 8 * place);
        sum = !sum.i ? v : v.i ? x_binary(e, T_add, sum, v) : sum;
    }
    *out = wrapped(e, sum, dt);
    return e->st;
}

static Status
bool_product(Expr *e, Val a, Val b, Val *out)
{
    Val v = {0};
    a = x_cast(e, a, DT_bf16);
    b = x_cast(e, b, DT_bf16);
    TRY(e->st);
    TRY(t_matmul(e->g, a, b, e->loc, &v));
    *out = x_with(e, T_not_equal, v, DT_f32, 0);
    return e->st;
}

Status
expand_int_matmul(Expr *e, Val a, Val b, Interval ia, Interval ib, Val *out)
{
    const Type *t = val_type(e->g, a);
    DType dt = (DType)t->dtype;
    if (dt == DT_bool)
        return bool_product(e, a, b, out);
    Product p = {.e = e, .bytes = dtypes[dt].bytes, .k = t->dim[t->rank - 1]};
    p.depth = dt == DT_u8 ? DEPTH_BYTE : DEPTH;
    if (p.k > MOST_PARTS * p.depth)
        return fail(e->g->cx, ST_UNSUPPORTED, e->loc,
                    "NKI-4021 matmul: %s rows of %lld elements are added up, at most %lld are; split the axis, or use floats",
                    dtypes[dt].name, (long long)p.k, (long long)(MOST_PARTS * p.depth));
    p.a = digits(e, a, ia, dt);
    p.b = digits(e, b, ib, dt);
    return int_product(&p, dt, out);
}
