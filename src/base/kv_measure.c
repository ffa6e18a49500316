
/*
 * Distributions; see kv_measure.h.
 */


#include "base/kv_measure.h"


#define kv_get(v)      kv_get_relaxed(v)
#define kv_set(v, n)   kv_set_relaxed(v, n)
#define kv_plus(v, n)  kv_set(v, kv_get(v) + (n))


void
kv_measure_count(kv_measure_t *m, uint64_t value)
{
    if (kv_get(m->count) == 0 || value < kv_get(m->min)) {
        kv_set(m->min, value);
    }

    if (value > kv_get(m->max)) {
        kv_set(m->max, value);
    }

    kv_plus(m->count, 1);
    kv_plus(m->sum, value);
}


void
kv_measure_add(kv_measure_t *to, const kv_measure_t *from)
{
    if (kv_get(from->count) == 0) {
        return;
    }

    if (kv_get(to->count) == 0 || kv_get(from->min) < kv_get(to->min)) {
        kv_set(to->min, kv_get(from->min));
    }

    if (kv_get(from->max) > kv_get(to->max)) {
        kv_set(to->max, kv_get(from->max));
    }

    kv_plus(to->count, kv_get(from->count));
    kv_plus(to->sum, kv_get(from->sum));
}


double
kv_measure_mean(const kv_measure_t *m)
{
    uint64_t  count;

    count = kv_get(m->count);

    return count ? (double) kv_get(m->sum) / (double) count : 0.0;
}


uint64_t
kv_measure_min(const kv_measure_t *m)
{
    return kv_get(m->count) ? kv_get(m->min) : 0;
}


void
kv_histogram_count(kv_histogram_t *h, uint64_t value, uint64_t first)
{
    kv_measure_count(&h->measure, value);
    kv_plus(h->bucket[kv_histogram_bucket(value, first)], 1);
}


void
kv_histogram_add(kv_histogram_t *to, const kv_histogram_t *from)
{
    unsigned  i;

    kv_measure_add(&to->measure, &from->measure);

    for (i = 0; i <= KV_HISTOGRAM_BOUNDS; i++) {
        kv_plus(to->bucket[i], kv_get(from->bucket[i]));
    }
}


void
kv_histogram_upto(const kv_histogram_t *h,
    uint64_t upto[KV_HISTOGRAM_BOUNDS + 1])
{
    unsigned  i;
    uint64_t  sum;

    for (i = 0, sum = 0; i <= KV_HISTOGRAM_BOUNDS; i++) {
        sum += kv_get(h->bucket[i]);
        upto[i] = sum;
    }
}
