ir/warnings/ngx_http_kv_module.read: ngx_http_kv_module.c
