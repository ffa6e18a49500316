ir/kv_utf8.o: src/base/kv_utf8.c src/base/kv_utf8.h \
  src/base/kv_base.h

src/base/kv_utf8.h:

src/base/kv_base.h:
