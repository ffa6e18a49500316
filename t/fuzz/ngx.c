
/*
 * The few functions of nginx that our parsers call; see ngx.h.
 */


#include "ngx.h"


#define FUZZ_BLOCKS  64


ngx_module_t  ngx_http_core_module;

const char   *fuzz_ngx_error;
unsigned      fuzz_ngx_errors;

static void      *fuzz_block[FUZZ_BLOCKS];
static unsigned   fuzz_blocks;


static void *
fuzz_alloc(size_t size)
{
    fuzz_check(fuzz_blocks < FUZZ_BLOCKS);

    fuzz_block[fuzz_blocks] = malloc(size);
    fuzz_check(fuzz_block[fuzz_blocks]);

    return fuzz_block[fuzz_blocks++];
}


void
fuzz_ngx_done(void)
{
    while (fuzz_blocks) {
        free(fuzz_block[--fuzz_blocks]);
    }

    fuzz_ngx_error = NULL;
    fuzz_ngx_errors = 0;
}


ngx_str_t
fuzz_ngx_str(const void *data, size_t len)
{
    ngx_str_t  s;

    s.len = len;
    s.data = fuzz_alloc(len);

    if (len) {
        memcpy(s.data, data, len);
    }

    return s;
}


static int
fuzz_hex(u_char c)
{
    return c >= '0' && c <= '9' ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


bool
fuzz_ngx_decode(ngx_str_t *s)
{
    size_t   i, n;
    u_char  *p = s->data;

    for (i = 0, n = 0; i < s->len; i++, n++) {

        p[n] = p[i];

        if (p[i] != '%') {
            continue;
        }

        if (s->len - i < 3 || fuzz_hex(p[i + 1]) < 0 || fuzz_hex(p[i + 2]) < 0)
        {
            return false;
        }

        p[n] = (u_char) (fuzz_hex(p[i + 1]) << 4 | fuzz_hex(p[i + 2]));
        i += 2;
    }

    s->len = n;

    return true;
}


void *
ngx_pnalloc(ngx_pool_t *pool, size_t size)
{
    (void) pool;

    return fuzz_alloc(size);
}


ngx_int_t
ngx_hextoi(u_char *line, size_t n)
{
    ngx_int_t  value;

    for (value = n ? 0 : NGX_ERROR; n--; line++) {

        if (fuzz_hex(*line) < 0) {
            return NGX_ERROR;
        }

        value = value << 4 | fuzz_hex(*line);
    }

    return value;
}


ngx_int_t
ngx_strncasecmp(u_char *s1, u_char *s2, size_t n)
{
    return strncasecmp((char *) s1, (char *) s2, n);
}


u_char *
ngx_cpystrn(u_char *dst, u_char *src, size_t n)
{
    if (n == 0) {
        return dst;
    }

    while (--n && *src) {
        *dst++ = *src++;
    }

    *dst = '\0';

    return dst;
}


/* A number with a unit, or NGX_ERROR; `max` is the most that it may be. */

static off_t
fuzz_number(const u_char *p, size_t len, off_t scale, off_t max)
{
    off_t  n;

    if (len == 0) {
        return NGX_ERROR;
    }

    for (n = 0; len--; p++) {

        if (*p < '0' || *p > '9' || n > (max / scale - (*p - '0')) / 10) {
            return NGX_ERROR;
        }

        n = n * 10 + (*p - '0');
    }

    return n * scale;
}


ngx_int_t
ngx_atoi(u_char *line, size_t n)
{
    return fuzz_number(line, n, 1, NGX_MAX_INT_T_VALUE);
}


off_t
ngx_parse_offset(ngx_str_t *line)
{
    off_t   scale;
    size_t  len;

    len = line->len;
    scale = 1;

    switch (len ? line->data[len - 1] | 0x20 : 0) {
    case 'k':
        scale = 1 << 10;
        break;
    case 'm':
        scale = 1 << 20;
        break;
    case 'g':
        scale = 1 << 30;
        break;
    }

    return fuzz_number(line->data, len - (scale > 1), scale,
                       NGX_MAX_OFF_T_VALUE);
}


ngx_int_t
ngx_parse_time(ngx_str_t *line, ngx_uint_t is_sec)
{
    off_t   scale, second;
    size_t  len;

    len = line->len;
    second = is_sec ? 1 : 1000;

    if (!is_sec && len > 1 && memcmp(line->data + len - 2, "ms", 2) == 0) {
        return fuzz_number(line->data, len - 2, 1, NGX_MAX_INT_T_VALUE);
    }

    switch (len ? line->data[len - 1] : 0) {
    case 's':
        scale = second;
        break;
    case 'm':
        scale = 60 * second;
        break;
    case 'h':
        scale = 3600 * second;
        break;
    case 'd':
        scale = 86400 * second;
        break;
    default:
        return fuzz_number(line->data, len, second, NGX_MAX_INT_T_VALUE);
    }

    return fuzz_number(line->data, len - 1, scale, NGX_MAX_INT_T_VALUE);
}


ngx_int_t
ngx_conf_full_name(ngx_cycle_t *cycle, ngx_str_t *name, ngx_uint_t conf_prefix)
{
    (void) cycle;
    (void) name;
    (void) conf_prefix;

    return NGX_OK;
}


void
ngx_conf_log_error(ngx_uint_t level, ngx_conf_t *cf, ngx_err_t err,
    const char *fmt, ...)
{
    (void) cf;
    (void) err;

    fuzz_check(level == NGX_LOG_EMERG);

    fuzz_ngx_error = fmt;
    fuzz_ngx_errors++;
}
