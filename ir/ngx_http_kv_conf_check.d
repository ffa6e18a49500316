ir/ngx_http_kv_conf_check.o: src/http/ngx_http_kv_conf_check.c
