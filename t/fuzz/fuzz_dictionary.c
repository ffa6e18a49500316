
/*
 * kv_dictionary_next() on the text of a header.
 *
 * What must hold: nothing behind the text is read; keys and byte sequences have
 * their letters alone; a dictionary stays one behind other members and before
 * them; and what is none stays none behind others.
 */


#include "fuzz.h"
#include "base/kv_dictionary.h"


static const char  letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";


static kv_rc_t dictionary_read(const char *before, const uint8_t *data,
    size_t size, const char *behind, unsigned *n);
static void dictionary_member(const kv_dictionary_member_t *m);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kv_rc_t   rc;
    unsigned  n, more;

    rc = dictionary_read("", data, size, "", &n);

    fuzz_check(rc == KV_NOT_FOUND || rc == KV_DECLINED);

    if (rc == KV_DECLINED) {

        /* a tab may stand between members, but not before all */

        if (size == 0 || data[0] == ' ' || data[0] == '\t') {
            return 0;
        }

        rc = dictionary_read("a;b=:c:, ", data, size, "", &more);
        fuzz_check(rc == KV_DECLINED);
        return 0;
    }

    if (n) {
        rc = dictionary_read("a=(1 :c:) ,\t", data, size, " , z=\",\"", &more);
        fuzz_check(rc == KV_NOT_FOUND);
        fuzz_check(more == n + 2);
    }

    return 0;
}


/* Reads a copy behind which there is no memory. */

static kv_rc_t
dictionary_read(const char *before, const uint8_t *data, size_t size,
    const char *behind, unsigned *n)
{
    char                    *text;
    size_t                   len;
    kv_rc_t                  rc;
    const char              *p;
    kv_dictionary_member_t   m;

    len = strlen(before) + size + strlen(behind);
    text = malloc(len + 1);
    fuzz_check(text != NULL);

    memcpy(text, before, strlen(before));

    if (size) {
        memcpy(text + strlen(before), data, size);
    }

    memcpy(text + strlen(before) + size, behind, strlen(behind));
    text = realloc(text, len ? len : 1);
    fuzz_check(text != NULL);

    *n = 0;
    p = text;

    while ((rc = kv_dictionary_next(&p, text + len, &m)) == KV_OK) {
        fuzz_check(p > text && p <= text + len);
        dictionary_member(&m);
        ++*n;
    }

    free(text);

    return rc;
}


static void
dictionary_member(const kv_dictionary_member_t *m)
{
    size_t  i;

    fuzz_check(m->key_len > 0);

    for (i = 0; i < m->key_len; i++) {
        fuzz_check(m->key[i] > ' ' && m->key[i] != '=' && m->key[i] != ',');
    }

    for (i = 0; i < m->base64_len; i++) {
        fuzz_check(m->base64[i] && strchr(letters, m->base64[i]));
    }
}
