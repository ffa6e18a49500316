ir/kv_version.o: src/store/kv_version.c src/store/kv_version.h \
  src/base/kv_base.h

src/store/kv_version.h:

src/base/kv_base.h:
