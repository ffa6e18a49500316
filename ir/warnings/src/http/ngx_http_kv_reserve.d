ir/warnings/src/http/ngx_http_kv_reserve.read: \
  src/http/ngx_http_kv_reserve.c
