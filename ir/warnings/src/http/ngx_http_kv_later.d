ir/warnings/src/http/ngx_http_kv_later.read: src/http/ngx_http_kv_later.c
