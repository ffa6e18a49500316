ir/ngx.o: t/fuzz/ngx.c t/fuzz/ngx.h t/fuzz/fuzz.h

t/fuzz/ngx.h:

t/fuzz/fuzz.h:
