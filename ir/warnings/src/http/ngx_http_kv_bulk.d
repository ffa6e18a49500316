ir/warnings/src/http/ngx_http_kv_bulk.read: src/http/ngx_http_kv_bulk.c
