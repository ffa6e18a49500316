ir/warnings/src/http/ngx_http_kv_keys_args.read: \
  src/http/ngx_http_kv_keys_args.c
