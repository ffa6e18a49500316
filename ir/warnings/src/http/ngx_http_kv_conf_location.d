ir/warnings/src/http/ngx_http_kv_conf_location.read: \
  src/http/ngx_http_kv_conf_location.c
