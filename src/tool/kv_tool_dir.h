
/*
 * A directory that a command works on: opened, locked, and read or written
 * through its table of calls (disk/kv_io.h).
 *
 * The table of a directory that is only read has no call that writes: whatever
 * the core tries, it gets EROFS.  What is read counts as progress.
 */


#ifndef KV_TOOL_DIR_H
#define KV_TOOL_DIR_H


#include "disk/kv_dir.h"


typedef struct {
    kv_io_t      io;                 /* first: the calls find the rest by it */
    kv_io_t      system;
    const char  *path;               /* the operator's words, not owned */
    int          fd;                 /* of the directory; -1: a file alone */
    int          lockfd;             /* kv.lock of one that is made, or -1 */
    bool         made;               /* it was not there before */
    bool         in_use;             /* a master has it: see `holder` */
    kv_holder_t  holder;
    int          file;               /* of a file alone, or -1 */
    char         name[KV_NAME_MAX];  /* which it is seen under */
} kv_tool_dir_t;


/* what to do about a directory in use, where nothing else helps */
#define KV_TOOL_STOP_FIRST  "stop it first"

/* a directory of what a repair has moved away: its name begins so */
#define KV_TOOL_BEFORE_REPAIR  "before-repair-"


/* One of the files of a directory, by its name. */

typedef enum {
    KV_TOOL_SEGMENT = 0,
    KV_TOOL_SNAPSHOT,
    KV_TOOL_SPARE,
    KV_TOOL_CLOSED,
    KV_TOOL_UNFINISHED,              /* *.tmp */
    KV_TOOL_ASIDE,                   /* a damaged snapshot that was put aside */
    KV_TOOL_LOCK,
    KV_TOOL_OTHER
} kv_tool_kind_t;

#define KV_TOOL_KINDS  8

typedef struct {
    kv_tool_kind_t  kind;
    char            name[256];
    uint64_t        lsn;             /* of its name, where that has one */
    uint64_t        bytes;
} kv_tool_file_t;

typedef struct {
    kv_tool_file_t  *file;           /* by kind, then by LSN */
    size_t           n;
    size_t           max;
    bool             failed;         /* there was no memory for all */
} kv_tool_files_t;


/*
 * Opens a directory to read it, and keeps every master away from it meanwhile.
 * One that is in use is refused, as its files change while they are read:
 * `instead` says what to do then.  KV_OK; or KV_ERROR, told.
 */
kv_rc_t kv_tool_dir_read(kv_tool_dir_t *dir, const char *path,
    const char *instead);

/* The same also of one that is in use, and without a lock. */
kv_rc_t kv_tool_dir_look(kv_tool_dir_t *dir, const char *path);

/*
 * Opens a directory to put a new store into it, and makes it if it is missing;
 * one with anything in it is refused.  Locked as by a master.  KV_OK; or
 * KV_ERROR, told.
 */
kv_rc_t kv_tool_dir_make(kv_tool_dir_t *dir, const char *path);

/*
 * Opens a directory that has a store, to change what is there.  Locked as by a
 * master.  KV_OK; or KV_ERROR, told.
 */
kv_rc_t kv_tool_dir_write(kv_tool_dir_t *dir, const char *path);

/* Closes it; if it was made here and `undo`, deletes it. */
void kv_tool_dir_close(kv_tool_dir_t *dir, bool undo);

/*
 * Opens a file alone, which is then the only one of a directory, under `name`.
 * KV_OK; or KV_ERROR, told.  kv_tool_file_use(): one that is open already, and
 * is closed with it.
 */
kv_rc_t kv_tool_file_open(kv_tool_dir_t *dir, const char *path);
void kv_tool_file_use(kv_tool_dir_t *dir, const char *path, int fd,
    const char *name);
void kv_tool_file_name(kv_tool_dir_t *dir, const char *name);

/*
 * What is in the directory.  KV_OK, and the caller frees files->file; or
 * KV_ERROR, told.
 */
kv_rc_t kv_tool_files(kv_tool_dir_t *dir, kv_tool_files_t *files);

/* "another process, ..." or "process 123", of dir->holder, to `buf`. */
const char *kv_tool_holder(const kv_tool_dir_t *dir, char *buf, size_t size);


#endif /* KV_TOOL_DIR_H */
