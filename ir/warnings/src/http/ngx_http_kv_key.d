ir/warnings/src/http/ngx_http_kv_key.read: src/http/ngx_http_kv_key.c
