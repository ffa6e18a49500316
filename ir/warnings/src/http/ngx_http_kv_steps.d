ir/warnings/src/http/ngx_http_kv_steps.read: src/http/ngx_http_kv_steps.c
