
/*
 * A data directory in memory: every call of the I/O table has its number, can
 * be told to fail, and for a store that one thread runs (solo.h) fails at the
 * same place again.
 *
 * A file has two contents: what reads give, and what is on the disk.  A write
 * changes the first, a sync that succeeds takes its pages to the second, and
 * one that fails forgets them: they read as if all were well, the next sync
 * has nothing to do, and they never reach the disk.  That is what Linux does.
 * Names and sizes are on the disk at once; power cuts at any point are for
 * another disk.
 */


#ifndef RAM_H
#define RAM_H


#include "disk/kv_io.h"


#define RAM_FILES   64
#define RAM_FDS     64
#define RAM_FAULTS  2


typedef enum {
    RAM_OPEN = 0,
    RAM_CLOSE,
    RAM_READ,
    RAM_WRITE,
    RAM_FDATASYNC,
    RAM_FSYNC,                       /* of a directory as well */
    RAM_FALLOCATE,
    RAM_TRUNCATE,
    RAM_RENAME,
    RAM_UNLINK,
    RAM_SIZE,
    RAM_LIST,
    RAM_DIRECT,
    RAM_CALLS
} ram_call_t;


/* Not errnos: a transfer comes short; a write stores half of it, then EIO. */

#define RAM_SHORT  -1
#define RAM_HALF   -2


/* From the nth call of that kind on, counted from 1, `times` calls fail. */

typedef struct {
    ram_call_t   call;
    int          error;              /* an errno, RAM_SHORT, RAM_HALF */
    unsigned     nth;                /* 0: none */
    unsigned     times;
    unsigned     hits;               /* how many did */
} ram_fault_t;


typedef struct {
    char         name[KV_NAME_MAX];  /* empty: unlinked, or never there */
    uint8_t     *data;               /* as it is read */
    uint8_t     *disk;               /* as the machine's restart leaves it */
    uint8_t     *dirty;              /* for each page of it */
    size_t       size;
    size_t       max;                /* allocated; 0: `data` is borrowed */
    uint64_t     id;                 /* see kv_io_t */
} ram_file_t;


typedef struct {
    ram_file_t  *file;               /* NULL: a free descriptor */
    bool         direct;
} ram_fd_t;


typedef struct {
    kv_io_t      io;                 /* first */
    ram_file_t   file[RAM_FILES];
    ram_fd_t     fd[RAM_FDS];
    bool         can_direct;         /* O_DIRECT, for multiples of 512 */
    unsigned     calls[RAM_CALLS];
    uint64_t     read;               /* bytes */
    uint64_t     ids;                /* of files, given out so far */
    uint64_t     directory;          /* its id */
    unsigned     changes;            /* calls that changed anything */
    ram_fault_t  fault[RAM_FAULTS];
} ram_t;


/* An empty directory. */
void ram_init(ram_t *ram);

/* Frees all of it, for ram_init() or the end. */
void ram_clear(ram_t *ram);

/* NULL if there is none of that name. */
ram_file_t *ram_find(ram_t *ram, const char *name);

/*
 * Adds a file of `size` bytes that stay the caller's: they are copied when
 * they are written to, not before.
 */
void ram_borrow(ram_t *ram, const char *name, const uint8_t *data,
    size_t size);

/* Makes a file longer, with zeroes, or shorter. */
void ram_resize(ram_file_t *f, size_t size);

/* All files are copies now, as after cp. */
void ram_copied(ram_t *ram);

/* The machine starts again: reads give what is on the disk. */
void ram_reboot(ram_t *ram);

/* How many descriptors are open. */
unsigned ram_open_fds(ram_t *ram);


#endif /* RAM_H */
