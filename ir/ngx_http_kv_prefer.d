ir/ngx_http_kv_prefer.o: src/http/ngx_http_kv_prefer.c
