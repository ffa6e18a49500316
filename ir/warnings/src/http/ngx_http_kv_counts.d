ir/warnings/src/http/ngx_http_kv_counts.read: \
  src/http/ngx_http_kv_counts.c
