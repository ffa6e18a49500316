ir/warnings/src/http/ngx_http_kv_conf_params.read: \
  src/http/ngx_http_kv_conf_params.c
