/* nki_const.c - constants of a kernel as NumPy arrays of its module.
 *
 * in:   a constant buffer and its data
 * out:  one assignment: uniform arrays and identities are said so, small ones are their bytes, larger ones are read
 *       from KERNEL_NAME.npy beside the source
 */
#include <string.h>

#include "emit/nki.h"

static const char *
numpy_dtype(Py *py, DType dt)
{
    const char *s = dt == DT_bool ? "uint8" : dtypes[dt].np;
    bool ml = dt == DT_bf16 || strncmp(s, "float8", 6) == 0;

    py->ml |= ml;
    return nki_format(py, "%s.%s", ml ? "ml_dtypes" : "np", s);
}

static bool
is_uniform(const Data *d, size_t elem)
{
    return d->bytes >= elem && memcmp(d->p, (const char *)d->p + elem, d->bytes - elem) == 0;
}

static bool
is_identity(const Data *d, const Type *ty)
{
    size_t elem = dtypes[d->dtype].bytes;
    int64_t n = ty->rank == 2 ? ty->dim[0] : 0;

    if (n < 2 || ty->dim[1] != n || d->bytes != (size_t)(n * n) * elem)
        return false;
    for (int64_t i = 0; i < n * n; i++)
        if (dtype_load((DType)d->dtype, (const char *)d->p + (size_t)i * elem) != (i % (n + 1) == 0))
            return false;
    return true;
}

static void
put_base64(Py *py, const Data *d)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = d->p;
    char row[97];
    int k = 0;

    for (size_t i = 0; i < d->bytes; i += 3) {
        size_t n = MIN(d->bytes - i, 3);
        uint32_t v = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
        for (int q = 0; q < 4; q++)
            row[k++] = (size_t)q <= n ? digit[v >> (18 - 6 * q) & 63] : '=';
        if (k == 84 || i + 3 >= d->bytes) {
            row[k] = 0;
            text_put(&py->consts, "    \"%s\"\n", row);
            k = 0;
        }
    }
}

Status
nki_constant(Py *py, const Op *op, const char *name)
{
    const Type *ty = val_type(py->g, op->out);
    const AttrItem *item = attr_find(py->g->cx, op->attr, A_data);
    const Data *d = item ? item->data : NULL;
    Shape s = nki_shape(ty);
    const char *shape = nki_tuple(py, s.dim, s.n), *dtype = numpy_dtype(py, (DType)ty->dtype);

    py->np = true;
    if (!d || d->dtype != ty->dtype || (int64_t)d->bytes != buffer_bytes(ty))
        return fail(py->g->cx, ST_BUG, op->loc, "NKI-6004 constant buffer and its data disagree");
    if (is_uniform(d, dtypes[d->dtype].bytes)) {
        const char *v = nki_float(py, dtype_load((DType)d->dtype, d->p));
        text_put(&py->consts, "%s = np.full(%s, %s, dtype=%s)\n", name, shape, v, dtype);
    } else if (is_identity(d, ty)) {
        text_put(&py->consts, "%s = np.eye(%lld, dtype=%s)\n", name, (long long)ty->dim[0], dtype);
    } else if (d->bytes <= NKI_EMBED) {
        py->base64 = true;
        text_put(&py->consts, "%s = np.frombuffer(base64.b64decode(\n", name);
        put_base64(py, d);
        text_put(&py->consts, "), dtype=%s).reshape(%s)\n", dtype, shape);
    } else {
        py->path = true;
        text_put(&py->consts, "%s = np.load(\n    Path(__file__).with_name(\"%s_%s.npy\")\n).view(%s).reshape(%s)\n",
                 name, py->kernel, py->given[op->out.i], dtype, shape);
    }
    return ST_OK;
}
