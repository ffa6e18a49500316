
/*
 * What the background task does when the disk is full: only the log can give
 * way.  With the background lock held.
 */


#ifndef KV_DISK_FULL_H
#define KV_DISK_FULL_H


#include "store/kv_handle.h"


/*
 * If writes are refused: frees disk space, and tries whether they work again.
 * At most every 100 ms.
 */
void kv_disk_full_retry(kv_store_t *store);


#endif /* KV_DISK_FULL_H */
