
/*
 * What the snapshots' tests share: a directory of their own, and snapshots
 * whose records follow from their numbers and sizes.
 */


#ifndef SNAP_RIG_H
#define SNAP_RIG_H


#include "disk/kv_snapshot.h"


#define MIB        ((size_t) 1 << 20)
#define BLOCK_MAX  MIB
#define LSN        0x1234abcdull
#define NAME       "snap-000000001234abcd.kvs"
#define TMP        "snap-000000001234abcd.tmp"


/* What is in a snapshot: records of these value sizes, one after the other. */

typedef struct {
    const uint32_t  *sizes;
    unsigned         n;
    unsigned         seen;
    unsigned         stop_at;        /* cancelled after that many; 0: never */
} content_t;


extern kv_io_t         snap_io;      /* the system's */
extern int             snap_dirfd;

extern const uint32_t  snap_small[8];
extern const uint64_t  snap_seed[2];
extern const kv_identity_t  snap_id;

/* What the header of a snapshot with these says, of a log of its own. */
void snap_about(kv_snapshot_about_t *about, uint64_t lsn, uint64_t time_ms);


/* cmocka's: an empty directory. */
int snap_setup(void **state);
int snap_teardown(void **state);

bool snap_exists(const char *name);

/* How many files there are. */
unsigned snap_files(void);

/* Writes n bytes, and nothing else stays in the file. */
void snap_make_file(const char *name, const void *data, size_t n);


/*
 * The i-th record, into rec, key (64 bytes) and iov: every third expires, and
 * values come in three pieces, which stay the fixture's.
 */
void snap_make_record(unsigned i, uint32_t size, kv_record_t *rec, char *key,
    struct iovec iov[4]);

/* A kv_record_pt: ctx is a content_t, and this must be its next record. */
kv_rc_t snap_same_record(void *ctx, uint64_t lsn, const kv_record_t *rec);

/*
 * Writes a snapshot of n records; it ends with LSN + 99.  Returns what the
 * first call that fails does; what was begun is aborted then.
 */
kv_rc_t snap_write(kv_io_t *with, uint64_t lsn, const uint32_t *sizes,
    unsigned n, uint64_t *bytes, kv_err_t *err);

/* Returns what kv_snapshot_read() does; if KV_OK, all n records were there. */
kv_rc_t snap_read(kv_io_t *with, uint64_t lsn, const uint32_t *sizes,
    unsigned n, uint64_t *end_lsn, uint64_t *bytes, kv_err_t *err);


#endif /* SNAP_RIG_H */
