ir/kv_missing.o: src/store/kv_missing.c src/store/kv_missing.h \
  src/base/kv_base.h

src/store/kv_missing.h:

src/base/kv_base.h:
