ir/warnings/src/http/ngx_http_kv_prefer.read: \
  src/http/ngx_http_kv_prefer.c
