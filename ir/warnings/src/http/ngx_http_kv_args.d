ir/warnings/src/http/ngx_http_kv_args.read: src/http/ngx_http_kv_args.c
