
/*
 * Requests on many kept-alive connections to 127.0.0.1, one after the other on
 * each, as wrk makes them; with numbers that are used once, bodies of lines,
 * and conditions that are true, which wrk does not have.
 *
 *     httpload PORT CONNECTIONS SECONDS METHOD PATH [NAME=VALUE]...
 *
 *     keys=N      numbers below N, each once before one comes again, in a mixed
 *                 order (default: 1)
 *     first=N     so many were used before (0)
 *     own=1       each connection has one number, which no other one has
 *     chain=1     that, and sends If-Match with the ETag of its last answer
 *     header=TEXT a line more in the head of the request
 *     size=N      a body of N bytes (0: none)
 *     lines=N     instead a body of N lines, each with a number of its own
 *     line=TEXT   what a line is like
 *     other=PATH  asks for that one, too, in turns of 25 ms: one figure for
 *                 each, of the same connections at the same time; the first
 *                 turns, in which caches get warm, do not count
 *
 * PATH, or the line if there is one, is a format of printf(): its first %lu is
 * the number, its second how often all numbers have been used.  A body of bytes
 * is all x.
 *
 * It prints how many answers there were a second, of each path, and what
 * `first` is next time.  Any answer but 200 ends it.
 */


#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define LOAD_CONNECTIONS  1024
#define LOAD_HEAD         4096              /* of a request, of an answer */
#define LOAD_BODY         (1024 * 1024)
#define LOAD_TAG          64
#define LOAD_STRIDE       62615533ul        /* 7919 * 7907, between numbers */
#define LOAD_KEYS         10000000000ul
#define LOAD_PATIENCE     60000             /* for an answer, ms */
#define LOAD_TURN         0.025             /* s */


typedef struct {
    int            fd;
    unsigned       index;
    unsigned       asked;                   /* for which of the paths */
    size_t         have;                    /* bytes of the head */
    uint64_t       left;                    /* of the body */
    bool           in_body;
    char           tag[LOAD_TAG];           /* ETag; "": none yet */
    char           head[LOAD_HEAD];         /* of the answer */
} load_conn_t;


static const char    *method, *paths[2], *header, *line;
static unsigned long  keys = 1, used, lines, size;
static unsigned       turn;                 /* a number of `paths` */
static bool           own, chain;

static load_conn_t    conns[LOAD_CONNECTIONS];
static char           request[LOAD_HEAD + LOAD_BODY], body[LOAD_BODY];
static char           received[256 * 1024];


static void
fail(const char *what)
{
    fprintf(stderr, "httpload: %s: %s\n", what, strerror(errno));
    exit(1);
}


static double
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}


static void
usage(void)
{
    fprintf(stderr, "usage: httpload PORT CONNECTIONS SECONDS METHOD PATH "
            "[NAME=VALUE]...\n");
    exit(2);
}


/* One NAME=VALUE. */

static void
set_option(const char *text)
{
    size_t                i, len;
    const char           *value;
    static unsigned long  flag[2];

    static const struct {
        const char        *name;
        unsigned long     *number;
        const char       **text;
    } options[] = {
        { "keys", &keys, NULL },
        { "first", &used, NULL },
        { "own", &flag[0], NULL },
        { "chain", &flag[1], NULL },
        { "size", &size, NULL },
        { "lines", &lines, NULL },
        { "header", NULL, &header },
        { "line", NULL, &line },
        { "other", NULL, &paths[1] },
    };

    value = strchr(text, '=');
    len = value ? (size_t) (value - text) : 0;

    for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {

        if (len != strlen(options[i].name)
            || strncmp(options[i].name, text, len) != 0)
        {
            continue;
        }

        if (options[i].text) {
            *options[i].text = value + 1;

        } else {
            *options[i].number = strtoul(value + 1, NULL, 10);
        }

        chain = flag[1] != 0;
        own = chain || flag[0] != 0;

        return;
    }

    usage();
}


/* The text with the next number, or with that of the connection. */

static size_t
expand(char *to, size_t room, const char *text, const load_conn_t *c)
{
    int            n;
    unsigned long  number;

    number = own ? c->index : used % keys * LOAD_STRIDE % keys;
    n = snprintf(to, room, text, number, used / keys);

    if (n < 0 || (size_t) n >= room) {
        errno = ENOBUFS;
        fail("a request is too long");
    }

    used++;

    return (size_t) n;
}


static void
send_request(load_conn_t *c)
{
    char           where[LOAD_HEAD / 2], *p, *end;
    size_t         n, sent;
    ssize_t        rc;
    unsigned long  i;

    n = size;

    if (lines) {
        for (i = 0, n = 0; i < lines; i++) {
            n += expand(body + n, sizeof(body) - n, line, c);
            body[n++] = '\n';
        }

        snprintf(where, sizeof(where), "%s", paths[turn]);

    } else {
        expand(where, sizeof(where), paths[turn], c);
    }

    p = request;
    end = request + LOAD_HEAD;
    p += snprintf(p, end - p, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method,
                  where);

    if (n) {
        p += snprintf(p, end - p, "Content-Length: %zu\r\n", n);
    }

    if (header) {
        p += snprintf(p, end - p, "%s\r\n", header);
    }

    if (chain && c->tag[0]) {
        p += snprintf(p, end - p, "If-Match: %s\r\n", c->tag);
    }

    p += snprintf(p, end - p, "\r\n");
    memcpy(p, body, n);
    n += p - request;

    c->asked = turn;
    c->have = 0;
    c->left = 0;
    c->in_body = false;

    for (sent = 0; sent < n; sent += rc) {
        rc = send(c->fd, request + sent, n - sent, MSG_NOSIGNAL);
        if (rc == -1) {
            fail("send");
        }
    }
}


/* The head of an answer is whole. */

static void
read_head(load_conn_t *c)
{
    char    *field;
    size_t   len;

    if (strncmp(c->head, "HTTP/1.1 200 ", 13) != 0) {
        fprintf(stderr, "httpload: not a 200: %.*s\n",
                (int) strcspn(c->head, "\r"), c->head);
        exit(1);
    }

    field = strcasestr(c->head, "\r\nContent-Length:");

    if (field == NULL) {
        errno = EPROTO;
        fail("an answer without a length");
    }

    c->left = strtoul(field + 17, NULL, 10);
    c->in_body = true;

    if (!chain) {
        return;
    }

    field = strcasestr(c->head, "\r\nETag: ");
    len = field ? strcspn(field + 8, "\r") : 0;

    if (len == 0 || len >= LOAD_TAG) {
        errno = EPROTO;
        fail("an answer without an ETag");
    }

    memcpy(c->tag, field + 8, len);
    c->tag[len] = '\0';
}


/* Bytes of an answer have come; whether that was its end. */

static bool
take(load_conn_t *c, const char *data, size_t n)
{
    char    *end;
    size_t   had, add;

    if (!c->in_body) {
        had = c->have;
        add = n < LOAD_HEAD - 1 - had ? n : LOAD_HEAD - 1 - had;

        memcpy(c->head + had, data, add);
        c->have += add;
        c->head[c->have] = '\0';

        end = strstr(c->head, "\r\n\r\n");

        if (end == NULL) {
            if (c->have == LOAD_HEAD - 1) {
                errno = EPROTO;
                fail("the head of an answer is too long");
            }

            return false;
        }

        end[2] = '\0';
        n -= (size_t) (end + 4 - c->head) - had;
        read_head(c);
    }

    if (n > c->left) {
        errno = EPROTO;
        fail("an answer is too long");
    }

    c->left -= n;

    return c->left == 0;
}


static void
open_connection(load_conn_t *c, int port, int queue)
{
    int                 on = 1;
    struct sockaddr_in  sin = { .sin_family = AF_INET };
    struct epoll_event  event = { .events = EPOLLIN, .data = { .ptr = c } };

    sin.sin_port = htons(port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    c->fd = socket(AF_INET, SOCK_STREAM, 0);

    if (c->fd == -1
        || connect(c->fd, (struct sockaddr *) &sin, sizeof(sin)) == -1
        || epoll_ctl(queue, EPOLL_CTL_ADD, c->fd, &event) == -1)
    {
        fail("connect");
    }

    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}


/*
 * Sends requests for so many seconds, waits for all answers, and sets how many
 * there were a second, for each path.
 */

static void
run(int queue, unsigned count, double seconds, double *rates)
{
    int                 i, n;
    double              passed, start, unseen;
    ssize_t             rc;
    unsigned            under_way;
    load_conn_t        *c;
    unsigned long       answers[2] = { 0, 0 };
    struct epoll_event  events[LOAD_CONNECTIONS];

    start = now();
    unseen = paths[1] ? 4 * LOAD_TURN : 0;

    for (under_way = 0; under_way < count; under_way++) {
        send_request(&conns[under_way]);
    }

    while (under_way) {
        n = epoll_wait(queue, events, LOAD_CONNECTIONS, LOAD_PATIENCE);

        if (n <= 0) {
            errno = n == 0 ? ETIMEDOUT : errno;
            fail("an answer");
        }

        for (i = 0; i < n; i++) {
            c = events[i].data.ptr;
            rc = recv(c->fd, received, sizeof(received), 0);

            if (rc <= 0) {
                errno = rc == 0 ? ECONNRESET : errno;
                fail("an answer");
            }

            if (!take(c, received, rc)) {
                continue;
            }

            passed = now() - start;

            if (paths[1] == NULL
                || (passed >= unseen && passed < unseen + seconds))
            {
                answers[c->asked]++;
            }

            if (passed < unseen + seconds) {
                turn = paths[1] && (unsigned) (passed / LOAD_TURN) % 2;
                send_request(c);

            } else {
                under_way--;
            }
        }
    }

    seconds = paths[1] ? seconds / 2 : now() - start;
    rates[0] = answers[0] / seconds;
    rates[1] = answers[1] / seconds;
}


int
main(int argc, char **argv)
{
    int            i, port, queue;
    double         seconds, rates[2];
    unsigned       count, k;

    if (argc < 6) {
        usage();
    }

    port = atoi(argv[1]);
    count = atoi(argv[2]);
    seconds = atof(argv[3]);
    method = argv[4];
    paths[0] = argv[5];

    for (i = 6; i < argc; i++) {
        set_option(argv[i]);
    }

    if (count == 0 || count > LOAD_CONNECTIONS || keys == 0 || keys > LOAD_KEYS
        || size > LOAD_BODY || (lines != 0) != (line != NULL)
        || strlen(paths[0]) > LOAD_HEAD / 4
        || (paths[1] && strlen(paths[1]) > LOAD_HEAD / 4)
        || (header && strlen(header) > LOAD_HEAD / 4))
    {
        usage();
    }

    memset(body, 'x', size);

    queue = epoll_create1(0);
    if (queue == -1) {
        fail("epoll");
    }

    for (k = 0; k < count; k++) {
        conns[k].index = k;
        open_connection(&conns[k], port, queue);
    }

    run(queue, count, seconds, rates);

    printf("%.1f ", rates[0]);

    if (paths[1]) {
        printf("%.1f ", rates[1]);
    }

    printf("%lu\n", used);

    return 0;
}
