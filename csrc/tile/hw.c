/* hw.c - the hardware tables as records: one per target, one per activation function.
 *
 * out: hw_get(target), act_domain(function), constant data generated from the rows of hw.def and act.def.
 */
#include <assert.h>
#include <math.h>

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

static const Domain domains[ACT_COUNT] = {
#define DOMAIN(func, from, to, ...) [ACT_##func] = {.lo = from, .hi = to, .bounded = true},
#define DOMAIN_ABS(func, from, to, ...) [ACT_##func] = {.lo = from, .hi = to, .bounded = true, .of_magnitude = true},
#include "tile/act.def"
};

const Domain *
act_domain(int func)
{
    static const Domain everything = {.lo = -INFINITY, .hi = INFINITY};
    assert(func >= 0 && func < ACT_COUNT);
    return domains[func].bounded ? &domains[func] : &everything;
}
