/* digits.c - sizes as products of small digits.
 *
 * in:   a size
 * out:  its digits, none when a prime of it is too large; how much of an axis of that size is turned around at a time
 * rule: primes are gathered into digits of at most DIGIT, the large ones first
 */
#include "lower/digits.h"

/* n as a product of digits; how many, or 0 when a prime of it is too large. */
int
digits_of(int64_t n, int64_t digit[MAX_DIGITS])
{
    static const int64_t primes[] = {13, 11, 7, 5, 3, 2};
    int k = 0;
    for (int p = 0; p < COUNT_OF(primes); p++)
        for (; n % primes[p] == 0; n /= primes[p]) {
            int i = 0;
            while (i < k && digit[i] * primes[p] > DIGIT)
                i++;
            if (i == k)
                digit[k++] = 1;
            digit[i] *= primes[p];
        }
    return n == 1 ? k : 0;
}

bool
is_smooth(int64_t n)
{
    int64_t digit[MAX_DIGITS];
    return n == 1 || digits_of(n, digit) > 0;
}

int64_t
smooth_below(int64_t n)
{
    while (!is_smooth(n))
        n--;
    return n;
}

/* How many elements of an axis, of so many bytes each, are a run: enough runs for the partitions, unless what lies
 * before the axis fills them, and a divisor where one is near. */
int64_t
run_to_turn(int64_t n, int64_t before, int64_t bytes)
{
    int64_t want = before >= MANY_ROWS ? TURNED_BYTES : MAX(n * bytes / 128, SPLIT_BYTES);
    int64_t most = MAX(MIN(want, TURNED_BYTES) / bytes, 2);
    for (int64_t b = MIN(most, n); b > most / 4 && b > 1; b--)
        if (n % b == 0 && is_smooth(b))
            return b;
    return smooth_below(MIN(most, n));
}
