ir/warnings/src/http/ngx_http_kv_condition.read: \
  src/http/ngx_http_kv_condition.c
