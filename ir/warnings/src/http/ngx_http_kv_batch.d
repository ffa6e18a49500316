ir/warnings/src/http/ngx_http_kv_batch.read: src/http/ngx_http_kv_batch.c
