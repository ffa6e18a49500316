ir/warnings/src/http/ngx_http_kv_wait.read: src/http/ngx_http_kv_wait.c
