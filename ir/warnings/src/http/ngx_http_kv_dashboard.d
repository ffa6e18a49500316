ir/warnings/src/http/ngx_http_kv_dashboard.read: \
  src/http/ngx_http_kv_dashboard.c
