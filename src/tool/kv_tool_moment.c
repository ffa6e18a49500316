
/*
 * Moments as people read and write them, times and LSNs; see kv_tool.h.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE                                          /* timegm() */
#endif

#include <time.h>

#include "base/kv_number.h"
#include "disk/kv_format.h"
#include "tool/kv_tool.h"


static const char *kv_tool_time_clock(const char *p, time_t *s, unsigned *ms);
static const char *kv_tool_time_zone(const char *p, time_t *s);
static const char *kv_tool_time_part(const char *p, unsigned *ms);
static const char *kv_tool_time_digits(const char *p, unsigned n, int *number);
static const char *kv_tool_lsn_hex(const char *p, uint64_t *number);


const char *
kv_tool_time(uint64_t ms, char buf[KV_TOOL_TIME])
{
    char       text[24];
    time_t     s;
    struct tm  tm;

    s = (time_t) (ms / 1000);

    if (ms == 0 || gmtime_r(&s, &tm) == NULL
        || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
    {
        (void) strcpy(buf, "-");
        return buf;
    }

    (void) snprintf(buf, KV_TOOL_TIME, "%s.%03uZ", text,
                    (unsigned) (ms % 1000));

    return buf;
}


bool
kv_tool_time_parse(const char *text, uint64_t *ms)
{
    time_t      s;
    unsigned    part;
    const char *p;

    s = 0;
    part = 0;

    if (text[0] == '@') {

        for (p = text + 1; *p >= '0' && *p <= '9' && p - text < 12; p++) {
            s = 10 * s + (*p - '0');
        }

        p = kv_tool_time_part(p, &part);

    } else {
        p = kv_tool_time_clock(text, &s, &part);
    }

    if (p == NULL || *p || s <= 0) {
        return false;
    }

    *ms = (uint64_t) s * 1000 + part;

    return true;
}


/* The parts of these return where they end; NULL: what is there is another. */

static const char *
kv_tool_time_clock(const char *p, time_t *s, unsigned *ms)
{
    int        hour, minute, second, month, day;
    struct tm  tm;

    memset(&tm, 0, sizeof(tm));
    second = 0;

    p = kv_tool_time_digits(p, 4, &tm.tm_year);
    p = p && *p == '-' ? kv_tool_time_digits(p + 1, 2, &month) : NULL;
    p = p && *p == '-' ? kv_tool_time_digits(p + 1, 2, &day) : NULL;
    p = p && (*p == 'T' || *p == ' ') ? kv_tool_time_digits(p + 1, 2, &hour)
                                      : NULL;
    p = p && *p == ':' ? kv_tool_time_digits(p + 1, 2, &minute) : NULL;

    if (p && *p == ':') {
        p = kv_tool_time_digits(p + 1, 2, &second);
        p = p ? kv_tool_time_part(p, ms) : NULL;
    }

    if (p == NULL || hour > 23 || minute > 59 || second > 59) {
        return NULL;
    }

    tm.tm_year -= 1900;
    tm.tm_mon = month - 1;
    tm.tm_mday = day;
    tm.tm_hour = hour;
    tm.tm_min = minute;
    tm.tm_sec = second;

    *s = timegm(&tm);

    /* of a day that is not in its month it has made another one */

    if (tm.tm_mon != month - 1 || tm.tm_mday != day) {
        return NULL;
    }

    return kv_tool_time_zone(p, s);
}


/* "Z", "+hh:mm", "+hhmm" or "+hh"; nothing: UTC. */

static const char *
kv_tool_time_zone(const char *p, time_t *s)
{
    int  hours, minutes, sign;

    if (*p == 'Z') {
        return p + 1;
    }

    if (*p != '+' && *p != '-') {
        return p;
    }

    sign = *p == '+' ? -1 : 1;
    minutes = 0;

    p = kv_tool_time_digits(p + 1, 2, &hours);

    if (p && *p) {
        p = kv_tool_time_digits(*p == ':' ? p + 1 : p, 2, &minutes);
    }

    if (p == NULL || hours > 23 || minutes > 59) {
        return NULL;
    }

    *s += sign * (3600 * hours + 60 * minutes);

    return p;
}


/* Of a second: any number of digits, of which milliseconds are taken. */

static const char *
kv_tool_time_part(const char *p, unsigned *ms)
{
    unsigned  digits;

    if (*p != '.' && *p != ',') {
        return p;
    }

    *ms = 0;

    for (p++, digits = 0; *p >= '0' && *p <= '9'; p++, digits++) {
        if (digits < 3) {
            *ms = 10 * *ms + (unsigned) (*p - '0');
        }
    }

    for ( /* void */ ; digits && digits < 3; digits++) {
        *ms *= 10;
    }

    return digits ? p : NULL;
}


static const char *
kv_tool_time_digits(const char *p, unsigned n, int *number)
{
    *number = 0;

    for ( /* void */ ; n; n--, p++) {

        if (*p < '0' || *p > '9') {
            return NULL;
        }

        *number = 10 * *number + (*p - '0');
    }

    return p;
}


bool
kv_tool_lsn_parse(const char *text, uint64_t *lsn)
{
    bool         prefix, quoted;
    int64_t      number;
    uint64_t     incarnation;
    const char  *p;

    if (kv_number_parse(text, strlen(text), &number)) {
        *lsn = number > 0 ? (uint64_t) number : 0;
        return *lsn >= 1 && *lsn <= KV_LSN_MAX;
    }

    prefix = strncmp(text, "0x", 2) == 0;
    quoted = text[0] == '"';

    p = kv_tool_lsn_hex(text + (prefix ? 2 : quoted), lsn);

    if (p && !prefix) {
        p = *p == '-' ? kv_tool_lsn_hex(p + 1, &incarnation) : NULL;
    }

    if (p && quoted) {
        p = *p == '"' ? p + 1 : NULL;
    }

    return p && *p == '\0' && *lsn >= 1 && *lsn <= KV_LSN_MAX;
}


/* At most 16 digits.  Returns where they end, NULL: there are none. */

static const char *
kv_tool_lsn_hex(const char *p, uint64_t *number)
{
    unsigned  n, digit;

    *number = 0;

    for (n = 0; n < 16; n++, p++) {

        digit = (unsigned) (unsigned char) *p - '0';

        if (digit > 9) {
            digit = (unsigned) ((unsigned char) *p | 0x20) - 'a';

            if (digit > 5) {
                break;
            }

            digit += 10;
        }

        *number = *number << 4 | digit;
    }

    return n ? p : NULL;
}
