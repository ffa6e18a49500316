
/*
 * Spare segments, made in time: a committer must not have to make one.  With
 * the background lock held.
 */


#ifndef KV_SPARE_H
#define KV_SPARE_H


#include "store/kv_handle.h"


/* Segments kept for reuse. */
#define KV_SPARES_KEPT    4u


/*
 * Makes a spare segment if there is none.  If writes are refused, this may show
 * that they work again.
 */
void kv_spare_make(kv_store_t *store);

/* The same if a committer has requested one since the last time. */
void kv_spare_if_asked(kv_store_t *store);

/*
 * For kv_io_pace_t and the like, with the store as `data`: whether background
 * work must end, because the process does or the zone broke; and the same after
 * kv_spare_if_asked(), and kv_disk_space_if_asked().
 */
bool kv_spare_stopped(void *data);
bool kv_spare_asked_or_stopped(void *data);


#endif /* KV_SPARE_H */
