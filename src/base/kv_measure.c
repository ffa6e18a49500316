
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
