ir/warnings/src/http/ngx_http_kv_stats.read: src/http/ngx_http_kv_stats.c
