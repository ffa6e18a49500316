ir/warnings/src/http/ngx_http_kv_place.read: src/http/ngx_http_kv_place.c
