
/*
 * kv-inspect dump: all keys and values of a directory, as a start would find
 * them.
 *
 * Snapshot and log are read once, which finds the keys and where their values
 * lie (kv_tool_keys.h); then the values are read again, one by one, in the
 * order of the keys.  The directory is locked meanwhile, so its files stay as
 * they are.
 */


#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include <sys/resource.h>

#include "disk/kv_start.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_args.h"
#include "tool/kv_tool_dir.h"
#include "tool/kv_tool_keys.h"
#include "tool/kv_tool_line.h"


/* A file that values are read from. */

typedef struct {
    bool      snapshot;
    uint64_t  lsn;
    int       fd;                        /* -1: not open yet */
} kv_tool_source_t;


typedef struct {
    kv_tool_dir_t      dir;
    kv_start_t         start;
    kv_tool_keys_t    *keys;
    kv_tool_source_t  *source;
    size_t             sources;
    size_t             sources_max;
    uint64_t           segment;          /* that records come from; 0: none */
    kv_err_t           err;
    char              *value;            /* a buffer, */
    size_t             max;              /* of that many bytes */
} kv_tool_dump_t;


static kv_tool_exit_t kv_tool_dump_all(kv_tool_dump_t *dump);
static kv_rc_t kv_tool_dump_read(kv_tool_dump_t *dump);
static uint64_t kv_tool_dump_bytes(kv_tool_dump_t *dump);
static kv_rc_t kv_tool_dump_snapshot(void *ctx, uint64_t lsn,
    const kv_snapshot_guess_t *guess, uint64_t *end, uint64_t *bytes,
    kv_err_t *err);
static void kv_tool_dump_batch(void *ctx, uint64_t segment_lsn,
    uint64_t offset, const kv_batch_header_t *h, const void *data);
static kv_rc_t kv_tool_dump_record(void *ctx, uint64_t lsn,
    const kv_record_t *rec);
static kv_rc_t kv_tool_dump_source(kv_tool_dump_t *dump, bool snapshot,
    uint64_t lsn);
static kv_rc_t kv_tool_dump_key(kv_tool_dump_t *dump,
    const kv_tool_key_t *key);
static kv_rc_t kv_tool_dump_value(kv_tool_dump_t *dump,
    const kv_tool_key_t *key);
static void kv_tool_dump_warn(void *ctx, const char *text);
static void kv_tool_dump_close(kv_tool_dump_t *dump);
static void kv_tool_dump_free(kv_tool_dump_t *dump);


kv_tool_exit_t
kv_tool_dump(int argc, char **argv)
{
    const char      *path;
    struct rlimit    files;
    kv_tool_exit_t   code;
    kv_tool_dump_t   dump;

    path = kv_tool_operand(argc, argv, "a directory");

    if (path == NULL) {
        return KV_TOOL_FAILED;
    }

    memset(&dump, 0, sizeof(dump));

    if (kv_tool_dir_read(&dump.dir, path, "GET /keys?values=1 of that server "
                         "gives lines like these, or dump a backup of it")
        != KV_OK)
    {
        return KV_TOOL_FAILED;
    }

    /* each segment stays open */

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &files);
    }

    code = kv_tool_dump_all(&dump);

    kv_tool_progress_end();
    kv_tool_dump_free(&dump);
    kv_tool_dir_close(&dump.dir, false);

    return code;
}


static kv_tool_exit_t
kv_tool_dump_all(kv_tool_dump_t *dump)
{
    size_t         i, n;
    kv_rc_t        rc;
    uint64_t       now;
    kv_tool_key_t  key;

    rc = kv_tool_dump_read(dump);

    if (rc != KV_OK) {
        kv_tool_say("%s: %s", dump->dir.path, dump->err.text);
        return rc == KV_DAMAGED ? KV_TOOL_DAMAGE : KV_TOOL_FAILED;
    }

    if (kv_tool_keys_finish(dump->keys, &n) != KV_OK) {
        kv_tool_say("out of memory for the keys of \"%s\"", dump->dir.path);
        return KV_TOOL_FAILED;
    }

    now = kv_wall_ms();
    kv_tool_progress_begin("writing keys", n, false);

    for (i = 0; i < n && !ferror(stdout); i++) {

        kv_tool_keys_get(dump->keys, i, &key);

        /* one that has expired is gone, though its record is there */

        if ((key.expires == 0 || key.expires > now)
            && kv_tool_dump_key(dump, &key) != KV_OK)
        {
            kv_tool_say("%s: %s", dump->dir.path, dump->err.text);
            return KV_TOOL_FAILED;
        }

        kv_tool_progress_add(1);
    }

    return KV_TOOL_GOOD;
}


/* Finds the keys.  Results as those of a start, dump->err filled. */

static kv_rc_t
kv_tool_dump_read(kv_tool_dump_t *dump)
{
    kv_rc_t          rc;
    kv_start_t      *start;
    kv_tool_dir_t   *dir;

    dir = &dump->dir;
    start = &dump->start;

    dump->keys = kv_tool_keys_create();

    if (dump->keys == NULL) {
        kv_err_set(&dump->err, "out of memory");
        return KV_NO_MEMORY;
    }

    start->from.record = kv_tool_dump_record;
    start->from.batch = kv_tool_dump_batch;
    start->from.warn = kv_tool_dump_warn;
    start->from.ctx = dump;

    kv_tool_progress_begin("reading", kv_tool_dump_bytes(dump), true);

    rc = kv_start_snapshot(&dir->io, dir->fd, start, kv_tool_dump_snapshot,
                           dump, &dump->err);

    if (rc == KV_OK && start->snapshot == 0) {
        kv_tool_keys_reset(dump->keys);
        dump->sources = 0;
    }

    if (rc == KV_OK) {
        dump->segment = 0;
        rc = kv_wal_read(&dir->io, dir->fd, &start->from, NULL, NULL,
                         &dump->err);
        rc = kv_start_end(start, rc, &dump->err);
    }

    kv_tool_progress_end();

    return rc;
}


/* About what is to be read: the newest snapshot, and the log after it. */

static uint64_t
kv_tool_dump_bytes(kv_tool_dump_t *dump)
{
    size_t           i;
    uint64_t         bytes, lsn;
    kv_tool_files_t  files;

    if (kv_tool_files(&dump->dir, &files) != KV_OK) {
        return 0;
    }

    bytes = 0;
    lsn = 0;

    for (i = 0; i < files.n; i++) {
        if (files.file[i].kind == KV_TOOL_SNAPSHOT) {
            bytes = files.file[i].bytes;
            lsn = files.file[i].lsn;
        }
    }

    for (i = 0; i < files.n; i++) {
        if (files.file[i].kind == KV_TOOL_SEGMENT && files.file[i].lsn > lsn) {
            bytes += files.file[i].bytes;
        }
    }

    free(files.file);

    return bytes;
}


static kv_rc_t
kv_tool_dump_snapshot(void *ctx, uint64_t lsn,
    const kv_snapshot_guess_t *guess, uint64_t *end, uint64_t *bytes,
    kv_err_t *err)
{
    kv_rc_t          rc;
    kv_tool_dump_t  *dump = ctx;

    (void) guess;

    /* another one, which was damaged, may have been read before */

    kv_tool_keys_reset(dump->keys);
    dump->sources = 0;

    rc = kv_tool_dump_source(dump, true, lsn);

    return rc == KV_OK ? kv_snapshot_read(&dump->dir.io, dump->dir.fd, lsn,
                                          kv_tool_dump_record, dump, end,
                                          bytes, err)
                       : rc;
}


static void
kv_tool_dump_batch(void *ctx, uint64_t segment_lsn, uint64_t offset,
    const kv_batch_header_t *h, const void *data)
{
    kv_tool_dump_t *dump = ctx;

    (void) offset;
    (void) h;
    (void) data;

    dump->segment = segment_lsn;
}


static kv_rc_t
kv_tool_dump_record(void *ctx, uint64_t lsn, const kv_record_t *rec)
{
    kv_rc_t            rc;
    kv_tool_dump_t    *dump = ctx;
    kv_tool_source_t  *last;

    last = dump->sources ? &dump->source[dump->sources - 1] : NULL;

    if (lsn
        && (last == NULL || last->snapshot || last->lsn != dump->segment)
        && kv_tool_dump_source(dump, false, dump->segment) != KV_OK)
    {
        return KV_NO_MEMORY;
    }

    rc = kv_tool_keys_add(dump->keys, rec);

    if (rc == KV_NO_MEMORY) {
        kv_err_set(&dump->err, "out of memory for the keys");

    } else if (rc == KV_OVERFLOW) {
        kv_err_set(&dump->err, "a file has more than a TiB, or there are more "
                   "than %u of them", 1u << 24);
    }

    return rc;
}


static kv_rc_t
kv_tool_dump_source(kv_tool_dump_t *dump, bool snapshot, uint64_t lsn)
{
    size_t             max;
    uint32_t           file;
    kv_tool_source_t  *source;

    if (dump->sources == dump->sources_max) {
        max = dump->sources_max + 64;
        source = realloc(dump->source, max * sizeof(kv_tool_source_t));

        if (source == NULL) {
            kv_err_set(&dump->err, "out of memory for the list of files");
            return KV_NO_MEMORY;
        }

        dump->source = source;
        dump->sources_max = max;
    }

    file = kv_tool_keys_next_file(dump->keys);

    assert(file == dump->sources);

    source = &dump->source[file];
    source->snapshot = snapshot;
    source->lsn = lsn;
    source->fd = -1;

    dump->sources++;

    return KV_OK;
}


static kv_rc_t
kv_tool_dump_key(kv_tool_dump_t *dump, const kv_tool_key_t *key)
{
    kv_rc_t    rc;
    kv_meta_t  meta;

    rc = kv_tool_dump_value(dump, key);

    if (rc == KV_OK) {
        kv_tool_line_print(key->key, key->key_len,
                           kv_meta_read(key->meta, key->meta_len, &meta)
                           ? &meta : NULL, dump->value, key->value_len,
                           key->expires / 1000);
    }

    return rc;
}


static kv_rc_t
kv_tool_dump_value(kv_tool_dump_t *dump, const kv_tool_key_t *key)
{
    char               name[KV_NAME_MAX];
    char              *value;
    ssize_t            n;
    kv_io_t           *io;
    kv_tool_source_t  *source;

    io = &dump->dir.system;
    source = &dump->source[key->file];

    (void) snprintf(name, sizeof(name), source->snapshot
                    ? KV_SNAPSHOT_NAME ".kvs" : "log-%016" PRIx64 ".kvl",
                    source->lsn);

    if (source->fd == -1) {
        source->fd = io->open(io, dump->dir.fd, name, O_RDONLY);

        if (source->fd == -1 && errno == EMFILE) {
            kv_tool_dump_close(dump);
            source->fd = io->open(io, dump->dir.fd, name, O_RDONLY);
        }

        if (source->fd == -1) {
            kv_err_set(&dump->err, "%s: cannot be opened again: %s", name,
                       strerror(errno));
            return KV_ERROR;
        }
    }

    if (dump->max < key->value_len) {
        value = realloc(dump->value, key->value_len);

        if (value == NULL) {
            kv_err_set(&dump->err, "out of memory for a value of %u bytes",
                       key->value_len);
            return KV_NO_MEMORY;
        }

        dump->value = value;
        dump->max = key->value_len;
    }

    n = kv_io_read(io, source->fd, dump->value, key->value_len,
                   (off_t) key->offset);

    if (n != (ssize_t) key->value_len) {
        kv_err_set(&dump->err, "%s: offset %" PRIu64 ": reading a value "
                   "failed: %s", name, key->offset,
                   n == -1 ? strerror(errno) : "the file became shorter");
        return KV_ERROR;
    }

    return KV_OK;
}


static void
kv_tool_dump_warn(void *ctx, const char *text)
{
    kv_tool_dump_t *dump = ctx;

    kv_tool_say("%s: %s", dump->dir.path, text);
}


/* They are opened again when they are wanted. */

static void
kv_tool_dump_close(kv_tool_dump_t *dump)
{
    size_t    i;
    kv_io_t  *io;

    io = &dump->dir.system;

    for (i = 0; i < dump->sources; i++) {
        if (dump->source[i].fd != -1) {
            (void) io->close(io, dump->source[i].fd);
            dump->source[i].fd = -1;
        }
    }
}


static void
kv_tool_dump_free(kv_tool_dump_t *dump)
{
    kv_tool_dump_close(dump);

    kv_tool_keys_destroy(dump->keys);
    free(dump->source);
    free(dump->value);
}
