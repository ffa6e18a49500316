
/*
 * The states of a store: see the table in kv_state.h.
 */


#include "store/kv_state.h"
#include "store/kv_handle.h"


/* between two messages of the same sort; ns */
#define KV_STATE_LOG_INTERVAL  UINT64_C(10000000000)

/* the first pause before another try, and the longest; ns */
#define KV_STATE_PAUSE      UINT64_C(100000000)
#define KV_STATE_PAUSE_MAX  UINT64_C(3200000000)


static void kv_state_log_refused(kv_store_t *store, kv_rc_t rc,
    const kv_err_t *err);
static bool kv_state_log_now(_Atomic uint64_t *last);
static bool kv_state_passes(kv_rc_t rc, const kv_err_t *err);


kv_state_t
kv_state(kv_zone_t *zone)
{
    switch (atomic_load(&zone->state)) {

    case KV_ZONE_READY:
        break;

    case KV_ZONE_FAILED:
        return KV_STATE_FAILED;

    default:
        return KV_STATE_RECOVERING;
    }

    if (kv_heap_broken(zone->heap)) {
        return KV_STATE_RECOVERING;
    }

    switch (atomic_load(&zone->writes)) {

    case KV_WRITES_OK:
        return KV_STATE_READY;

    case KV_WRITES_FULL:
        return KV_STATE_DISK_FULL;

    case KV_WRITES_REFUSED:
        return KV_STATE_REFUSING;

    default:
        return KV_STATE_READ_ONLY;
    }
}


const char *
kv_state_name(kv_state_t state)
{
    static const char *const  names[] = {
        "ready", "disk full", "refusing", "read-only", "recovering", "failed"
    };

    return names[state];
}


bool
kv_state_whole(kv_zone_t *zone)
{
    return kv_state_reads(zone) && !kv_heap_broken(zone->heap);
}


bool
kv_state_may_retry(kv_zone_t *zone)
{
    uint64_t  retry;

    retry = kv_state_retry_ns(zone);

    return retry == 0 || kv_now_ns() >= retry;
}


void
kv_state_refused(kv_store_t *store, kv_rc_t rc, size_t len,
    const kv_err_t *err)
{
    uint32_t    was, now;
    uint64_t    most;
    kv_zone_t  *zone;

    zone = store->zone;

    if (!kv_state_writes(zone)) {
        return;
    }

    most = atomic_load(&zone->refused_len);

    if (kv_state_refuses(zone)) {
        most = kv_max(most, len);

    } else {
        most = len;
    }

    atomic_store(&zone->refused_len, most);

    now = rc == KV_NO_SPACE ? KV_WRITES_FULL : KV_WRITES_REFUSED;
    was = atomic_exchange(&zone->writes, now);

    if (was != now || !atomic_load(&zone->refused_logged)
        || kv_get_relaxed(zone->refused_error) != err->error)
    {
        kv_state_log_refused(store, rc, err);
    }
}


static void
kv_state_log_refused(kv_store_t *store, kv_rc_t rc, const kv_err_t *err)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (!kv_state_log_now(&zone->refused_ns)) {
        return;
    }

    kv_set_relaxed(zone->refused_error, err->error);
    atomic_store(&zone->refused_logged, 1);

    if (rc == KV_AGAIN) {
        kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": %s; until then "
                     "writes are refused, and each is tried",
                     store->conf.name, err->text);

    } else if (err->error == EFBIG) {
        kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": %s; a limit of the "
                     "size of files (ulimit -f) is in the way",
                     store->conf.name, err->text);

    } else {
        kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\": the disk of \"%s\" "
                     "is full: writes are refused until there is space (%s)",
                     store->conf.name, store->conf.path, err->text);
    }
}


void
kv_state_wrote(kv_store_t *store, size_t len, bool extended)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (kv_state_refuses(zone)
        && (extended || len >= atomic_load(&zone->refused_len)))
    {
        kv_state_works_again(store);
    }
}


void
kv_state_works_again(kv_store_t *store)
{
    uint32_t    was;
    kv_zone_t  *zone;

    zone = store->zone;
    was = atomic_load(&zone->writes);

    /* meanwhile the committer may have met a worse error */

    if ((was != KV_WRITES_FULL && was != KV_WRITES_REFUSED)
        || !atomic_compare_exchange_strong(&zone->writes, &was, KV_WRITES_OK)
        || !atomic_exchange(&zone->refused_logged, 0))
    {
        return;
    }

    if (was == KV_WRITES_FULL) {
        kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": the disk of "
                     "\"%s\" has space again", store->conf.name,
                     store->conf.path);

    } else {
        kv_store_log(store, KV_LOG_NOTICE, "kv zone \"%s\": writes work again",
                     store->conf.name);
    }
}


void
kv_state_no_writes(kv_store_t *store, const kv_err_t *err)
{
    atomic_store(&store->zone->writes, KV_WRITES_NEVER);

    kv_store_log(store, KV_LOG_ALERT, "kv zone \"%s\": %s: writes are disabled "
                 "until nginx is restarted (a reload is not enough), reads go "
                 "on", store->conf.name, err->text);
}


void
kv_state_retry(kv_zone_t *zone)
{
    uint64_t  pause;

    pause = atomic_load(&zone->retry_pause);
    pause = pause ? kv_min(2 * pause, KV_STATE_PAUSE_MAX) : KV_STATE_PAUSE;

    atomic_store(&zone->retry_pause, pause);
    atomic_store(&zone->retry_ns, kv_now_ns() + pause);
}


void
kv_state_succeeded(kv_zone_t *zone)
{
    if (kv_get_relaxed(zone->retry_ns)) {
        atomic_store(&zone->retry_ns, 0);
        atomic_store(&zone->retry_pause, 0);
    }
}


void
kv_state_loaded(kv_zone_t *zone)
{
    atomic_store(&zone->state, KV_ZONE_READY);
}


void
kv_state_break(kv_store_t *store, const char *why)
{
    uint32_t  ready;

    ready = KV_ZONE_READY;

    if (atomic_compare_exchange_strong(&store->zone->state, &ready,
                                       KV_ZONE_BROKEN))
    {
        kv_state_succeeded(store->zone);

        kv_store_log(store, KV_LOG_WARN, "kv zone \"%s\": %s: it is rebuilt "
                     "from disk", store->conf.name, why);
    }
}


void
kv_state_rebuilt(kv_store_t *store, kv_rc_t rc, const kv_err_t *err)
{
    kv_zone_t  *zone;

    zone = store->zone;

    if (rc == KV_CANCELLED) {
        return;
    }

    if (rc == KV_OK) {
        kv_state_succeeded(zone);
        (void) atomic_fetch_add(&zone->rebuilds, 1);
        atomic_store(&zone->state, KV_ZONE_READY);
        return;
    }

    if (kv_state_passes(rc, err)) {
        kv_state_retry(zone);

        if (kv_state_log_now(&zone->rebuild_ns)) {
            kv_store_log(store, KV_LOG_ERR, "kv zone \"%s\" cannot be rebuilt "
                         "yet: %s; it is tried again and again",
                         store->conf.name, err->text);
        }

        return;
    }

    kv_store_log(store, KV_LOG_ALERT, "kv zone \"%s\" cannot be rebuilt: %s; "
                 "it stays unavailable until nginx is restarted",
                 store->conf.name, err->text);

    atomic_store(&zone->state, KV_ZONE_FAILED);
}


static bool
kv_state_passes(kv_rc_t rc, const kv_err_t *err)
{
    switch (rc) {

    case KV_DEAD:
    case KV_AGAIN:
    case KV_NO_SPACE:
        return true;

    case KV_ERROR:
        return kv_io_rc(err->error) != KV_ERROR;

    default:
        return false;
    }
}


/* Whether the last message of this sort is old enough for another. */

static bool
kv_state_log_now(_Atomic uint64_t *last)
{
    uint64_t  now, then;

    now = kv_now_ns();
    then = atomic_load(last);

    return (then == 0 || now - then >= KV_STATE_LOG_INTERVAL)
           && atomic_compare_exchange_strong(last, &then, now);
}
