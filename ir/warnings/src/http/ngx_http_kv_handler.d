ir/warnings/src/http/ngx_http_kv_handler.read: \
  src/http/ngx_http_kv_handler.c
