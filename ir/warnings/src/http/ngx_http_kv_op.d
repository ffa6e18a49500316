ir/warnings/src/http/ngx_http_kv_op.read: src/http/ngx_http_kv_op.c
