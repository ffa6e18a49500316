
/*
 * What is done when the disk is full: what can give way is the log.  With the
 * background lock held.
 */


#ifndef KV_DISK_FULL_H
#define KV_DISK_FULL_H


#include "store/kv_handle.h"


/* Writes are refused: sees whether that can be changed, or has changed. */
void kv_disk_full_retry(kv_store_t *store);


#endif /* KV_DISK_FULL_H */
