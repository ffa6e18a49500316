ir/kv_direct.o: src/disk/kv_direct.c src/disk/kv_direct.h \
  src/disk/kv_io.h src/base/kv_base.h

src/disk/kv_direct.h:

src/disk/kv_io.h:

src/base/kv_base.h:
