ir/warnings/src/http/ngx_http_kv_page.read: src/http/ngx_http_kv_page.c
