
/*
 * Import from the reference server of LittleClusters, little-key-value.  Both
 * of its generations keep two files in their working directory:
 *
 *     snapshot.json   an object of all keys and values, written at a clean stop
 *                     (and, by the second one, each 1,000 operations)
 *     wal.jsonl       what came since, an object a line: {"op":"set", "key",
 *                     "value"}, {"op":"delete","key"}, {"op":"clear"}
 *
 * The first generation wrote snapshot.json in place and with indents, and
 * skipped lines of the log that it could not read; the second replaces the file
 * as a whole, and refuses such lines.  A log may hold what the snapshot has
 * already, and doing it again changes nothing.  A last line that was cut off
 * was never acknowledged.  Other bad lines are refused here: nobody knows what
 * they said.
 *
 * All is in memory at once, as it is in that server.
 */


#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "tool/kv_tool_source.h"


typedef struct {
    kv_tool_import_t  *import;
    json_t            *keys;             /* an object: key to value */
    int                dir;              /* of the source */
    unsigned           files;            /* that were there */
} kv_tool_lkv_t;


static kv_rc_t kv_tool_lkv_read(kv_tool_lkv_t *lkv);
static FILE *kv_tool_lkv_open(kv_tool_lkv_t *lkv, const char *name,
    kv_rc_t *rc);
static kv_rc_t kv_tool_lkv_snapshot(kv_tool_lkv_t *lkv);
static kv_rc_t kv_tool_lkv_log(kv_tool_lkv_t *lkv);
static kv_rc_t kv_tool_lkv_lines(kv_tool_lkv_t *lkv, FILE *file);
static bool kv_tool_lkv_apply(kv_tool_lkv_t *lkv, const char *line,
    size_t len);
static bool kv_tool_lkv_op(kv_tool_lkv_t *lkv, json_t *entry);
static kv_rc_t kv_tool_lkv_put(kv_tool_lkv_t *lkv);


kv_rc_t
kv_tool_import_lkv(kv_tool_import_t *import)
{
    kv_rc_t        rc;
    kv_tool_lkv_t  lkv;

    memset(&lkv, 0, sizeof(lkv));
    lkv.import = import;

    lkv.dir = open(import->source, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (lkv.dir == -1) {
        kv_tool_say("cannot open the directory \"%s\": %s", import->source,
                    strerror(errno));
        return KV_ERROR;
    }

    rc = kv_tool_lkv_read(&lkv);

    if (rc == KV_OK) {
        rc = kv_tool_make_begin(&import->make, import->path);
    }

    if (rc == KV_OK) {
        rc = kv_tool_lkv_put(&lkv);
    }

    json_decref(lkv.keys);
    (void) close(lkv.dir);

    return rc;
}


static kv_rc_t
kv_tool_lkv_read(kv_tool_lkv_t *lkv)
{
    kv_rc_t  rc;

    rc = kv_tool_lkv_snapshot(lkv);

    if (rc == KV_OK && lkv->keys == NULL) {
        lkv->keys = json_object();
    }

    if (rc == KV_OK) {
        rc = kv_tool_lkv_log(lkv);
    }

    if (rc == KV_OK && lkv->files == 0) {
        kv_tool_say("\"%s\" has neither snapshot.json nor wal.jsonl: name the "
                    "working directory of that server", lkv->import->source);
        return KV_ERROR;
    }

    return rc;
}


/* NULL, and *rc is KV_OK: it is not there; else KV_ERROR, told. */

static FILE *
kv_tool_lkv_open(kv_tool_lkv_t *lkv, const char *name, kv_rc_t *rc)
{
    int    fd;
    FILE  *file;

    /* a FIFO must not make it wait */

    fd = openat(lkv->dir, name, O_RDONLY|O_NONBLOCK|O_NOCTTY|O_CLOEXEC);

    if (fd == -1 && errno == ENOENT) {
        *rc = KV_OK;
        return NULL;
    }

    file = fd == -1 ? NULL : fdopen(fd, "r");

    if (file == NULL) {
        kv_tool_say("cannot open \"%s/%s\": %s", lkv->import->source, name,
                    strerror(errno));
        *rc = KV_ERROR;

        if (fd != -1) {
            (void) close(fd);
        }

        return NULL;
    }

    lkv->files++;

    return file;
}


static kv_rc_t
kv_tool_lkv_snapshot(kv_tool_lkv_t *lkv)
{
    FILE          *file;
    kv_rc_t        rc;
    json_error_t   err;

    file = kv_tool_lkv_open(lkv, "snapshot.json", &rc);

    if (file == NULL) {
        return rc;
    }

    lkv->keys = json_loadf(file, JSON_ALLOW_NUL|JSON_DECODE_ANY, &err);
    (void) fclose(file);

    if (json_is_object(lkv->keys)) {
        return KV_OK;
    }

    /* the first generation wrote "null" where there were no keys */

    if (json_is_null(lkv->keys)) {
        json_decref(lkv->keys);
        lkv->keys = NULL;
        return KV_OK;
    }

    kv_tool_say("%s/snapshot.json: line %d: %s; put a good copy of the file "
                "there", lkv->import->source, lkv->keys ? 1 : err.line,
                lkv->keys ? "no object of keys and values" : err.text);

    return KV_DAMAGED;
}


static kv_rc_t
kv_tool_lkv_log(kv_tool_lkv_t *lkv)
{
    FILE     *file;
    kv_rc_t   rc;

    file = kv_tool_lkv_open(lkv, "wal.jsonl", &rc);

    if (file == NULL) {
        return rc;
    }

    rc = kv_tool_lkv_lines(lkv, file);

    (void) fclose(file);

    return rc;
}


static kv_rc_t
kv_tool_lkv_lines(kv_tool_lkv_t *lkv, FILE *file)
{
    int        c;
    char      *line;
    size_t     max;
    kv_rc_t    rc;
    ssize_t    n;
    uint64_t   lines;

    line = NULL;
    max = 0;
    rc = KV_OK;

    for (lines = 1; rc == KV_OK; lines++) {

        n = getline(&line, &max, file);

        if (n == -1) {
            break;
        }

        if (kv_tool_lkv_apply(lkv, line, (size_t) n)) {
            continue;
        }

        c = fgetc(file);

        if (c == EOF && line[n - 1] != '\n') {
            kv_tool_say("%s/wal.jsonl: line %llu, the last one, is cut off: "
                        "it was never acknowledged, and is left out",
                        lkv->import->source, (unsigned long long) lines);
            break;
        }

        kv_tool_say("%s/wal.jsonl: line %llu: not an operation of that "
                    "server; mend the line in a copy, or take it out",
                    lkv->import->source, (unsigned long long) lines);
        rc = KV_DAMAGED;
    }

    if (rc == KV_OK && ferror(file)) {
        kv_tool_say("cannot read \"%s/wal.jsonl\": %s", lkv->import->source,
                    strerror(errno));
        rc = KV_ERROR;
    }

    free(line);

    return rc;
}


/* False: it is none. */

static bool
kv_tool_lkv_apply(kv_tool_lkv_t *lkv, const char *line, size_t len)
{
    bool           good;
    json_t        *entry;
    json_error_t   err;

    if (len == 1 && line[0] == '\n') {
        return true;
    }

    entry = json_loadb(line, len, JSON_ALLOW_NUL, &err);
    good = json_is_object(entry) && kv_tool_lkv_op(lkv, entry);

    json_decref(entry);

    return good;
}


static bool
kv_tool_lkv_op(kv_tool_lkv_t *lkv, json_t *entry)
{
    json_t      *value;
    const char  *op, *key;

    op = json_string_value(json_object_get(entry, "op"));
    key = json_string_value(json_object_get(entry, "key"));
    value = json_object_get(entry, "value");

    if (op == NULL) {
        return false;
    }

    if (strcmp(op, "clear") == 0) {
        return json_object_clear(lkv->keys) == 0;
    }

    if (key == NULL) {
        return false;
    }

    if (strcmp(op, "delete") == 0) {
        (void) json_object_del(lkv->keys, key);
        return true;
    }

    return strcmp(op, "set") == 0 && json_is_string(value)
           && json_object_set(lkv->keys, key, value) == 0;
}


static kv_rc_t
kv_tool_lkv_put(kv_tool_lkv_t *lkv)
{
    void        *at;
    json_t      *value;
    kv_rc_t      rc;
    const char  *key;

    kv_tool_progress_begin("importing keys", json_object_size(lkv->keys),
                           false);

    for (at = json_object_iter(lkv->keys); at;
         at = json_object_iter_next(lkv->keys, at))
    {
        key = json_object_iter_key(at);
        value = json_object_iter_value(at);

        if (kv_tool_stopped()) {
            return KV_CANCELLED;
        }

        rc = json_is_string(value)
             ? kv_tool_import_put(lkv->import, key, strlen(key),
                                  json_string_value(value),
                                  json_string_length(value), 0)
             : kv_tool_import_refuse(lkv->import, key, strlen(key),
                                     "its value is no string");

        if (rc != KV_OK) {
            return rc;
        }

        kv_tool_progress_add(1);
    }

    return KV_OK;
}
