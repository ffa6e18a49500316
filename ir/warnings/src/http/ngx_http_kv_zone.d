ir/warnings/src/http/ngx_http_kv_zone.read: src/http/ngx_http_kv_zone.c
