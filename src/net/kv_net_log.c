
/*
 * Messages, and the time; see kv_net_private.h.
 */


#include "net/kv_net_private.h"


uint64_t
kv_net_now(void)
{
    return kv_now_ns() / 1000000;
}


void
kv_net_log(kv_net_t *net, kv_net_limit_t *limit, kv_log_level_t level,
    const char *fmt, ...)
{
    int       n;
    char      text[1024];
    size_t    len;
    uint64_t  now;
    va_list   args;

    now = kv_net_now();

    if (limit && now < limit->next) {
        limit->more++;
        return;
    }

    n = snprintf(text, sizeof(text), "kv zone \"%s\": ", net->zone);
    len = (size_t) n;

    va_start(args, fmt);
    n = vsnprintf(text + len, sizeof(text) - len, fmt, args);
    va_end(args);

    if (limit) {
        len = kv_min(len + (size_t) n, sizeof(text) - 1);

        if (limit->more) {
            (void) snprintf(text + len, sizeof(text) - len,
                            " (and %u more like this)", limit->more);
        }

        limit->more = 0;
        limit->next = now + KV_NET_PAUSE_LOG;
    }

    net->log(net->log_ctx, level, text);
}
