/*
 * The latency of requests that come one by one, on one kept-alive connection
 * to 127.0.0.1.
 *
 *     httplat PORT METHOD[,METHOD] PREFIX COUNT [BODY]
 *
 * sends COUNT requests for PREFIX0 ... PREFIX999, in turn, PUTs with BODY
 * bytes of body, and prints a line for each method: the median, the 99th
 * percentile and the longest of the time from the first byte sent to the last
 * byte received, in microseconds.  Any answer but 200 ends it.  COUNT may be a
 * time instead, as in 1.5s.
 *
 * Two methods take turns, each with COUNT requests: so both meet the same
 * machine, above all processors that fell idle while a disk was waited for,
 * whose waking up is much of what one request at a time takes.
 */


#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define LAT_KEYS  1000
#define LAT_MAX   10000000         /* requests in a given time */


static char  request[1024 * 1024 + 4096], response[1024 * 1024 + 4096];


static void
fail(const char *what)
{
    fprintf(stderr, "httplat: %s: %s\n", what, strerror(errno));
    exit(1);
}


static uint64_t
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


static int
compare(const void *a, const void *b)
{
    uint64_t  x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return (x > y) - (x < y);
}


static int
open_connection(int port)
{
    int                 fd, on = 1;
    struct sockaddr_in  sin = { .sin_family = AF_INET };

    sin.sin_port = htons(port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd == -1 || connect(fd, (struct sockaddr *) &sin, sizeof(sin)) == -1) {
        fail("connect");
    }

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));

    return fd;
}


/* Reads one answer, which has a Content-Length, to its end. */

static void
read_response(int fd)
{
    char    *end = NULL, *field;
    size_t   have = 0, whole = 0;
    ssize_t  n;

    do {
        n = recv(fd, response + have, sizeof(response) - 1 - have, 0);
        if (n <= 0) {
            fail(n == 0 ? "connection closed" : "recv");
        }

        have += n;
        response[have] = '\0';

        if (end == NULL && (end = strstr(response, "\r\n\r\n")) != NULL) {
            field = strcasestr(response, "\r\nContent-Length:");
            whole = end + 4 - response
                    + (field ? strtoul(field + 17, NULL, 10) : 0);
        }

    } while (end == NULL || have < whole);

    if (strncmp(response, "HTTP/1.1 200 ", 13) != 0) {
        fprintf(stderr, "httplat: not a 200: %.*s\n",
                (int) strcspn(response, "\r"), response);
        exit(1);
    }
}


/* One request and its answer; how long that took, in nanoseconds. */

static uint64_t
measure(int fd, const char *method, const char *prefix, long i, size_t body)
{
    size_t    len;
    uint64_t  start;

    if (strcmp(method, "PUT") != 0) {
        body = 0;
    }

    len = snprintf(request, 4096, "%s %s%ld HTTP/1.1\r\n"
                   "Host: localhost\r\n", method, prefix, i % LAT_KEYS);

    if (body != 0) {
        len += sprintf(request + len, "Content-Length: %zu\r\n", body);
    }

    memcpy(request + len, "\r\n", 2);
    memset(request + len + 2, 'x', body);
    len += 2 + body;

    start = now();

    if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t) len) {
        fail("send");
    }

    read_response(fd);

    return now() - start;
}


int
main(int argc, char **argv)
{
    int        fd, m, methods;
    char      *method[2], *unit;
    long       i, n;
    double     count;
    size_t     body;
    uint64_t  *took[2], end;

    count = argc >= 5 ? strtod(argv[4], &unit) : 0;
    body = argc >= 6 ? strtoul(argv[5], NULL, 10) : 0;

    if (count <= 0 || (*unit && strcmp(unit, "s") != 0)
        || body > 1024 * 1024 || strlen(argv[3]) > 1024)
    {
        fprintf(stderr, "usage: httplat PORT METHOD[,METHOD] PREFIX "
                "COUNT [BODY]\n");
        return 1;
    }

    method[0] = strtok(argv[2], ",");
    method[1] = strtok(NULL, ",");
    methods = method[1] ? 2 : 1;

    n = *unit ? LAT_MAX : (long) count;

    for (m = 0; m < methods; m++) {
        took[m] = malloc(n * sizeof(uint64_t));
        if (took[m] == NULL) {
            fail("malloc");
        }
    }

    fd = open_connection(atoi(argv[1]));
    end = now() + (uint64_t) (count * 1e9);

    for (i = 0; i < n && (*unit == '\0' || now() < end); i++) {
        for (m = 0; m < methods; m++) {
            took[m][i] = measure(fd, method[m], argv[3], i, body);
        }
    }

    close(fd);
    n = i;

    for (m = 0; m < methods; m++) {
        qsort(took[m], n, sizeof(uint64_t), compare);

        printf("%.1f %.1f %.1f\n", took[m][n / 2] / 1e3,
               took[m][n - n / 100 - 1] / 1e3, took[m][n - 1] / 1e3);
    }

    return 0;
}
