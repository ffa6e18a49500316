
/*
 * How far long work is; see kv_progress.h.
 */


#include <stdarg.h>

#include "store/kv_progress.h"
#include "store/kv_handle.h"


/* between two lines, ns */
#define KV_PROGRESS_INTERVAL  UINT64_C(2000000000)


void
kv_progress_begin(kv_progress_t *p, kv_store_t *store)
{
    memset(p, 0, sizeof(kv_progress_t));

    p->store = store;
    p->started = kv_now_ns();
    p->next = p->started + KV_PROGRESS_INTERVAL;
    p->unit = "MiB";
    p->per = 1u << 20;
}


void
kv_progress_bytes(kv_progress_t *p, uint64_t total, const char *what, ...)
{
    va_list  args;

    va_start(args, what);
    (void) vsnprintf(p->what, sizeof(p->what), what, args);
    va_end(args);

    p->unit = "MiB";
    p->per = 1u << 20;
    p->total = total;
}


void
kv_progress_keys(kv_progress_t *p, uint64_t total, const char *what)
{
    (void) snprintf(p->what, sizeof(p->what), "%s", what);

    p->unit = "keys";
    p->per = 1;
    p->total = total;
}


void
kv_progress_step(kv_progress_t *p, uint64_t done)
{
    char      of[32];
    uint64_t  now;

    now = kv_now_ns();

    if (now < p->next) {
        return;
    }

    p->next = now + KV_PROGRESS_INTERVAL;
    of[0] = '\0';

    if (p->total) {
        (void) snprintf(of, sizeof(of), "of %llu ",
                        (unsigned long long) (kv_max(p->total, done) / p->per));
    }

    kv_store_log(p->store, KV_LOG_NOTICE, "kv zone \"%s\": recovering for %llu "
                 "s: %s: %llu %s%s", p->store->conf.name,
                 (unsigned long long) ((now - p->started) / 1000000000),
                 p->what, (unsigned long long) (done / p->per), of, p->unit);
}
