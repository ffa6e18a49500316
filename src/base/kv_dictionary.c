
/*
 * Dictionaries in headers; see kv_dictionary.h.  The functions below take what
 * they are called after from the front of the text, and return what is behind
 * it, or NULL: it is not there, or malformed.
 */


#include "base/kv_dictionary.h"


static const char *kv_dictionary_blanks(const char *p, const char *end,
    bool tabs);
static const char *kv_dictionary_key(const char *p, const char *end);
static const char *kv_dictionary_list(const char *p, const char *end);
static const char *kv_dictionary_params(const char *p, const char *end);
static const char *kv_dictionary_item(const char *p, const char *end);
static const char *kv_dictionary_string(const char *p, const char *end);
static const char *kv_dictionary_bytes(const char *p, const char *end);
static const char *kv_dictionary_number(const char *p, const char *end);
static const char *kv_dictionary_token(const char *p, const char *end);
static bool kv_dictionary_alpha(char c);
static bool kv_dictionary_digit(char c);
static bool kv_dictionary_one_of(char c, const char *set);


kv_rc_t
kv_dictionary_next(const char **text, const char *end,
    kv_dictionary_member_t *member)
{
    const char  *p, *value;

    p = kv_dictionary_blanks(*text, end, false);

    if (p == end) {
        return KV_NOT_FOUND;
    }

    member->key = p;
    member->base64 = NULL;
    member->base64_len = 0;

    p = kv_dictionary_key(p, end);

    if (p == NULL) {
        return KV_DECLINED;
    }

    member->key_len = (size_t) (p - member->key);

    if (p < end && *p == '=') {
        value = ++p;

        p = p < end && *p == '(' ? kv_dictionary_list(p, end)
                                 : kv_dictionary_item(p, end);

        if (p && *value == ':') {
            member->base64 = value + 1;
            member->base64_len = (size_t) (p - value) - 2;
        }
    }

    p = p ? kv_dictionary_params(p, end) : NULL;

    if (p == NULL) {
        return KV_DECLINED;
    }

    p = kv_dictionary_blanks(p, end, true);

    if (p < end) {
        if (*p != ',') {
            return KV_DECLINED;
        }

        p = kv_dictionary_blanks(p + 1, end, true);

        if (p == end) {
            return KV_DECLINED;
        }
    }

    *text = p;

    return KV_OK;
}


static const char *
kv_dictionary_blanks(const char *p, const char *end, bool tabs)
{
    while (p < end && (*p == ' ' || (tabs && *p == '\t'))) {
        p++;
    }

    return p;
}


static const char *
kv_dictionary_key(const char *p, const char *end)
{
    if (p == end || !((*p >= 'a' && *p <= 'z') || *p == '*')) {
        return NULL;
    }

    while (p < end
           && ((*p >= 'a' && *p <= 'z') || kv_dictionary_digit(*p)
               || kv_dictionary_one_of(*p, "_-.*")))
    {
        p++;
    }

    return p;
}


static const char *
kv_dictionary_list(const char *p, const char *end)
{
    p++;

    for ( ;; ) {
        p = kv_dictionary_blanks(p, end, false);

        if (p == end) {
            return NULL;
        }

        if (*p == ')') {
            return p + 1;
        }

        p = kv_dictionary_item(p, end);
        p = p ? kv_dictionary_params(p, end) : NULL;

        if (p == NULL || p == end || (*p != ' ' && *p != ')')) {
            return NULL;
        }
    }
}


static const char *
kv_dictionary_params(const char *p, const char *end)
{
    while (p && p < end && *p == ';') {
        p = kv_dictionary_blanks(p + 1, end, false);
        p = kv_dictionary_key(p, end);

        if (p && p < end && *p == '=') {
            p = kv_dictionary_item(p + 1, end);
        }
    }

    return p;
}


/* A value, without its parameters. */

static const char *
kv_dictionary_item(const char *p, const char *end)
{
    if (p == end) {
        return NULL;
    }

    switch (*p) {

    case '"':
        return kv_dictionary_string(p, end);

    case ':':
        return kv_dictionary_bytes(p, end);

    case '?':
        return end - p > 1 && (p[1] == '0' || p[1] == '1') ? p + 2 : NULL;

    case '-':
        return kv_dictionary_number(p + 1, end);

    default:
        return kv_dictionary_digit(*p) ? kv_dictionary_number(p, end)
                                       : kv_dictionary_token(p, end);
    }
}


static const char *
kv_dictionary_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {

        if (*p < 0x20 || *p > 0x7e) {
            return NULL;
        }

        if (*p == '\\') {
            p++;

            if (p == end || (*p != '"' && *p != '\\')) {
                return NULL;
            }
        }
    }

    return p < end ? p + 1 : NULL;
}


static const char *
kv_dictionary_bytes(const char *p, const char *end)
{
    do {
        p++;
    } while (p < end
             && (kv_dictionary_alpha(*p) || kv_dictionary_digit(*p)
                 || kv_dictionary_one_of(*p, "+/=")));

    return p < end && *p == ':' ? p + 1 : NULL;
}


/* Without its sign: a whole number, or one with a decimal point. */

static const char *
kv_dictionary_number(const char *p, const char *end)
{
    const char  *start, *point;

    point = NULL;

    for (start = p;
         p < end && (kv_dictionary_digit(*p) || (*p == '.' && !point));
         p++)
    {
        if (*p == '.') {
            point = p;
        }
    }

    if (point == NULL) {
        return p > start && p - start <= 15 ? p : NULL;
    }

    return point > start && point - start <= 12
           && p - point >= 2 && p - point <= 4 ? p : NULL;
}


static const char *
kv_dictionary_token(const char *p, const char *end)
{
    if (!kv_dictionary_alpha(*p) && *p != '*') {
        return NULL;
    }

    while (p < end
           && (kv_dictionary_alpha(*p) || kv_dictionary_digit(*p)
               || kv_dictionary_one_of(*p, "!#$%&'*+-.^_`|~:/")))
    {
        p++;
    }

    return p;
}


static bool
kv_dictionary_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}


static bool
kv_dictionary_digit(char c)
{
    return c >= '0' && c <= '9';
}


static bool
kv_dictionary_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}
