ir/warnings/src/http/ngx_http_kv_dashboard_page.read: \
  src/http/ngx_http_kv_dashboard_page.c
