
/*
 * What the two halves of the log share: kv_wal_write.c writes, kv_wal_replay.c
 * reads back.
 */


#ifndef KV_WAL_PRIVATE_H
#define KV_WAL_PRIVATE_H


#include "disk/kv_direct.h"
#include "disk/kv_wal.h"


typedef enum {
    KV_WAL_SEGMENT = 0,              /* log-<LSN>.kvl */
    KV_WAL_SEGMENT_TMP,              /* log-<LSN>.tmp, a segment being begun */
    KV_WAL_SPARE,                    /* spare-<n>.kvl */
    KV_WAL_SPARE_TMP,                /* spare-<n>.tmp */
    KV_WAL_CLOSED                    /* log-<LSN>.closed */
} kv_wal_file_t;


typedef struct {
    kv_wal_file_t  kind;
    uint64_t       number;           /* the LSN or n of the name */
} kv_wal_name_t;


struct kv_wal_s {
    kv_io_t         *io;
    int              dirfd;
    kv_wal_state_t  *state;
    uint64_t         segment_size;
    size_t           max_batch;

    /* the segment that is open here, which may no longer be the current one */
    int              fd;             /* -1: none */
    uint64_t         fd_lsn;
    uint64_t         fd_salt;
    kv_direct_t      out;            /* what is written to it */
    bool             direct;         /* past the page cache, if it can */

    /*
     * The batch being built.  Its header and all that is small lie in
     * `staging`; the iovecs tell the order of that and the values' pieces.
     * The writing uses iovecs up, so it gets a copy.
     */
    uint8_t         *staging;        /* max_batch bytes */
    size_t           staged;
    struct iovec    *iov;
    struct iovec    *iov_copy;
    size_t           iov_n;
    size_t           iov_max;
    size_t           len;            /* of the batch with its header */
    uint32_t         count;
    uint32_t         puts;           /* of these */
    size_t           reserve;        /* see kv_wal_set_reserve() */
};


/* Writes the name of the file to `buf`, of KV_NAME_MAX bytes; returns it. */
char *kv_wal_name(char *buf, kv_wal_file_t kind, uint64_t number);

/*
 * The log's files in the directory by kind and number: an array that the
 * caller frees, in *names, and how many in *n.  KV_OK, or what kv_io_rc()
 * says, with errno set.
 */
kv_rc_t kv_wal_list(kv_wal_t *wal, kv_wal_name_t **names, size_t *n);

/*
 * Opens a segment and reads its header, which is not judged here (as many
 * bytes as there are; zeroes follow): the 4096 bytes go to `buf`, the file's
 * own size to *size.  Returns the descriptor or -1 with errno set.
 */
int kv_wal_open(kv_wal_t *wal, uint64_t lsn, uint8_t *buf, uint64_t *size);

/* Reads log-<LSN>.closed.  KV_OK, KV_DAMAGED, or KV_ERROR with errno set. */
kv_rc_t kv_wal_read_closed(kv_wal_t *wal, uint64_t lsn, kv_closed_t *closed);

/*
 * Before the first batch after a start: deletes log-<LSN>.closed, for good.
 * One that cannot be deleted stays, and the log goes on in a new segment, of
 * whose end it says nothing.  KV_OK, or what kv_io_rc() says, with `err`
 * filled.
 */
kv_rc_t kv_wal_open_again(kv_wal_t *wal, kv_err_t *err);

/* The checksum of a segment's header, all 4096 bytes of it. */
uint32_t kv_wal_header_crc(const uint8_t *buf);

/*
 * Turns a spare into the file `tmp`, opened as *fd, under the commit lock.
 * Spares of another size than the configured one are deleted, and so are
 * segments that a dead process was about to begin.  KV_OK, KV_NOT_FOUND (no
 * spare), or what kv_io_rc() says, with errno set.
 */
kv_rc_t kv_wal_take_spare(kv_wal_t *wal, const char *tmp, int *fd);

/* The result that errno stands for (kv_io_rc()). */
kv_rc_t kv_wal_rc(void);

/* Moves the state to *to as one step, whenever the process may be killed. */
void kv_wal_move(kv_wal_state_t *state, const kv_wal_position_t *to);

/* Finishes a move that a dead process began. */
void kv_wal_settle(kv_wal_state_t *state);

/* Forgets, and closes, the descriptor of the current segment. */
void kv_wal_close(kv_wal_t *wal);


#endif /* KV_WAL_PRIVATE_H */
