
/*
 * The options of a command, and how a figure is printed.
 */


#include <stdlib.h>

#include "core/core.h"


#define BENCH_OPTIONS  8             /* of a command */


typedef struct {
    char                name[16];
    char                text[256];
} option_t;


static option_t  options[BENCH_OPTIONS];
static unsigned  noptions;


void
fail(const char *what, const char *why)
{
    fprintf(stderr, "core: %s: %s\n", what, why);
    exit(1);
}


void
option_set(const char *text, size_t len, bool known)
{
    size_t        n;
    unsigned      i;
    const char   *sign;

    sign = memchr(text, '=', len);
    n = sign ? (size_t) (sign - text) : len;

    for (i = 0; i < noptions; i++) {
        if (strlen(options[i].name) == n
            && memcmp(options[i].name, text, n) == 0)
        {
            break;
        }
    }

    if (sign == NULL || n >= sizeof(options[i].name)
        || len - n > sizeof(options[i].text) || (known && i == noptions))
    {
        fail(text, "not an option of this command: see \"core help\"");
    }

    (void) snprintf(options[i].name, sizeof(options[i].name), "%.*s", (int) n,
                    text);
    (void) snprintf(options[i].text, sizeof(options[i].text), "%.*s",
                    (int) (len - n - 1), sign + 1);

    noptions = kv_max(noptions, i + 1);
}


const char *
option(const char *name)
{
    unsigned  i;

    for (i = 0; i < noptions; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return options[i].text;
        }
    }

    return "";
}


unsigned
option_list(const char *name, uint64_t *list)
{
    char        *end;
    unsigned     n;
    const char  *p;

    for (p = option(name), n = 0; n < BENCH_LIST; p = end + 1) {
        list[n] = strtoull(p, &end, 10);

        if (end == p) {
            break;
        }

        switch (*end) {

        case 'k':
            list[n] <<= 10;
            end++;
            break;

        case 'm':
            list[n] <<= 20;
            end++;
            break;

        case 'g':
            list[n] <<= 30;
            end++;
            break;
        }

        n++;

        if (*end == '\0') {
            return n;
        }

        if (*end != ',') {
            break;
        }
    }

    fail(name, "not a number, or a list of at most 8");

    return 0;
}


uint64_t
option_number(const char *name)
{
    uint64_t  list[BENCH_LIST];

    (void) option_list(name, list);

    return list[0];
}


static int
compare_doubles(const void *a, const void *b)
{
    double  x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}


double
figure(double *list, unsigned n)
{
    qsort(list, n, sizeof(double), compare_doubles);

    return strcmp(option("take"), "best") == 0
           ? list[n - 1]
           : (list[n / 2] + list[(n - 1) / 2]) / 2;
}


unsigned
rounds_wanted(void)
{
    uint64_t  n;

    n = option_number("rounds");

    if (n == 0 || n > BENCH_ROUNDS) {
        fail("rounds", "not from 1 to 64");
    }

    return (unsigned) n;
}
