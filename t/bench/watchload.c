
/*
 * Streams of events from a server on 127.0.0.1, and writes at a fixed rate, in
 * one process and by one clock: how long after the answer to a write each
 * stream has its event.
 *
 *     watchload PORT [NAME=VALUE]...
 *
 *     streams=N       streams that are open (default: 0)
 *     watch=PATH      ... of this path
 *     request=TEXT    ... by POST with this body; without it, by GET
 *     ready=TEXT      a stream is open when it has shown that
 *     mark=TEXT       what an event has before its number
 *     base64=1        the number is written in base64
 *
 *     rate=N          writes a second (0: none, the streams are kept open)
 *     seconds=N       for so long (default: 1)
 *     connections=N   that take turns with the writes (64)
 *     method=TEXT     (PUT)
 *     path=TEXT
 *     body=TEXT
 *     first=N         the number of the first write (0)
 *     keys=N          after so many numbers the first one comes again (0: none
 *                     does); not with streams, which must have each once
 *
 * In watch, request, path and body, {n} is a number of nine digits, {b} the
 * same in base64, and {e} the next number in base64: that of the stream or the
 * write.
 *
 * Writes are due at fixed times, whether or not earlier ones were answered: one
 * for which there is no free connection waits, and its time runs.  When all
 * streams are open it prints `ready`, and at the end
 *
 *     answered N      writes a second, to the last answer
 *     missed N        events that did not come, of all streams
 *
 * and, in microseconds, the median, the 99th percentile, and the most
 *
 *     answer P50 P99 MAX    from when a write was due to its answer
 *     event P50 P99 MAX     from the answer to an event; it may be below 0
 *     whole P50 P99 MAX     from when the write was due to an event
 *
 * SIGTERM ends it before its time, with results if it has no streams.  An error
 * is any answer but 2xx, a stream that ends, and an event that comes twice or
 * was not asked for.
 */


#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define WATCH_HEAD      2048              /* of a request, of an answer */
#define WATCH_BODY      4096
#define WATCH_MARK      64
#define WATCH_DIGITS    9                 /* of a number, */
#define WATCH_BASE64    12                /* and of that in base64 */
#define WATCH_WRITERS   1024
#define WATCH_EVENTS    256               /* of one epoll_wait() */
#define WATCH_SAMPLES   (1ul << 28)

#define WATCH_PATIENCE  20000000000       /* for an answer, an event; ns */


typedef enum {
    IN_HEAD = 0,
    IN_READY,                             /* before what `ready` says */
    IN_EVENTS
} watch_state_t;


typedef struct {
    int            fd;
    bool           stream;
    bool           chunked;
    watch_state_t  state;
    size_t         have;                  /* bytes of the head */
    uint64_t       left;                  /* of the body, or of its chunk */
    uint64_t       chunk;                 /* the size that is being read */
    bool           sized;                 /* it has a digit */
    unsigned       matched;               /* bytes of `ready`, or `mark` */
    unsigned       digits;                /* ... and of the number behind it */
    char           number[WATCH_BASE64 + 1];
    unsigned long  index;                 /* of the stream, of the write */
    char           head[WATCH_HEAD];
} watch_conn_t;


/* A text to be found in a stream, by Knuth, Morris and Pratt. */

typedef struct {
    const char    *text;
    unsigned       len;
    unsigned char  again[WATCH_MARK];     /* how much of it is matched still */
} watch_text_t;


static unsigned long  nstreams, base64, rate, seconds = 1, nwriters = 64;
static unsigned long  first, keys;
static const char    *watch = "/", *request, *method = "PUT", *path = "/";
static const char    *body = "";
static watch_text_t   ready, mark;

static int            port, queue;
static watch_conn_t  *conns, **idle;      /* those of streams come first */
static unsigned long  nidle, opened, total, sent, answered, events;
static int64_t       *due, *answer;       /* by write */
static int64_t       *event;              /* by stream and write */
static int64_t        last_progress;

static volatile sig_atomic_t  ended;
static char           received[256 * 1024];


static void
fail(const char *what)
{
    fprintf(stderr, "watchload: %s: %s\n", what, strerror(errno));
    exit(1);
}


/* The server does not do what is expected. */

static void
wrong(const char *what, const char *text)
{
    fprintf(stderr, "watchload: %s: %.*s\n", what, (int) strcspn(text, "\r\n"),
            text);
    exit(1);
}


static int64_t
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


static void
usage(void)
{
    fprintf(stderr, "usage: watchload PORT [NAME=VALUE]...\n");
    exit(2);
}


static void
set_option(const char *arg)
{
    size_t       i, len;
    const char  *value;

    static const struct {
        const char      *name;
        unsigned long   *number;
        const char     **text;
    } options[] = {
        { "streams", &nstreams, NULL },
        { "watch", NULL, &watch },
        { "request", NULL, &request },
        { "ready", NULL, &ready.text },
        { "mark", NULL, &mark.text },
        { "base64", &base64, NULL },
        { "rate", &rate, NULL },
        { "seconds", &seconds, NULL },
        { "connections", &nwriters, NULL },
        { "method", NULL, &method },
        { "path", NULL, &path },
        { "body", NULL, &body },
        { "first", &first, NULL },
        { "keys", &keys, NULL },
    };

    value = strchr(arg, '=');
    len = value ? (size_t) (value - arg) : 0;

    for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {

        if (len != strlen(options[i].name)
            || strncmp(options[i].name, arg, len) != 0)
        {
            continue;
        }

        if (options[i].text) {
            *options[i].text = value + 1;

        } else {
            *options[i].number = strtoul(value + 1, NULL, 10);
        }

        return;
    }

    usage();
}


/* Nine digits, in base64 if that is wanted. */

static void
put_number(char *to, unsigned long number, bool encoded)
{
    char         text[WATCH_DIGITS + 1];
    unsigned     i, bits;

    static const char  alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "abcdefghijklmnopqrstuvwxyz0123456789+/";

    for (i = WATCH_DIGITS; i-- > 0; number /= 10) {
        text[i] = (char) ('0' + number % 10);
    }

    if (!encoded) {
        memcpy(to, text, WATCH_DIGITS);
        return;
    }

    for (i = 0; i < WATCH_DIGITS; i += 3, to += 4) {
        bits = (unsigned) text[i] << 16 | (unsigned) text[i + 1] << 8
               | (unsigned) text[i + 2];
        to[0] = alphabet[bits >> 18];
        to[1] = alphabet[bits >> 12 & 63];
        to[2] = alphabet[bits >> 6 & 63];
        to[3] = alphabet[bits & 63];
    }
}


/* The number of an event; more than any, if it is none. */

static unsigned long
get_number(const char *text)
{
    char           digits[WATCH_DIGITS + 1] = "", *end;
    unsigned       i, k, bits, c;
    unsigned long  number;

    if (!base64) {
        memcpy(digits, text, WATCH_DIGITS);
    }

    for (i = 0; base64 && i < WATCH_DIGITS; i += 3, text += 4) {
        for (k = 0, bits = 0; k < 4; k++) {
            c = (unsigned char) text[k];
            c = c >= 'a' ? c - 'a' + 26 : c >= 'A' ? c - 'A' : c - '0' + 52;
            bits = bits << 6 | (c & 63);
        }

        digits[i] = (char) (bits >> 16);
        digits[i + 1] = (char) (bits >> 8);
        digits[i + 2] = (char) bits;
    }

    number = strtoul(digits, &end, 10);

    return end == digits + WATCH_DIGITS ? number : (unsigned long) -1;
}


/* A text of an argument, with its numbers. */

static size_t
expand(char *to, size_t size, const char *text, unsigned long number)
{
    size_t  n, len;

    for (n = 0; *text; n += len) {

        if (n + WATCH_BASE64 >= size) {
            errno = ENOBUFS;
            fail("a request is too long");
        }

        if (strncmp(text, "{n}", 3) == 0) {
            put_number(to + n, number, false);
            len = WATCH_DIGITS;
            text += 3;

        } else if (strncmp(text, "{b}", 3) == 0
                   || strncmp(text, "{e}", 3) == 0)
        {
            put_number(to + n, number + (text[1] == 'e'), true);
            len = WATCH_BASE64;
            text += 3;

        } else {
            to[n] = *text++;
            len = 1;
        }
    }

    to[n] = '\0';

    return n;
}


static void
send_request(watch_conn_t *c, const char *verb, const char *where,
    const char *what, unsigned long number)
{
    char     text[WATCH_HEAD + WATCH_BODY], target[WATCH_HEAD / 2];
    char     content[WATCH_BODY];
    int      n;
    size_t   len;
    ssize_t  rc, done;

    (void) expand(target, sizeof(target), where, number);
    len = what ? expand(content, sizeof(content), what, number) : 0;

    n = snprintf(text, WATCH_HEAD, "%s %s HTTP/1.1\r\nHost: localhost\r\n",
                 verb, target);

    if (what) {
        n += snprintf(text + n, (size_t) (WATCH_HEAD - n),
                      "Content-Length: %zu\r\n\r\n", len);
        memcpy(text + n, content, len);
        n += (int) len;

    } else {
        n += snprintf(text + n, (size_t) (WATCH_HEAD - n),
                      "Accept: text/event-stream\r\n\r\n");
    }

    for (done = 0; done < n; done += rc) {
        rc = send(c->fd, text + done, (size_t) (n - done), MSG_NOSIGNAL);
        if (rc == -1) {
            fail("send");
        }
    }
}


/* Sends the writes that are due, as long as connections are free. */

static void
send_due(void)
{
    int64_t        t;
    watch_conn_t  *c;

    for (t = now(); sent < total && nidle && due[sent] <= t; sent++) {
        c = idle[--nidle];
        c->index = sent;
        send_request(c, method, path, body,
                     first + (keys ? sent % keys : sent));
    }
}


/* A stream has an event. */

static void
take_event(watch_conn_t *c, int64_t t)
{
    int64_t        *at;
    unsigned long   number;

    number = get_number(c->number) - first;

    if (number >= total) {
        wrong("an event of no write", c->number);
    }

    at = &event[c->index * total + number];

    if (*at) {
        wrong("an event comes twice", c->number);
    }

    *at = t;
    last_progress = t;
    events++;
}


/* Bytes of a stream. */

static void
scan(watch_conn_t *c, const char *p, size_t n, int64_t t)
{
    size_t               i;
    const watch_text_t  *text;

    for (i = 0; i < n; i++) {
        text = c->state == IN_READY ? &ready : &mark;

        if (c->matched == text->len) {
            c->number[c->digits++] = p[i];

            if (c->digits == (base64 ? WATCH_BASE64 : WATCH_DIGITS)) {
                take_event(c, t);
                c->matched = 0;
                c->digits = 0;
            }

            continue;
        }

        while (c->matched && p[i] != text->text[c->matched]) {
            c->matched = text->again[c->matched - 1];
        }

        c->matched += p[i] == text->text[c->matched];

        if (c->state == IN_READY && c->matched == text->len) {
            c->state = IN_EVENTS;
            c->matched = 0;
            opened++;
        }
    }
}


/* The body of a stream: its chunks, if it has some. */

static void
take_stream(watch_conn_t *c, const char *p, size_t n, int64_t t)
{
    size_t  len;

    if (!c->chunked) {
        scan(c, p, n, t);
        return;
    }

    while (n) {

        if (c->left) {
            len = n < c->left ? n : c->left;
            scan(c, p, len, t);
            c->left -= len;

        } else {
            len = 1;

            if (*p == '\n' && c->sized) {
                c->left = c->chunk;
                c->chunk = 0;
                c->sized = false;

                if (c->left == 0) {
                    wrong("a stream has ended", "");
                }

            } else if (*p != '\r' && *p != '\n') {
                c->chunk = c->chunk << 4
                           | (*p <= '9' ? *p - '0' : (*p & 7) + 9);
                c->sized = true;
            }
        }

        p += len;
        n -= len;
    }
}


/* The head of an answer is whole. */

static void
read_head(watch_conn_t *c)
{
    char  *field;

    if (strncmp(c->head, "HTTP/1.1 2", 10) != 0) {
        wrong("not a 200", c->head);
    }

    c->chunked = strcasestr(c->head, "\r\nTransfer-Encoding: chunked") != NULL;

    if (c->stream) {
        c->state = IN_READY;
        return;
    }

    field = strcasestr(c->head, "\r\nContent-Length:");

    if (field == NULL) {
        wrong("an answer without a length", c->head);
    }

    c->state = IN_EVENTS;
    c->left = strtoul(field + 17, NULL, 10);
}


/* Bytes have come on a connection. */

static void
take(watch_conn_t *c, const char *data, size_t n, int64_t t)
{
    char    *end;
    size_t   had, add;

    if (c->state == IN_HEAD) {
        had = c->have;
        add = n < WATCH_HEAD - 1 - had ? n : WATCH_HEAD - 1 - had;

        memcpy(c->head + had, data, add);
        c->have += add;
        c->head[c->have] = '\0';

        end = strstr(c->head, "\r\n\r\n");

        if (end == NULL) {
            if (c->have == WATCH_HEAD - 1) {
                wrong("the head of an answer is too long", c->head);
            }

            return;
        }

        end[2] = '\0';
        data += (size_t) (end + 4 - c->head) - had;
        n -= (size_t) (end + 4 - c->head) - had;
        read_head(c);
    }

    if (c->stream) {
        take_stream(c, data, n, t);
        return;
    }

    if (n > c->left) {
        wrong("an answer is too long", c->head);
    }

    c->left -= n;

    if (c->left == 0) {
        answer[c->index] = t;
        answered++;
        last_progress = t;
        c->have = 0;
        c->state = IN_HEAD;
        idle[nidle++] = c;
    }
}


/* Waits for bytes until then, and takes them. */

static void
take_some(int64_t until)
{
    int                 i, n;
    int64_t             left;
    ssize_t             rc;
    watch_conn_t       *c;
    struct timespec     ts;
    struct epoll_event  ready_now[WATCH_EVENTS];

    left = until - now();
    left = left > 0 ? left : 0;
    ts.tv_sec = left / 1000000000;
    ts.tv_nsec = left % 1000000000;

    n = epoll_pwait2(queue, ready_now, WATCH_EVENTS, &ts, NULL);

    if (n == -1 && errno != EINTR) {
        fail("epoll");
    }

    for (i = 0; i < n; i++) {
        c = ready_now[i].data.ptr;
        rc = recv(c->fd, received, sizeof(received), 0);

        if (rc <= 0) {
            errno = rc == 0 ? ECONNRESET : errno;
            fail(c->stream ? "a stream" : "an answer");
        }

        take(c, received, (size_t) rc, now());
        send_due();
    }
}


static void
on_term(int number)
{
    ended = number;
}


static void
open_connection(watch_conn_t *c)
{
    int                 on = 1;
    struct sockaddr_in  sin = { .sin_family = AF_INET };
    struct epoll_event  wanted = { .events = EPOLLIN, .data = { .ptr = c } };

    sin.sin_port = htons((uint16_t) port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    c->fd = socket(AF_INET, SOCK_STREAM, 0);

    if (c->fd == -1
        || connect(c->fd, (struct sockaddr *) &sin, sizeof(sin)) == -1
        || epoll_ctl(queue, EPOLL_CTL_ADD, c->fd, &wanted) == -1)
    {
        fail("connect");
    }

    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}


/* Opens all streams: not so many at once that the server refuses some. */

static void
open_streams(void)
{
    unsigned long  i;

    last_progress = now();

    for (i = 0; i < nstreams || opened < nstreams; /* void */ ) {

        if (i < nstreams && i - opened < WATCH_EVENTS) {
            conns[i].stream = true;
            conns[i].index = i;
            open_connection(&conns[i]);
            send_request(&conns[i], request ? "POST" : "GET", watch, request,
                         i);
            last_progress = now();
            i++;
            continue;
        }

        if (now() - last_progress > WATCH_PATIENCE) {
            wrong("a stream does not open", "");
        }

        take_some(now() + 100000000);
    }

    printf("ready\n");
    (void) fflush(stdout);
}


/* All writes at their times, and all that comes of them. */

static void
run(void)
{
    int64_t        start, until, t;
    unsigned long  i;

    for (i = 0; i < nwriters; i++) {
        idle[nidle++] = &conns[nstreams + i];
        open_connection(&conns[nstreams + i]);
    }

    start = now() + 1000000;
    last_progress = start;

    for (i = 0; i < total; i++) {
        due[i] = start + (int64_t) (i * 1000000000 / rate);
    }

    while (answered < total || events < nstreams * total) {
        if (ended && nstreams) {
            exit(0);
        }

        total = ended ? sent : total;

        send_due();

        t = now();

        if (t - last_progress > WATCH_PATIENCE) {
            if (answered < total) {
                wrong("an answer does not come", "");
            }

            return;
        }

        until = sent < total && nidle ? due[sent] : t + 100000000;
        take_some(until);
    }
}


static int
compare(const void *a, const void *b)
{
    int64_t  x = *(const int64_t *) a, y = *(const int64_t *) b;

    return (x > y) - (x < y);
}


static void
print_times(const char *name, int64_t *took, unsigned long n)
{
    if (n == 0) {
        return;
    }

    qsort(took, n, sizeof(int64_t), compare);

    printf("%s %.1f %.1f %.1f\n", name, (double) took[n / 2] / 1e3,
           (double) took[n - n / 100 - 1] / 1e3, (double) took[n - 1] / 1e3);
}


static void
print_results(void)
{
    int64_t        end, *took;
    unsigned long  i, n;

    took = malloc((nstreams + 1) * total * sizeof(int64_t));

    if (took == NULL) {
        fail("malloc");
    }

    for (i = 0, end = due[0]; i < total; i++) {
        end = answer[i] > end ? answer[i] : end;
        took[i] = answer[i] - due[i];
    }

    printf("answered %.1f\n", (double) total * 1e9 / (double) (end - due[0]));
    printf("missed %lu\n", nstreams * total - events);
    print_times("answer", took, total);

    for (i = 0, n = 0; i < nstreams * total; i++) {
        if (event[i]) {
            took[n++] = event[i] - answer[i % total];
        }
    }

    print_times("event", took, n);

    for (i = 0, n = 0; i < nstreams * total; i++) {
        if (event[i]) {
            took[n++] = event[i] - due[i % total];
        }
    }

    print_times("whole", took, n);
}


static void
prepare_text(watch_text_t *text)
{
    unsigned  i, n;

    text->text = text->text ? text->text : "\n";
    text->len = (unsigned) strlen(text->text);

    if (text->len == 0 || text->len > WATCH_MARK) {
        usage();
    }

    for (i = 1, n = 0; i < text->len; i++) {
        while (n && text->text[i] != text->text[n]) {
            n = text->again[n - 1];
        }

        n += text->text[i] == text->text[n];
        text->again[i] = (unsigned char) n;
    }
}


static void
prepare(void)
{
    size_t         events_size;
    struct rlimit  limit;

    /* where it is too low, connect() says so */

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &limit);
    }

    /* else a time to sleep until may be 50 us late */

    (void) prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);

    prepare_text(&ready);
    prepare_text(&mark);

    total = rate * seconds;
    events_size = nstreams * total * sizeof(int64_t);

    queue = epoll_create1(0);
    conns = calloc(nstreams + nwriters, sizeof(watch_conn_t));
    idle = calloc(nwriters, sizeof(watch_conn_t *));
    due = calloc(total + 1, sizeof(int64_t));
    answer = calloc(total + 1, sizeof(int64_t));
    event = malloc(events_size + 1);

    if (queue == -1 || !conns || !idle || !due || !answer || !event) {
        fail("start");
    }

    /* its pages are not to be made while times are taken */

    memset(event, 0, events_size);
}


int
main(int argc, char **argv)
{
    int  i;

    if (argc < 2) {
        usage();
    }

    port = atoi(argv[1]);

    for (i = 2; i < argc; i++) {
        set_option(argv[i]);
    }

    if (nwriters == 0 || nwriters > WATCH_WRITERS || (keys && nstreams)
        || rate > 1000000 || seconds > 3600
        || (nstreams + 1) * rate * seconds > WATCH_SAMPLES)
    {
        usage();
    }

    (void) signal(SIGTERM, on_term);

    prepare();
    open_streams();

    while (rate == 0 && !ended) {
        take_some(now() + 1000000000);
    }

    if (rate) {
        run();
        print_results();
    }

    return 0;
}
