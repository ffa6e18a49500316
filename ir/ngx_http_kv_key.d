ir/ngx_http_kv_key.o: src/http/ngx_http_kv_key.c
