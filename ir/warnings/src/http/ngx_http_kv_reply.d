ir/warnings/src/http/ngx_http_kv_reply.read: src/http/ngx_http_kv_reply.c
