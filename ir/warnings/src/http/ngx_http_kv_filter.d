ir/warnings/src/http/ngx_http_kv_filter.read: \
  src/http/ngx_http_kv_filter.c
