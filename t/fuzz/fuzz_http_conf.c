
/*
 * The parameters of kv_zone.  An input is a line of them, as nginx splits it.
 *
 * What must hold: a line is refused with exactly one message; one that is
 * accepted left a configuration within the limits that README.md gives.
 */


/* nginx's headers first: they say which interfaces the system's have. */

#include "http/ngx_http_kv_conf_private.h"

#include <ctype.h>

#include "ngx.h"


#define CONF_WORDS  16


static ngx_str_t conf_word(const uint8_t *data, size_t len);
static void conf_check(const ngx_http_kv_zone_t *zone, ssize_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool                  accepted;
    size_t                n;
    ngx_str_t             words[1 + CONF_WORDS];
    ngx_conf_t            cf;
    ngx_array_t           args;
    ngx_http_kv_zone_t    zone;
    ngx_http_kv_params_t  params;

    memset(&cf, 0, sizeof(cf));
    memset(&args, 0, sizeof(args));
    memset(&zone, 0, sizeof(zone));

    zone.conf.batch = NGX_HTTP_KV_BATCH;
    zone.conf.segment = NGX_HTTP_KV_SEGMENT;
    zone.conf.snapshot = NGX_HTTP_KV_SNAPSHOT;
    zone.conf.max_value = NGX_HTTP_KV_MAX_VALUE;

    params.zone = &zone;
    params.size = 0;
    ngx_str_set(&params.thread_pool, "default");

    ngx_str_set(&words[0], "kv_zone");

    for (args.nelts = 1; size && args.nelts <= CONF_WORDS; args.nelts++) {

        for (n = 0; n < size && data[n] != ' '; n++) {
            /* void */
        }

        words[args.nelts] = conf_word(data, n);

        n += n < size;
        data += n;
        size -= n;
    }

    args.elts = words;
    cf.args = &args;

    accepted = ngx_http_kv_params_read(&cf, &params) == NGX_CONF_OK
               && ngx_http_kv_check_params(&cf, &params) == NGX_CONF_OK;

    fuzz_check(fuzz_ngx_errors == !accepted, "%u messages, the last \"%s\"",
               fuzz_ngx_errors, fuzz_ngx_error);

    if (accepted) {
        conf_check(&zone, params.size);
    }

    fuzz_ngx_done();

    return 0;
}


/* nginx's words have a zero behind them. */

static ngx_str_t
conf_word(const uint8_t *data, size_t len)
{
    ngx_str_t  word;

    word.len = len;
    word.data = ngx_pnalloc(NULL, len + 1);

    memcpy(word.data, data, len);
    word.data[len] = '\0';

    return word;
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
