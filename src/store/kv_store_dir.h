
/*
 * The store's directory, as the user of a store sees it: checked when the
 * configuration is read, and opened, locked and given to the workers' user
 * before kv_store_create() reads what is in it.  What is checked, and why, is
 * in disk/kv_dir.h.
 */


#ifndef KV_STORE_DIR_H
#define KV_STORE_DIR_H


#include "disk/kv_dir.h"


/* Processes share the descriptors: the lock lasts as long as one of them. */

typedef struct {
    kv_io_t           io;            /* the calls; whom new files belong to */
    int               fd;            /* the directory; -1: it is not open */
    int               lockfd;        /* kv.lock; -1: it is not locked */
    char              made[256];     /* its name, if it was missing; or "" */
    kv_dir_found_t    found;         /* once it is locked */
} kv_store_dir_t;


/* Neither open nor locked; files belong to the caller. */
void kv_store_dir_init(kv_store_dir_t *dir);

/*
 * Whether `path` could be opened and locked, if no other master has it.
 * Changes nothing.  KV_OK with *id filled; KV_DECLINED: this user has no right
 * to see it; KV_ERROR; both with `err` filled.
 */
kv_rc_t kv_store_dir_check(const char *path, kv_dir_id_t *id, kv_err_t *err);

/* Which directory is open, by whatever name.  KV_OK or KV_ERROR. */
kv_rc_t kv_store_dir_id(const kv_store_dir_t *dir, kv_dir_id_t *id);

/* Whether both are one directory. */
bool kv_store_dir_same(const kv_dir_id_t *one, const kv_dir_id_t *two);

/*
 * Opens `path`, and makes its last component if that is missing.  KV_OK, or
 * KV_ERROR with `err` filled.
 */
kv_rc_t kv_store_dir_open(kv_store_dir_t *dir, const char *path,
    kv_err_t *err);

/*
 * Locks it.  Nothing is changed there by a caller that does not get the lock.
 * KV_OK; KV_BUSY with *holder filled; KV_ERROR with `err` filled.
 */
kv_rc_t kv_store_dir_lock(kv_store_dir_t *dir, const char *path,
    kv_holder_t *holder, kv_err_t *err);

/*
 * Gives it and our files in it to the user and group of dir->io, and takes all
 * rights from others.  The caller holds the lock.  KV_OK, or KV_ERROR with
 * `err` filled.
 */
kv_rc_t kv_store_dir_take(kv_store_dir_t *dir, const char *path,
    kv_err_t *err);

/* Writes down which process holds the lock, for those that find it taken. */
void kv_store_dir_set_holder(kv_store_dir_t *dir, int pid);

/*
 * Takes back what was done since kv_store_dir_open(), for a caller that stored
 * nothing there; see kv_dir_undo().  Before kv_store_dir_close().
 */
void kv_store_dir_undo(kv_store_dir_t *dir);

/* Closes what is open. */
void kv_store_dir_close(kv_store_dir_t *dir);


#endif /* KV_STORE_DIR_H */
