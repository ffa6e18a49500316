ir/kv_prefault.o: src/base/kv_prefault.c src/base/kv_prefault.h \
  src/base/kv_base.h

src/base/kv_prefault.h:

src/base/kv_base.h:
