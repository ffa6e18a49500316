
/*
 * The page of kv_dashboard, which scripts/dashboard.sh makes of the files in
 * src/http/dashboard.  Between its two parts a server puts where its stores
 * are.
 */


#ifndef _NGX_HTTP_KV_DASHBOARD_PAGE_H_INCLUDED_
#define _NGX_HTTP_KV_DASHBOARD_PAGE_H_INCLUDED_


#include <stddef.h>


typedef struct {
    size_t             len;           /* bytes */
    const char        *text;
} ngx_http_kv_page_part_t;


extern const ngx_http_kv_page_part_t  ngx_http_kv_page_head;
extern const ngx_http_kv_page_part_t  ngx_http_kv_page_rest;

/* Its Content-Security-Policy, and a digest of both parts, for the ETag. */
extern const char  ngx_http_kv_page_policy[];
extern const char  ngx_http_kv_page_digest[];


#endif /* _NGX_HTTP_KV_DASHBOARD_PAGE_H_INCLUDED_ */
