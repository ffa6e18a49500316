
/*
 * Whole numbers as text: what a counter's value is.
 *
 * A number is a minus sign, if it is negative, and decimal digits, without
 * anything before, between or behind them: no plus, no space, no leading zero,
 * no "-0".  So each number has one text, of 64 bits with its sign.
 */


#ifndef KV_NUMBER_H
#define KV_NUMBER_H


#include "base/kv_base.h"


/* the longest: -9223372036854775808 */
#define KV_NUMBER_MAX  20u


/* Whether the `n` bytes at `p` are a number, and then which. */
bool kv_number_parse(const char *p, size_t n, int64_t *number);

/* Writes a number to `p`, KV_NUMBER_MAX bytes.  Its length. */
size_t kv_number_print(int64_t number, char *p);


#endif /* KV_NUMBER_H */
