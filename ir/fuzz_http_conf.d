ir/fuzz_http_conf.o: t/fuzz/fuzz_http_conf.c t/fuzz/ngx.h \
  t/fuzz/fuzz.h

t/fuzz/ngx.h:

t/fuzz/fuzz.h:
