ir/warnings/src/http/ngx_http_kv_conf.read: src/http/ngx_http_kv_conf.c
