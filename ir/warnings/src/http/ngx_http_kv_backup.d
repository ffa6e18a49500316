ir/warnings/src/http/ngx_http_kv_backup.read: \
  src/http/ngx_http_kv_backup.c
