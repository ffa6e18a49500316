ir/warnings/src/http/ngx_http_kv_await.read: src/http/ngx_http_kv_await.c
