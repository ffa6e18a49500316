
/*
 * A data directory in memory, and an archive beside it, that keep, in order,
 * all that was done to them, and can tell what a disk may hold after the power
 * went at any moment.
 *
 *
 * What a cut leaves
 *
 *   - Of a file: what it held when it was last synced.  Of each write since,
 *     any of its sectors (512 bytes); of each change of its size since, any.
 *     A sector is whole: as it was, or as one of the writes left it.
 *   - Of the names: those there were when the directory was last synced.  Of
 *     what happened to them since, anything, but that a rename is one step,
 *     and that nothing can happen to a name that was not there.  A sync of a
 *     file says nothing about its name.
 *   - Files and names keep no order among each other.
 *
 * The content of a file is a table of pages that count their references:
 * records and images share them, and a writer copies a page first.
 */


#ifndef DISK_H
#define DISK_H


#include "disk/kv_io.h"


#define DISK_DIR     900              /* the directory's descriptor, */
#define DISK_ARCHIVE 901              /* and that of the archive */
#define DISK_FDS     64
#define DISK_PAGE    4096u
#define DISK_SECTOR  512u


typedef struct disk_page_s  disk_page_t;

struct disk_page_s {
    uint8_t          bytes[DISK_PAGE];
    unsigned         refs;
    disk_page_t     *next;            /* of those that are free */
};


typedef struct {
    size_t           size;
    size_t           n;               /* of the table, which may be short */
    disk_page_t    **page;            /* NULL: zeroes */
} disk_bytes_t;


/* A file by its number, which outlives its name. */

typedef struct {
    disk_bytes_t     now;             /* as it is read */
    disk_bytes_t     safe;            /* as it was last synced, at `past` */
    uint64_t         id;              /* see kv_io_t; 1 is the directory's */
} disk_file_t;


/* A name; of the archive's, with "a/" before it. */

typedef struct {
    char             name[KV_NAME_MAX];
    size_t           file;
} disk_name_t;


typedef struct {
    size_t           n;
    size_t           max;
    disk_name_t     *name;
} disk_names_t;


typedef enum {
    DISK_WRITE = 0,
    DISK_RESIZE,                      /* allocated or truncated */
    DISK_SYNC,
    DISK_CREATE,                      /* a file, or another name of one */
    DISK_RENAME,
    DISK_UNLINK,
    DISK_SYNC_NAMES,
    DISK_KINDS
} disk_kind_t;


typedef struct {
    disk_kind_t      kind;
    size_t           file;            /* of DISK_SYNC_NAMES: the directory */
    size_t           offset;          /* DISK_WRITE: bytes from here on, */
    size_t           len;             /* how many, */
    disk_page_t    **page;            /* and their pages after it */
    size_t           size;            /* of the file, after it */
    char             name[KV_NAME_MAX];
    char             to[KV_NAME_MAX];
    uint64_t         note;            /* disk->note before it, */
    uint64_t         seen;            /* disk->seen, */
    uint64_t         incarnation;     /* disk->incarnation, */
    size_t           known;           /* and disk->known */
} disk_record_t;


typedef struct {
    size_t           file;
    bool             used;
    bool             direct;
} disk_fd_t;


typedef struct {
    kv_io_t          io;              /* first */
    bool             can_direct;      /* O_DIRECT, in multiples of a page */
    disk_fd_t        fd[DISK_FDS];
    disk_file_t     *file;
    size_t           files;
    size_t           files_max;
    uint64_t         ids;             /* given out so far */
    disk_names_t     now;

    disk_record_t   *record;
    size_t           records;
    size_t           records_max;

    /* anything of the caller's, kept in each record */
    uint64_t         note;
    uint64_t         seen;
    uint64_t         incarnation;
    size_t           known;

    /* before anything is changed or synced; may be NULL */
    void           (*before)(void *ctx);
    void            *ctx;

    /* disk_cut(): what was safe before the record `past`, and what not */
    size_t           past;
    disk_names_t     safe;
    size_t          *pending;         /* records */
    size_t           pending_n;
    size_t           pending_max;
} disk_t;


/* An empty directory. */
void disk_init(disk_t *disk);
void disk_clear(disk_t *disk);

/*
 * Fills `image`, which is not used yet, with what may be left if the power
 * goes just before record `at`, or behind the last one; `seed` is moved on.
 * Calls for one disk must not go back in time.  Returns how much is lost:
 * sectors, sizes and changes of names.
 */
size_t disk_cut(disk_t *disk, size_t at, uint64_t *seed, disk_t *image);

/* How many descriptors are open. */
unsigned disk_open_fds(disk_t *disk);

/* A random number below `n`. */
uint64_t disk_random(uint64_t *seed, uint64_t n);


#endif /* DISK_H */
