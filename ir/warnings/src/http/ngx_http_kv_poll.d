ir/warnings/src/http/ngx_http_kv_poll.read: src/http/ngx_http_kv_poll.c
