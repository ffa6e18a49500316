
/*
 * A distribution: how many values there were, their sum, the least and the
 * greatest.  One writer at a time, so relaxed loads and stores suffice, without
 * a locked instruction; any process reads.  All zero is one without values.
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


/* Counts a value; the writer alone. */
void kv_measure_count(kv_measure_t *m, uint64_t value);

/* Adds what `from` counted to `to`, which the caller alone uses. */
void kv_measure_add(kv_measure_t *to, const kv_measure_t *from);

/* The mean, 0 without values. */
double kv_measure_mean(const kv_measure_t *m);

/* The least value, 0 without values. */
uint64_t kv_measure_min(const kv_measure_t *m);


#endif /* KV_MEASURE_H */
