ir/warnings/src/http/ngx_http_kv_text.read: src/http/ngx_http_kv_text.c
