ir/kv_key.o: src/base/kv_key.c src/base/kv_key.h \
  src/base/kv_base.h

src/base/kv_key.h:

src/base/kv_base.h:
