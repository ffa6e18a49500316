ir/warnings/src/http/ngx_http_kv_metrics.read: \
  src/http/ngx_http_kv_metrics.c
