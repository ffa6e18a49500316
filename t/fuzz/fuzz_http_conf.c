
/*
 * The parameters of kv_zone.  An input is a line of them, as nginx splits it.
 *
 * What must hold: a line is refused with exactly one message; one that is
 * accepted left a configuration within the limits that README.md gives.
 */


/* nginx's headers first: they say which interfaces the system's have. */

#include "http/ngx_http_kv_conf.c"

#include <ctype.h>

#include "ngx.h"


#define CONF_WORDS  16


static bool conf_word(ngx_conf_t *cf, ngx_http_kv_zone_t *zone,
    const uint8_t *data, size_t len, ssize_t *size);
static void conf_check(const ngx_http_kv_zone_t *zone, ssize_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool                 accepted;
    size_t               n;
    ssize_t              zone_size;
    unsigned             words;
    ngx_conf_t           cf;
    ngx_array_t          args;
    ngx_http_kv_zone_t   zone;

    memset(&cf, 0, sizeof(cf));
    memset(&args, 0, sizeof(args));
    memset(&zone, 0, sizeof(zone));

    cf.args = &args;

    zone.conf.batch = NGX_HTTP_KV_BATCH;
    zone.conf.segment = NGX_HTTP_KV_SEGMENT;
    zone.conf.snapshot = NGX_HTTP_KV_SNAPSHOT;
    zone.conf.max_value = NGX_HTTP_KV_MAX_VALUE;

    zone_size = 0;
    accepted = true;

    for (words = 0; size && words < CONF_WORDS && accepted; words++) {

        for (n = 0; n < size && data[n] != ' '; n++) {
            /* void */
        }

        accepted = conf_word(&cf, &zone, data, n, &zone_size);

        n += n < size;
        data += n;
        size -= n;
    }

    if (accepted) {
        accepted = ngx_http_kv_zone_check(&cf, &zone, zone_size)
                   == NGX_CONF_OK;
    }

    fuzz_check(fuzz_ngx_errors == !accepted, "%u messages, the last \"%s\"",
               fuzz_ngx_errors, fuzz_ngx_error);

    if (accepted) {
        conf_check(&zone, zone_size);
    }

    fuzz_ngx_done();

    return 0;
}


/* nginx's words have a zero behind them. */

static bool
conf_word(ngx_conf_t *cf, ngx_http_kv_zone_t *zone, const uint8_t *data,
    size_t len, ssize_t *size)
{
    bool                  accepted;
    ngx_str_t             word;
    ngx_http_kv_params_t  params;

    word.len = len;
    word.data = ngx_pnalloc(NULL, len + 1);

    memcpy(word.data, data, len);
    word.data[len] = '\0';

    params.zone = zone;
    params.size = *size;
    ngx_str_set(&params.thread_pool, "default");

    accepted = ngx_http_kv_parse(cf, &params, &word) == NGX_CONF_OK;

    *size = params.size;

    return accepted;
}


static void
conf_check(const ngx_http_kv_zone_t *zone, ssize_t size)
{
    size_t                  i;
    const kv_store_conf_t  *conf;

    conf = &zone->conf;

    fuzz_check(size >= 4 << 20);
    fuzz_check(zone->path.len && zone->path.data[zone->path.len] == '\0');
    fuzz_check(zone->path.len == 1
               || zone->path.data[zone->path.len - 1] != '/');
    fuzz_check(conf->delay <= 10000);
    fuzz_check(conf->batch >= 1 && conf->batch <= 1000000);
    fuzz_check(conf->sync != KV_SYNC_INTERVAL || conf->sync_interval > 0);
    fuzz_check(conf->max_value >= 1 && conf->max_value <= 256u << 20);
    fuzz_check(conf->segment % 4096 == 0 && conf->segment <= 1u << 30);
    fuzz_check(conf->segment >= conf->max_value + (32u << 10));
    fuzz_check(conf->snapshot == 0 || conf->snapshot >= 64 << 10);
    fuzz_check(zone->name.len && strlen(conf->name) == zone->name.len);

    for (i = 0; i < zone->name.len; i++) {
        fuzz_check(isalnum((u_char) conf->name[i])
                   || strchr("_-.", conf->name[i]));
    }
}
