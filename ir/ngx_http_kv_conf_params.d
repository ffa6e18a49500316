ir/ngx_http_kv_conf_params.o: src/http/ngx_http_kv_conf_params.c
