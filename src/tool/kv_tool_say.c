
/*
 * Messages and progress; see kv_tool.h.
 */


#include <errno.h>
#include <unistd.h>

#include "tool/kv_tool.h"


#define KV_TOOL_PROGRESS_NS  200000000u   /* between two pictures */
#define KV_TOOL_PROGRESS_BAR 30u          /* characters */


/* The progress of the work that goes on: one at a time. */

typedef struct {
    const char  *what;                    /* NULL: no work, or no terminal */
    uint64_t     total;
    uint64_t     done;
    bool         bytes;
    bool         drawn;                   /* a picture is on the screen */
    uint64_t     next_ns;                 /* when to draw the next one */
} kv_tool_progress_t;


static void kv_tool_vsay(const char *fmt, va_list args);
static void kv_tool_draw(void);
static void kv_tool_amount(uint64_t n, char *buf, size_t size);


static kv_tool_progress_t  progress;


void
kv_tool_say(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    kv_tool_vsay(fmt, args);
    va_end(args);
}


static void
kv_tool_vsay(const char *fmt, va_list args)
{
    if (progress.drawn) {
        (void) fputs("\r\033[K", stderr);
        progress.drawn = false;
    }

    /* what it is about may stand on the same terminal */

    (void) fflush(stdout);

    (void) fputs("kv-inspect: ", stderr);
    (void) vfprintf(stderr, fmt, args);
    (void) fputc('\n', stderr);
}


kv_tool_exit_t
kv_tool_usage(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    kv_tool_vsay(fmt, args);
    va_end(args);

    (void) fputs("Try \"kv-inspect --help\".\n", stderr);

    return KV_TOOL_FAILED;
}


kv_tool_exit_t
kv_tool_flush(kv_tool_exit_t code)
{
    errno = 0;

    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return code;
    }

    kv_tool_say("cannot write to standard output: %s: what was written is not "
                "all", errno ? strerror(errno) : "an earlier write failed");

    return KV_TOOL_FAILED;
}


void
kv_tool_progress_begin(const char *what, uint64_t total, bool bytes)
{
    memset(&progress, 0, sizeof(progress));

    if (isatty(STDERR_FILENO)) {
        progress.what = what;
        progress.total = total;
        progress.bytes = bytes;
        progress.next_ns = kv_now_ns() + 2 * KV_TOOL_PROGRESS_NS;
    }
}


void
kv_tool_progress_add(uint64_t n)
{
    uint64_t  now;

    if (progress.what == NULL) {
        return;
    }

    progress.done += n;
    now = kv_now_ns();

    if (now >= progress.next_ns) {
        progress.next_ns = now + KV_TOOL_PROGRESS_NS;
        kv_tool_draw();
    }
}


void
kv_tool_progress_end(void)
{
    if (progress.drawn) {
        (void) fputs("\r\033[K", stderr);
    }

    memset(&progress, 0, sizeof(progress));
}


static void
kv_tool_draw(void)
{
    char      done[KV_TOOL_SIZE], total[KV_TOOL_SIZE];
    char      bar[KV_TOOL_PROGRESS_BAR + 1];
    unsigned  n;

    kv_tool_amount(progress.done, done, sizeof(done));

    if (progress.total == 0) {
        (void) fprintf(stderr, "\r\033[K%s: %s", progress.what, done);

    } else {
        n = (unsigned) (kv_min(progress.done, progress.total)
                        * KV_TOOL_PROGRESS_BAR / progress.total);

        memset(bar, '#', n);
        memset(bar + n, '.', KV_TOOL_PROGRESS_BAR - n);
        bar[KV_TOOL_PROGRESS_BAR] = '\0';

        kv_tool_amount(progress.total, total, sizeof(total));

        (void) fprintf(stderr, "\r\033[K%s [%s] %s of %s", progress.what, bar,
                       done, total);
    }

    (void) fflush(stderr);
    progress.drawn = true;
}


static void
kv_tool_amount(uint64_t n, char *buf, size_t size)
{
    if (progress.bytes) {
        (void) kv_tool_size(n, buf);

    } else {
        (void) snprintf(buf, size, "%llu", (unsigned long long) n);
    }
}


const char *
kv_tool_size(uint64_t bytes, char buf[KV_TOOL_SIZE])
{
    double    n;
    unsigned  i;

    static const char  *units[] = { "KiB", "MiB", "GiB", "TiB" };

    if (bytes < 1024) {
        (void) snprintf(buf, KV_TOOL_SIZE, "%u bytes", (unsigned) bytes);
        return buf;
    }

    n = (double) bytes / 1024;

    for (i = 0; n >= 1024 && i < 3; i++) {
        n /= 1024;
    }

    (void) snprintf(buf, KV_TOOL_SIZE, "%.1f %s", n, units[i]);

    return buf;
}
