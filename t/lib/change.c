
/*
 * A module of nginx for t/changed.t: another part of nginx that changes a body
 * after it was read, or while it is.  A request to a location with
 *
 *     change_held;   gets no answer yet
 *     change_now;    cuts that one's body in half, and has both answered
 *
 * and one with the header "Change" loses the second half of each part of its
 * body that is read.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


static char *change_conf_held(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *change_conf_now(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static ngx_int_t change_init(ngx_conf_t *cf);
static ngx_int_t change_body_filter(ngx_http_request_t *r, ngx_chain_t *in);
static ngx_int_t change_held_handler(ngx_http_request_t *r);
static ngx_int_t change_now_handler(ngx_http_request_t *r);


static ngx_http_request_t                  *change_held;
static ngx_http_request_body_filter_pt      change_next;


static ngx_command_t  change_commands[] = {

    { ngx_string("change_held"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      change_conf_held,
      0,
      0,
      NULL },

    { ngx_string("change_now"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      change_conf_now,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  change_ctx = {
    NULL, change_init, NULL, NULL, NULL, NULL, NULL, NULL
};


ngx_module_t  change_module = {
    NGX_MODULE_V1,
    &change_ctx,
    change_commands,
    NGX_HTTP_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};


/* What nginx looks for in a file that load_module names. */

ngx_module_t  *ngx_modules[] = { &change_module, NULL };
char          *ngx_module_names[] = { "change_module", NULL };
char          *ngx_module_order[] = { NULL };


static char *
change_conf_held(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = change_held_handler;

    return NGX_CONF_OK;
}


static char *
change_conf_now(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = change_now_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
change_init(ngx_conf_t *cf)
{
    (void) cf;

    change_next = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = change_body_filter;

    return NGX_OK;
}


/* A filter gets what was read, without the chunks if it was chunked. */

static ngx_int_t
change_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t        *b;
    ngx_uint_t        i;
    ngx_chain_t      *cl;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    part = &r->headers_in.headers.part;
    header = part->elts;

    for (i = 0; i < part->nelts; i++) {

        if (header[i].key.len == 6
            && ngx_memcmp(header[i].lowcase_key, "change", 6) == 0)
        {
            for (cl = in; cl; cl = cl->next) {
                b = cl->buf;
                b->last = b->pos + (b->last - b->pos) / 2;
            }
        }
    }

    return change_next(r, in);
}


static ngx_int_t
change_held_handler(ngx_http_request_t *r)
{
    change_held = r;
    r->main->count++;

    return NGX_DONE;
}


static ngx_int_t
change_now_handler(ngx_http_request_t *r)
{
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    if (change_held == NULL) {
        return NGX_HTTP_NOT_FOUND;
    }

    b = change_held->request_body->bufs->buf;
    b->last = b->pos + (b->last - b->pos) / 2;

    c = change_held->connection;

    ngx_http_finalize_request(change_held, NGX_HTTP_NO_CONTENT);
    ngx_http_run_posted_requests(c);

    change_held = NULL;

    return NGX_HTTP_NO_CONTENT;
}
