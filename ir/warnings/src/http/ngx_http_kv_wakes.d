ir/warnings/src/http/ngx_http_kv_wakes.read: src/http/ngx_http_kv_wakes.c
