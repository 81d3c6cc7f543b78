/* digits.h - how an axis is turned around with no negative stride: digit by digit. */
#ifndef NKIGEN_LOWER_DIGITS_H
#define NKIGEN_LOWER_DIGITS_H

#include "base/base.h"

#define MAX_DIGITS 64
#define DIGIT 16 /* at most: so many copies, which read all of a row once */
#define TURNED_BYTES                                                                                                   \
    8192                 /* of a row that reverse.c turns around within itself: a copy for each digit lies on chip,    \
                          */
#define SPLIT_BYTES 1024 /* and the least that it should be */
#define MANY_ROWS 32     /* from which a tile keeps the engines busy */

int digits_of(int64_t n, int64_t digit[MAX_DIGITS]);
bool is_smooth(int64_t n);
int64_t smooth_below(int64_t n);
int64_t run_to_turn(int64_t n, int64_t before, int64_t bytes);

#endif
