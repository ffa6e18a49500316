
/*
 * Numbers as text; see kv_number.h.
 */


#include "base/kv_number.h"


bool
kv_number_parse(const char *p, size_t n, int64_t *number)
{
    bool      negative;
    size_t    i;
    int64_t   sum;
    unsigned  digit;

    negative = n && p[0] == '-';
    i = negative;

    /* a first zero is the whole number */

    if (i == n || (p[i] == '0' && n > 1)) {
        return false;
    }

    /* downwards: the least number has no counterpart */

    for (sum = 0; i < n; i++) {
        digit = (unsigned) (unsigned char) p[i] - '0';

        if (digit > 9
            || __builtin_mul_overflow(sum, 10, &sum)
            || __builtin_sub_overflow(sum, digit, &sum))
        {
            return false;
        }
    }

    if (!negative && __builtin_sub_overflow(0, sum, &sum)) {
        return false;
    }

    *number = sum;

    return true;
}


size_t
kv_number_print(int64_t number, char *p)
{
    char      digits[KV_NUMBER_MAX];
    size_t    n, k;
    uint64_t  rest;

    n = 0;
    k = 0;
    rest = number < 0 ? 0 - (uint64_t) number : (uint64_t) number;

    do {
        digits[n++] = (char) ('0' + rest % 10);
        rest /= 10;
    } while (rest);

    if (number < 0) {
        p[k++] = '-';
    }

    while (n) {
        p[k++] = digits[--n];
    }

    return k;
}
