ir/fuzz_http_prefer.o: t/fuzz/fuzz_http_prefer.c t/fuzz/ngx.h \
  t/fuzz/fuzz.h

t/fuzz/ngx.h:

t/fuzz/fuzz.h:
