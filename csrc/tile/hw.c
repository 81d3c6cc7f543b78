/* hw.c - the hardware table as one record per target.
 *
 * out: hw_get(target), constant data generated from the rows of hw.def.
 */
#include <assert.h>

#include "tile/tile.h"

static const Hw table[TG_COUNT] = {
    [TG_trn1] = {.name = "trn1", .gen = 2,
#define HW(field, gen2, gen3, gen4, text) .field = gen2,
#include "tile/hw.def"
#undef HW
    },
    [TG_trn2] = {.name = "trn2", .gen = 3,
#define HW(field, gen2, gen3, gen4, text) .field = gen3,
#include "tile/hw.def"
#undef HW
    },
    [TG_trn3] = {.name = "trn3", .gen = 4,
#define HW(field, gen2, gen3, gen4, text) .field = gen4,
#include "tile/hw.def"
#undef HW
    },
};

const Hw *
hw_get(int target)
{
    assert(target >= 0 && target < TG_COUNT);
    return &table[target];
}
