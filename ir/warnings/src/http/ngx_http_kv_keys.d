ir/warnings/src/http/ngx_http_kv_keys.read: src/http/ngx_http_kv_keys.c
