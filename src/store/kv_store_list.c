
/*
 * Lists: keys in order from the index, and what the map has for them.  Both are
 * read some keys at a time, so that the processor waits once for many of them.
 */


#include "store/kv_clock.h"
#include "store/kv_group.h"


#define KV_LIST_GROUP   16
#define KV_LIST_BUFFER  2048


/* Keys that the index has given, and whose entries are not looked up yet. */

typedef struct {
    kv_zone_t          *zone;
    kv_map_t           *map;
    kv_store_list_pt    cb;
    void               *ctx;
    bool                more;        /* the callback wants */
    bool                again;       /* a group becomes visible */
    uint64_t            groups;      /* see kv_group_quiet() */
    unsigned            n;
    size_t              used;        /* bytes of the buffer */
    uint64_t            hash[KV_LIST_GROUP];
    kv_slice_t          key[KV_LIST_GROUP];
    unsigned char       buffer[KV_LIST_BUFFER];
} kv_list_t;


static bool kv_list_add(void *data, const unsigned char *key, size_t n);
static bool kv_list_look_up(kv_list_t *list);


kv_rc_t
kv_store_list(kv_store_t *store, const void *from, size_t n, bool after,
    kv_store_list_pt cb, void *ctx)
{
    kv_zone_t  *zone;
    kv_list_t   list;

    zone = store->zone;

    if (!zone->list) {
        return KV_DECLINED;
    }

    if (!kv_store_ready(store)) {
        return KV_UNAVAILABLE;
    }

    list.zone = zone;
    list.map = &zone->map;
    list.cb = cb;
    list.ctx = ctx;
    list.more = true;
    list.again = false;
    list.n = 0;
    list.used = 0;

    if (!kv_group_quiet(zone, &list.groups)) {
        return KV_AGAIN;
    }

    kv_epoch_enter(store->worker, KV_EPOCH_MAIN, &zone->retired.epoch);

    kv_index_walk(&zone->index, from, n, after, kv_list_add, &list);

    if (list.more) {
        (void) kv_list_look_up(&list);
    }

    kv_epoch_leave(store->worker, KV_EPOCH_MAIN);

    return list.again ? KV_AGAIN : KV_OK;
}


kv_version_t
kv_store_state_version(kv_store_t *store)
{
    kv_version_t  version;

    version.lsn = atomic_load(&store->zone->applied_lsn);
    version.incarnation = atomic_load(&store->zone->wal.incarnation);

    return version;
}


static bool
kv_list_add(void *data, const unsigned char *key, size_t n)
{
    kv_list_t  *list = data;

    if ((list->n == KV_LIST_GROUP || n > KV_LIST_BUFFER - list->used)
        && !kv_list_look_up(list))
    {
        return false;
    }

    list->hash[list->n] = kv_map_hash(list->map, key, n);
    list->key[list->n].n = n;
    kv_map_prefetch(list->map, list->hash[list->n]);

    if (n > KV_LIST_BUFFER) {

        /* it is good to read only now */

        list->key[list->n++].p = key;
        return kv_list_look_up(list);
    }

    list->key[list->n++].p = memcpy(list->buffer + list->used, key, n);
    list->used += n;

    return true;
}


/*
 * Visits the keys, which may be gone since, or expired.  All that a group may
 * change in place is read before the check that none has begun.
 */

static bool
kv_list_look_up(kv_list_t *list)
{
    uint64_t     expires[KV_LIST_GROUP];
    unsigned     i;
    kv_entry_t  *e[KV_LIST_GROUP];

    for (i = 0; i < list->n; i++) {
        kv_map_prefetch_entry(list->map, list->hash[i]);
    }

    for (i = 0; i < list->n; i++) {
        e[i] = kv_clock_find(list->zone, list->hash[i], list->key[i].p,
                             list->key[i].n, &expires[i]);
    }

    if (!kv_group_still(list->zone, list->groups)) {
        list->again = true;
        list->more = false;
    }

    for (i = 0; i < list->n && list->more; i++) {
        list->more = list->cb(list->ctx, list->key[i].p, list->key[i].n, e[i],
                              kv_clock_left(list->zone, expires[i]));
    }

    list->n = 0;
    list->used = 0;

    return list->more;
}
