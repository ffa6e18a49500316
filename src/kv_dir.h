
/*
 * The data directory: made, owned and locked.  The master's, at start.
 */


#ifndef KV_DIR_H
#define KV_DIR_H


#include "kv_io.h"


#define KV_DIR_LOCK  "kv.lock"


/*
 * Opens `path`, making its last component if it is missing, and sees to it
 * that it has mode 0700 and belongs to `uid` and `gid` (-1: whoever calls).
 * KV_OK with the descriptor in *dirfd, or KV_ERROR with `err` filled.
 */
kv_rc_t kv_dir_open(const char *path, uid_t uid, gid_t gid, int *dirfd,
    kv_err_t *err);

/*
 * Locks it for the life of the descriptor *lockfd and its copies in children;
 * the lock's file gets the same owner.
 * KV_OK; KV_BUSY with the holder's pid in *holder (0: unknown); KV_ERROR with
 * `err` filled.
 */
kv_rc_t kv_dir_lock(int dirfd, const char *path, uid_t uid, gid_t gid,
    int *lockfd, int *holder, kv_err_t *err);

/* Writes down who holds the lock, for people. */
void kv_dir_set_holder(int lockfd, int pid);


#endif /* KV_DIR_H */
