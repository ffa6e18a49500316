
/*
 * What the files of recovery share: kv_recover.c, kv_recover_passes.c and
 * kv_recover_record.c.
 */


#ifndef KV_RECOVER_PRIVATE_H
#define KV_RECOVER_PRIVATE_H


#include "base/kv_prefault.h"
#include "disk/kv_start.h"
#include "store/kv_handle.h"
#include "store/kv_missing.h"
#include "store/kv_progress.h"


/*
 * Puts whose entries are made, but not in the map yet.  The processor fetches
 * their buckets while more are read, so that linking them does not wait for
 * memory.
 */
#define KV_RECOVER_AHEAD  16

/* bytes of the ordered index for a key, about */
#define KV_RECOVER_LISTED  24

/* beginnings with a smaller map; the last one has half of what is usual */
#define KV_RECOVER_TIGHTER  3


typedef enum {
    KV_RECOVER_FIRST = 0,            /* all records */
    KV_RECOVER_MISSING,              /* again, only for missing keys */
    KV_RECOVER_TIGHT,                /* all again, with a small map */
    KV_RECOVER_DONE,                 /* no key is missing */
    KV_RECOVER_TOO_SMALL             /* the zone cannot hold all keys */
} kv_recover_pass_t;


typedef struct {
    uint64_t      hash;
    kv_entry_t   *e;
} kv_ahead_t;


typedef struct {
    kv_store_t   *store;
    kv_err_t     *err;
    kv_start_t    start;             /* the snapshot, and what of the log */
    kv_wal_final_t  final;           /* what is committed of that */
    uint64_t      snapshot_size;     /* of the file that is read */
    uint64_t      records;
    uint64_t      bytes;             /* of these, in the file being read; or
                                        in the log */
    uint64_t      cleared_lsn;       /* of the last clear */
    uint64_t      keys_max;          /* that the map may be made for */
    uint64_t      keys_most;         /* that it had at one time */
    unsigned      tight;             /* beginnings with a smaller map */
    kv_recover_pass_t  pass;
    bool          replays;           /* the log: its records, not others */
    kv_missing_t  missing;
    kv_missing_t  missing_before;    /* KV_RECOVER_MISSING: the last pass */
    kv_ahead_t    ahead[KV_RECOVER_AHEAD];
    unsigned      ahead_n;
    kv_prefault_t prefault;
    kv_progress_t progress;
    uint64_t      step_bytes;        /* when to tell both the next time */
} kv_recover_ctx_t;


/* kv_recover_passes.c; all of them as kv_recover(), with ctx->err filled */

/* Empties heap and map. */
kv_rc_t kv_recover_reset(kv_recover_ctx_t *ctx);

/*
 * Makes the map as large as the snapshot needs it, unless the zone may get so
 * full that entries need the memory more.
 */
void kv_recover_expect(kv_zone_t *zone, const kv_snapshot_guess_t *guess);

/*
 * Reads all of a snapshot; results as those of kv_snapshot_read().  `memory` is
 * about what its entries will take, in bytes, or 0 if the zone has it already.
 */
kv_rc_t kv_recover_read(kv_recover_ctx_t *ctx, uint64_t lsn, uint64_t memory,
    uint64_t *end_lsn, uint64_t *bytes, kv_err_t *err);

/* Reads the log from there on. */
kv_rc_t kv_recover_replay(kv_recover_ctx_t *ctx);

/*
 * Reads everything again for keys that are missing, until none is, and makes
 * the index of them all.
 */
kv_rc_t kv_recover_again(kv_recover_ctx_t *ctx);


/* kv_recover_record.c */

/* One record, `data` being the context: for kv_snapshot_read() and the log. */
kv_rc_t kv_recover_record(void *data, uint64_t lsn, const kv_record_t *rec);

/* A file of the log begins: for kv_wal_replay_t. */
void kv_recover_segment(void *data, size_t i, size_t n);

/* Puts the entries in ctx->ahead into the map.  KV_OK or KV_DEAD. */
kv_rc_t kv_recover_link(kv_recover_ctx_t *ctx);


#endif /* KV_RECOVER_PRIVATE_H */
