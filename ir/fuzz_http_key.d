ir/fuzz_http_key.o: t/fuzz/fuzz_http_key.c t/fuzz/ngx.h \
  t/fuzz/fuzz.h

t/fuzz/ngx.h:

t/fuzz/fuzz.h:
