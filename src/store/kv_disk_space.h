
/*
 * How much space is left on the disk of the store, and on that of its archive.
 *
 * A disk that hangs does not even tell that.  So it is measured by who may wait
 * for a disk: by a recovery, and by the background task, when a process has
 * asked for it; and whoever tells clients takes what was found last.
 */


#ifndef KV_DISK_SPACE_H
#define KV_DISK_SPACE_H


#include "store/kv_handle.h"


/* Measures both.  What cannot be told stays as it was. */
void kv_disk_space_measure(kv_store_t *store);

/* The same if a process has asked for it since the last time. */
void kv_disk_space_if_asked(kv_store_t *store);


#endif /* KV_DISK_SPACE_H */
