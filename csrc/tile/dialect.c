/* dialect.c - the tile instruction table as data: what ir/ needs to build, print, parse, check.
 *
 * out: tile_dialect; its verifier is the hardware verifier.
 */
#include "tile/tile.h"

static const OpDef tile_ops[K_COUNT] = {
    [K_none] = {.name = "none"},
#define OP(id, class, ...) [K_##id] = {.name = #id, .cls = #class, __VA_ARGS__},
#include "tile/ops.def"
#undef OP
};

const Dialect tile_dialect = {
    .name = "tile",
    .ops = tile_ops,
    .nops = K_COUNT,
    .verify = tile_verify,
};
