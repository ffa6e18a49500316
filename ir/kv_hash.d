ir/kv_hash.o: src/base/kv_hash.c src/base/kv_hash.h \
  src/base/kv_base.h

src/base/kv_hash.h:

src/base/kv_base.h:
