ir/warnings/src/http/ngx_http_kv_conf_check.read: \
  src/http/ngx_http_kv_conf_check.c
