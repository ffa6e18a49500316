ir/warnings/src/http/ngx_http_kv_keys_entry.read: \
  src/http/ngx_http_kv_keys_entry.c
