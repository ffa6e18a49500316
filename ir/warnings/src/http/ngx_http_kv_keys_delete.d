ir/warnings/src/http/ngx_http_kv_keys_delete.read: \
  src/http/ngx_http_kv_keys_delete.c
