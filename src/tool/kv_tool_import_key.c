
/*
 * A key that is imported: kept, refused, or left out; see kv_tool_source.h.
 */


#include "tool/kv_tool_source.h"


/* of keys that are left out, so many are told by name */
#define KV_TOOL_IMPORT_TOLD  10u

/* characters of such a name */
#define KV_TOOL_IMPORT_NAME  60u


kv_rc_t
kv_tool_import_put(kv_tool_import_t *import, const char *key, size_t key_len,
    const char *value, size_t value_len, uint64_t expires)
{
    const char  *why;

    why = NULL;

    if (key_len == 0 || key_len > KV_KEY_MAX) {
        why = "a key has 1 to 16384 bytes";

    } else if (kv_key_wrong(KV_KEY_ANY, key, key_len)) {
        why = "no URL can name it: it has a control character, or a segment . "
              "or ..";

    } else if (kv_key_wrong(import->chars, key, key_len)) {
        why = "a key has no characters but A-Z a-z 0-9 : _ . -, unless with "
              "--key-chars any";

    } else if (value_len == 0) {
        why = "a value cannot be empty";

    } else if (value_len > KV_VALUE_MAX) {
        why = "the value has more than 256 MiB";
    }

    return why ? kv_tool_import_refuse(import, key, key_len, why)
               : kv_tool_make_put(&import->make, key, key_len, NULL, value,
                                  value_len, expires);
}


kv_rc_t
kv_tool_import_refuse(kv_tool_import_t *import, const char *key,
    size_t key_len, const char *why)
{
    char    name[KV_TOOL_IMPORT_NAME + 1];
    size_t  i, n;

    n = kv_min(key_len, (size_t) KV_TOOL_IMPORT_NAME);

    /* what a terminal would take for a command is not shown */

    for (i = 0; i < n; i++) {
        name[i] = key[i] >= 0x20 && key[i] < 0x7f ? key[i] : '?';
    }

    name[n] = '\0';

    if (!import->skip) {
        kv_tool_say("the key \"%s\"%s cannot be kept: %s; --skip leaves such "
                    "keys out", name, n < key_len ? "..." : "", why);
        return KV_ERROR;
    }

    if (import->skipped++ < KV_TOOL_IMPORT_TOLD) {
        kv_tool_say("the key \"%s\"%s is left out: %s", name,
                    n < key_len ? "..." : "", why);
    }

    return KV_OK;
}
