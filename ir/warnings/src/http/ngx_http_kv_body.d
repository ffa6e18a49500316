ir/warnings/src/http/ngx_http_kv_body.read: src/http/ngx_http_kv_body.c
