
/*
 * What the files of the backups share: kv_backup_write.c makes one,
 * kv_backup_read.c reads it, kv_backup_restore.c writes its files back, and
 * kv_backup_identity.c has them be of another store.
 */


#ifndef KV_BACKUP_PRIVATE_H
#define KV_BACKUP_PRIVATE_H


#include "base/kv_crc32c.h"
#include "disk/kv_backup.h"
#include "disk/kv_wal_walk.h"


/* bytes that are read at a time */
#define KV_BACKUP_BLOCK  (1u << 20)


/* A file in a backup. */

typedef struct {
    char              name[KV_NAME_MAX];   /* in the directory */
    kv_backup_kind_t  kind;
    uint64_t          lsn;
    uint64_t          offset;              /* of its first byte */
    uint64_t          len;
    kv_wal_cut_t      cut;                 /* of its last batch, if any */
} kv_backup_file_t;


/*
 * A backup that is read.  `io` shows its files as a directory, of any
 * descriptor, from which one can only read.  Or an archive (kv_archive.h), of
 * which it shows two directories as one.
 */

typedef struct {
    kv_io_t                   io;          /* first */
    int                       fd;
    int                       dir[2];      /* of an archive, else -1 */
    kv_backup_header_t        header;
    kv_backup_file_t         *file;        /* all parts but the end */
    uint32_t                  files;
    const kv_backup_watch_t  *watch;
    uint64_t                  done;        /* bytes, */
    uint64_t                  all;         /* of these: see kv_backup_watch_t */
} kv_backup_reader_t;


/* The store that the files of a backup name, and the one that they are to. */

typedef struct {
    uint64_t                  was[2];
    uint64_t                  is[2];
} kv_restore_ids_t;


static inline uint32_t
kv_backup_header_crc(kv_backup_header_t h)
{
    h.crc = 0;

    return kv_crc32c(0, &h, sizeof(h));
}


static inline uint32_t
kv_backup_part_crc(const kv_backup_part_t *p)
{
    return kv_crc32c(0, &p->kind, sizeof(*p) - offsetof(kv_backup_part_t,
                                                        kind));
}


/* Writes the name of such a file to `name`, of KV_NAME_MAX bytes. */
void kv_backup_name(char *name, kv_backup_kind_t kind, uint64_t lsn);

/* What a file of that name is; false: it is none that backups have. */
bool kv_backup_parse(const char *name, kv_backup_kind_t *kind, uint64_t *lsn);

/*
 * Opens the file, and finds all its parts.  `passes`: how often its bytes will
 * be told to the watch.  KV_OK; KV_DAMAGED, KV_ERROR or KV_AGAIN, `err` filled,
 * and there is nothing to close.
 */
kv_rc_t kv_backup_open(kv_backup_reader_t *r, const char *path,
    const kv_backup_watch_t *watch, unsigned passes, kv_err_t *err);

void kv_backup_close(kv_backup_reader_t *r);

/* Whether the digest is right.  KV_OK or KV_DAMAGED, and as above. */
kv_rc_t kv_backup_digest(kv_backup_reader_t *r, kv_err_t *err);

/*
 * Reads the snapshot and the log in a directory, which is to hold what the
 * backup says: r->io, of any descriptor, or one in which it was restored.
 * Results as above.
 */
kv_rc_t kv_backup_verify(kv_backup_reader_t *r, kv_io_t *io, int dirfd,
    kv_err_t *err);

/* Makes it of the files.  Results as of kv_backup_restore(). */
kv_rc_t kv_restore_from(kv_backup_reader_t *from, const char *dir,
    kv_err_t *err);

/*
 * Gives `id`, that of the files which are to be restored, another store, and
 * fills *ids.  KV_OK, or KV_ERROR with errno set.
 */
kv_rc_t kv_restore_new_store(kv_identity_t *id, kv_restore_ids_t *ids);

/*
 * Has the header of a file that was restored name the new store; a file of
 * format 1, or of another store, stays as it is.  KV_OK, or the result of
 * kv_io_rc() with errno set.
 */
kv_rc_t kv_restore_set_store(kv_io_t *io, int fd, kv_backup_kind_t kind,
    const kv_restore_ids_t *ids);

/* Tells the watch of `n` more bytes: KV_OK or KV_CANCELLED. */
kv_rc_t kv_backup_step(kv_backup_reader_t *r, uint64_t n);

/* "offset <offset>: <what>": KV_DAMAGED. */
kv_rc_t kv_backup_damaged(uint64_t offset, kv_err_t *err, const char *what);


#endif /* KV_BACKUP_PRIVATE_H */
