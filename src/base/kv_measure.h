
/*
 * A distribution: how many values there were, their sum, the least and the
 * greatest; and a histogram, which also counts them by size.  One writer at a
 * time, so relaxed loads and stores suffice, without a locked instruction; any
 * process reads.  All zero is one without values.
 *
 * A histogram's bounds are `first`, which its user knows, twice that, and so
 * on.  It is the first cache line of the two or three that it takes where the
 * values are small.  A writer that is killed in the middle leaves one value
 * that some of the fields have, and others do not.
 */


#ifndef KV_MEASURE_H
#define KV_MEASURE_H


#include "base/kv_base.h"


/* In microseconds, or whatever its user counts. */

typedef struct {
    _Atomic uint64_t  count;
    _Atomic uint64_t  sum;
    _Atomic uint64_t  min;             /* of no meaning while count is 0 */
    _Atomic uint64_t  max;
} kv_measure_t;


#define KV_HISTOGRAM_BOUNDS  16

typedef struct {
    kv_measure_t      measure;
    _Atomic uint64_t  bucket[KV_HISTOGRAM_BOUNDS + 1];  /* see below */
} kv_histogram_t;


/*
 * The bucket of a value: i, if it is at most first << i, and more than half of
 * that; the last one, if it is above all bounds.
 */
static inline unsigned
kv_histogram_bucket(uint64_t value, uint64_t first)
{
    uint64_t  n;
    unsigned  i;

    n = value ? (value - 1) / first : 0;
    i = n ? 64 - (unsigned) __builtin_clzll(n) : 0;

    return kv_min(i, (unsigned) KV_HISTOGRAM_BOUNDS);
}


/* Counts a value; the writer alone. */
void kv_histogram_count(kv_histogram_t *h, uint64_t value, uint64_t first);

/* Adds what `from` counted to `to`, which the caller alone uses. */
void kv_histogram_add(kv_histogram_t *to, const kv_histogram_t *from);

/* How many values are at most first << i, for all i; at the end, all values. */
void kv_histogram_upto(const kv_histogram_t *h,
    uint64_t upto[KV_HISTOGRAM_BOUNDS + 1]);


/* Counts a value; the writer alone. */
void kv_measure_count(kv_measure_t *m, uint64_t value);

/* Adds what `from` counted to `to`, which the caller alone uses. */
void kv_measure_add(kv_measure_t *to, const kv_measure_t *from);

/* The mean, 0 without values. */
double kv_measure_mean(const kv_measure_t *m);

/* The least value, 0 without values. */
uint64_t kv_measure_min(const kv_measure_t *m);


#endif /* KV_MEASURE_H */
