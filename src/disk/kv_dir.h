
/*
 * The data directory: found, made, locked, given to the workers' user, and all
 * that taken back if the configuration is refused.  For the master, at start,
 * perhaps as root; and for nginx -t.
 *
 * The directory belongs to the workers' user.  An attacker may have taken that
 * user over, and may put anything into it, at any time.  So root follows no
 * symlink in it, opens only regular files there, and gives away or writes no
 * file that may be another user's.  On the way to it, a symlink is followed
 * where only root could have made it.
 *
 * The lock is one on the directory itself (flock, held by the descriptor that
 * master and workers share), which no deletion of a file can release.  On a
 * network file system such a lock holds on one machine alone; so kv.lock in it
 * is locked as well, as older versions did. kv.lock also says which process is
 * the holder.
 *
 * Messages name the path and what to do.
 */


#ifndef KV_DIR_H
#define KV_DIR_H


#include "disk/kv_io.h"


#define KV_DIR_LOCK  "kv.lock"

/* what an archive (kv_archive.h) has, and no other directory */
#define KV_ARCHIVE_NAME  "archive"


/* Which directory it is, by whatever name. */

typedef struct {
    dev_t             dev;
    ino_t             ino;
    char              missing[256];  /* its name there, if it is missing */
} kv_dir_id_t;


typedef enum {
    KV_HOLDER_UNKNOWN = 0,
    KV_HOLDER_SELF,                  /* this process has, or had, it */
    KV_HOLDER_ALIVE,
    KV_HOLDER_DEAD,                  /* but its workers may not be */
    KV_HOLDER_ELSEWHERE              /* in another container, or machine */
} kv_holder_state_t;

typedef struct {
    kv_holder_state_t  state;
    int                pid;          /* the master's, if known; or 0 */
} kv_holder_t;


/* A directory as it was found, for kv_dir_undo(). */

typedef struct {
    unsigned           files;        /* the kinds of files: kv_dir_private.h */
    bool               archive;      /* KV_ARCHIVE_NAME is one of them */
    uid_t              uid;
    gid_t              gid;
    mode_t             mode;
} kv_dir_found_t;


/*
 * Whether kv_dir_open() and kv_dir_lock() would succeed with `path` if no other
 * master has it; changes nothing.  KV_OK; KV_DECLINED: this user has no right
 * to see it; KV_ERROR; both with `err` filled.  *id is filled on KV_OK.
 */
kv_rc_t kv_dir_check(const char *path, kv_dir_id_t *id, kv_err_t *err);

/* The *id of one that is open.  KV_OK or KV_ERROR. */
kv_rc_t kv_dir_id(int dirfd, kv_dir_id_t *id);

bool kv_dir_same(const kv_dir_id_t *one, const kv_dir_id_t *two);

/*
 * Opens `path`, making its last component (mode 0700) if it is missing, and
 * syncs the directory that it is in.  KV_OK with the descriptor in *dirfd, or
 * KV_ERROR with `err` filled; then it has made nothing.
 */
kv_rc_t kv_dir_open(const char *path, int *dirfd, kv_err_t *err);

/*
 * Locks it for the life of both descriptors, and their copies in children.
 * Until it has the lock it changes nothing in the directory, and then nothing
 * if files of others are there and none of ours.  Makes kv.lock, of the given
 * owner (-1: the caller), with its descriptor in *lockfd.  KV_OK, also with
 * *found filled, unless that is NULL; KV_BUSY with *holder filled; KV_ERROR
 * with `err` filled.
 */
kv_rc_t kv_dir_lock(int dirfd, const char *path, uid_t uid, gid_t gid,
    int *lockfd, kv_dir_found_t *found, kv_holder_t *holder, kv_err_t *err);

/*
 * Locks it for reading, beside others that only read, and changes nothing
 * there: no master can take it before the descriptor is closed.  A caller that
 * may not open kv.lock does without that second lock.  KV_OK; KV_BUSY with
 * *holder filled; KV_ERROR with `err` filled.
 */
kv_rc_t kv_dir_lock_shared(int dirfd, const char *path, kv_holder_t *holder,
    kv_err_t *err);

/*
 * Gives the directory mode 0700, our files in it 0600, and all of them to `uid`
 * and `gid`.  With -1, for a caller that may not give files away: checks that
 * it can be used.  The caller holds the lock.  KV_OK, or KV_ERROR with `err`
 * filled, also if a file with a name of ours is not ours.
 */
kv_rc_t kv_dir_set_owner(int dirfd, const char *path, uid_t uid, gid_t gid,
    kv_err_t *err);

/*
 * Takes back what the caller has done since kv_dir_lock() to a directory where
 * it stored nothing: what was not there before is deleted, and if no data were
 * there, the owner and the mode are what they were.  A store that was there
 * keeps what its start did to it, but for kv.lock and spares.  The caller holds
 * the lock.
 */
void kv_dir_undo(int dirfd, const kv_dir_found_t *found);

/*
 * Removes a directory that the caller has made as `name`, if it is empty and
 * not locked by another.
 */
void kv_dir_remove(int dirfd, const char *name);

/* Writes down which process holds the lock, for those that find it taken. */
void kv_dir_set_holder(int lockfd, int pid);


#endif /* KV_DIR_H */
