
/*
 * kv-inspect load: makes a directory of lines of JSON on standard input.
 */


#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/stat.h>

#include "lines/kv_line.h"
#include "tool/kv_tool_args.h"
#include "tool/kv_tool_make.h"


/* seconds since the epoch: no clock says more (the end of the year 9999) */
#define KV_TOOL_LOAD_LATEST  UINT64_C(253402300799)

#define KV_TOOL_LOAD_BUFFER  (256u << 10)


typedef struct {
    kv_tool_make_t  make;
    char           *buf;
    size_t          max;                 /* bytes that it has, */
    size_t          start;               /* where the next line begins, */
    size_t          end;                 /* and what was read ends */
    size_t          seen;                /* up to here there is no line's end */
    bool            eof;
    uint64_t        lines;
} kv_tool_load_t;


static kv_tool_exit_t kv_tool_load_all(kv_tool_load_t *load);
static kv_rc_t kv_tool_load_next(kv_tool_load_t *load, char **line,
    size_t *len);
static kv_rc_t kv_tool_load_more(kv_tool_load_t *load);
static kv_rc_t kv_tool_load_reserve(kv_tool_load_t *load);
static kv_rc_t kv_tool_load_line(kv_tool_load_t *load, char *text, size_t len);
static kv_rc_t kv_tool_load_refuse(kv_tool_load_t *load, const char *what);


kv_tool_exit_t
kv_tool_load(int argc, char **argv)
{
    const char      *path;
    struct stat      st;
    kv_tool_exit_t   code;
    kv_tool_load_t   load;

    path = kv_tool_operand(argc, argv, "a directory");

    if (path == NULL) {
        return KV_TOOL_FAILED;
    }

    if (isatty(STDIN_FILENO)) {
        kv_tool_say("reading lines from the terminal, until Ctrl-D");
    }

    memset(&load, 0, sizeof(load));

    if (kv_tool_make_begin(&load.make, path) != KV_OK) {
        return KV_TOOL_FAILED;
    }

    if (fstat(STDIN_FILENO, &st) == -1 || !S_ISREG(st.st_mode)) {
        st.st_size = 0;
    }

    kv_tool_progress_begin("loading", (uint64_t) st.st_size, true);

    code = kv_tool_load_all(&load);

    kv_tool_progress_end();
    free(load.buf);

    return code;
}


static kv_tool_exit_t
kv_tool_load_all(kv_tool_load_t *load)
{
    char            *text;
    size_t           len;
    kv_rc_t          rc;
    uint64_t         n;
    kv_tool_exit_t   code;

    while ((rc = kv_tool_load_next(load, &text, &len)) == KV_OK) {

        load->lines++;

        if (!kv_line_blank(text, len)) {
            rc = kv_tool_load_line(load, text, len);
        }

        if (rc != KV_OK) {
            break;
        }
    }

    if (rc != KV_NOT_FOUND) {
        return kv_tool_make_abort(&load->make);
    }

    n = load->make.n;
    code = kv_tool_make_finish(&load->make);

    if (code == KV_TOOL_GOOD) {
        (void) printf("%llu lines are in \"%s\" now\n",
                      (unsigned long long) n, load->make.dir.path);
    }

    return code;
}


/*
 * The next line, without its end, as a part of the buffer.  KV_OK;
 * KV_NOT_FOUND: there is none; KV_ERROR, told; KV_CANCELLED.
 */

static kv_rc_t
kv_tool_load_next(kv_tool_load_t *load, char **line, size_t *len)
{
    char     *end;
    kv_rc_t   rc;

    for ( ;; ) {

        if (kv_tool_stopped()) {
            return KV_CANCELLED;
        }

        *line = load->buf + load->start;

        end = load->end > load->seen
              ? memchr(load->buf + load->seen, '\n', load->end - load->seen)
              : NULL;

        if (end) {
            *len = (size_t) (end - *line);
            load->start += *len + 1;
            load->seen = load->start;
            return KV_OK;
        }

        load->seen = load->end;

        if (load->eof) {
            *len = load->end - load->start;
            load->start = load->end;
            return *len ? KV_OK : KV_NOT_FOUND;
        }

        rc = kv_tool_load_more(load);

        if (rc != KV_OK) {
            return rc;
        }
    }
}


static kv_rc_t
kv_tool_load_more(kv_tool_load_t *load)
{
    ssize_t  n;

    if (kv_tool_load_reserve(load) != KV_OK) {
        return KV_ERROR;
    }

    n = read(STDIN_FILENO, load->buf + load->end, load->max - load->end);

    if (n == -1 && errno == EINTR) {
        return KV_OK;
    }

    if (n == -1) {
        kv_tool_say("cannot read standard input: %s", strerror(errno));
        return KV_ERROR;
    }

    load->eof = n == 0;
    load->end += (size_t) n;

    kv_tool_progress_add((uint64_t) n);

    return KV_OK;
}


/* Makes a place at the buffer's end. */

static kv_rc_t
kv_tool_load_reserve(kv_tool_load_t *load)
{
    char    *buf;
    size_t   max;

    if (load->start) {
        memmove(load->buf, load->buf + load->start, load->end - load->start);
        load->end -= load->start;
        load->seen -= load->start;
        load->start = 0;
    }

    if (load->end < load->max) {
        return KV_OK;
    }

    if (load->max > kv_line_max(KV_VALUE_MAX)) {
        load->lines++;
        return kv_tool_load_refuse(load, "the line is longer than that of the "
                                   "largest value");
    }

    max = load->max ? 2 * load->max : KV_TOOL_LOAD_BUFFER;
    buf = realloc(load->buf, max);

    if (buf == NULL) {
        load->lines++;
        return kv_tool_load_refuse(load, "out of memory for the line");
    }

    load->buf = buf;
    load->max = max;

    return KV_OK;
}


static kv_rc_t
kv_tool_load_line(kv_tool_load_t *load, char *text, size_t len)
{
    kv_rc_t    rc;
    uint64_t   expires;
    kv_line_t  line;

    rc = kv_line_parse(&line, text, len, KV_VALUE_MAX, KV_KEY_ANY);

    if (rc != KV_OK) {
        return kv_tool_load_refuse(load, rc == KV_DECLINED ? line.error
                                                           : "out of memory");
    }

    expires = line.expires * 1000;

    if (line.ttl) {
        expires = kv_wall_ms() + (uint64_t) line.ttl * 1000;
    }

    if (line.op != KV_LINE_PUT) {
        rc = kv_tool_load_refuse(load, "a new store has nothing to delete: "
                                 "load takes puts alone");

    } else if (line.expires > KV_TOOL_LOAD_LATEST) {
        rc = kv_tool_load_refuse(load, "invalid expires");

    } else if (line.key_len > KV_KEY_MAX) {
        rc = kv_tool_load_refuse(load, "key too long");

    } else {
        rc = kv_tool_make_put(&load->make, line.key, line.key_len,
                              line.meta.type_len ? &line.meta : NULL,
                              line.value, line.value_len, expires);
    }

    kv_line_free(&line);

    return rc;
}


static kv_rc_t
kv_tool_load_refuse(kv_tool_load_t *load, const char *what)
{
    kv_tool_say("standard input, line %llu: %s",
                (unsigned long long) load->lines, what);

    return KV_ERROR;
}
