
/*
 * ngx_http_kv_prefers_value() on headers.
 *
 * The lines of an input are the values of as many Prefer headers.  What must
 * hold: nothing behind a value is read (fuzz_ngx_str()); without the word
 * "return" there is no such preference; other preferences before the first
 * header change nothing; and what a header in the form of RFC 7240 says is what
 * a plainer parser finds in it.
 */


#include "ngx.h"

#include <ctype.h>


#define HEADERS  4


static bool prefer_ask(const uint8_t *data, size_t size, const char *before);
static bool prefer_named(const uint8_t *data, size_t size);
static int prefer_plain(const uint8_t *data, size_t size);
static const uint8_t *prefer_word(const uint8_t *p, const uint8_t *end,
    bool quotes, char *word);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int   plain;
    bool  value;

    if (size > 200 || memchr(data, 0, size)) {
        return 0;
    }

    value = prefer_ask(data, size, "");

    fuzz_check(!value || prefer_named(data, size));

    fuzz_check(prefer_ask(data, size, "wait=1, ") == value);
    fuzz_check(prefer_ask(data, size, "x=\"a, \\\"b\" ; c = d,,") == value);
    fuzz_check(prefer_ask(data, size, "returns=representation ,") == value);

    if (memchr(data, '\n', size) == NULL) {
        plain = prefer_plain(data, size);

        fuzz_check(plain == -1 || plain == value);
    }

    return 0;
}


static bool
prefer_ask(const uint8_t *data, size_t size, const char *before)
{
    char                        first[300];
    size_t                      n, len;
    bool                        value;
    unsigned                    i;
    ngx_table_elt_t             h[HEADERS];
    static ngx_http_request_t   r;

    memset(h, 0, sizeof(h));
    memset(&r, 0, sizeof(r));

    for (i = 0; i < HEADERS; i++) {
        for (n = 0; n < size && data[n] != '\n'; n++) { /* void */ }

        len = i ? 0 : strlen(before);
        memcpy(first, before, len);
        memcpy(first + len, data, n);

        h[i].key = fuzz_ngx_str(i % 2 ? "prefer" : "Prefer", 6);
        h[i].value = fuzz_ngx_str(first, len + n);

        n += n < size;
        data += n;
        size -= n;
    }

    r.headers_in.headers.part.elts = h;
    r.headers_in.headers.part.nelts = HEADERS;

    value = ngx_http_kv_prefers_value(&r);

    fuzz_ngx_done();

    return value;
}


/* Whether "return" is anywhere. */

static bool
prefer_named(const uint8_t *data, size_t size)
{
    size_t  i;

    for (i = 0; i + 6 <= size; i++) {
        if (strncasecmp((const char *) data + i, "return", 6) == 0) {
            return true;
        }
    }

    return false;
}


/* Whether the first "return" is "representation"; -1: not in that form. */

static int
prefer_plain(const uint8_t *data, size_t size)
{
    int             found;
    char            name[256], value[256];
    bool            first;
    const uint8_t  *p, *end;

    found = -1;
    p = data;
    end = data + size;

    do {
        first = true;

        /* a preference, then its parameters */

        do {
            p = prefer_word(p, end, false, name);
            value[0] = '\0';

            if (p && p < end && *p == '=') {
                p = prefer_word(p + 1, end, true, value);
            }

            if (p == NULL) {
                return -1;
            }

            if (first && found == -1 && strcasecmp(name, "return") == 0) {
                found = strcasecmp(value, "representation") == 0;
            }

            first = false;

        } while (p < end && *p++ == ';');

    } while (p <= end && p[-1] == ',');

    return p < end ? -1 : found == 1;
}


/* A token, or with `quotes` what stands in quotes, and blanks around it. */

static const uint8_t *
prefer_word(const uint8_t *p, const uint8_t *end, bool quotes, char *word)
{
    size_t  n;

    n = 0;

    while (p < end && (*p == ' ' || *p == '\t')) { p++; }

    if (quotes && p < end && *p == '"') {

        for (p++; p < end && *p != '"'; p++) {
            if (*p == '\\') {
                return NULL;
            }

            word[n++] = (char) *p;
        }

        if (p++ == end) {
            return NULL;
        }

    } else {
        while (p < end && (isalnum(*p) || *p == '-')) {
            word[n++] = (char) *p++;
        }

        if (n == 0) {
            return NULL;
        }
    }

    word[n] = '\0';

    while (p < end && (*p == ' ' || *p == '\t')) { p++; }

    return p == end || strchr("=;,", *p) ? p : NULL;
}
