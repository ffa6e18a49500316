ir/warnings/src/http/ngx_http_kv_worker.read: \
  src/http/ngx_http_kv_worker.c
