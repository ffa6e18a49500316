ir/kv_io_system.o: src/disk/kv_io_system.c src/base/kv_hash.h \
  src/base/kv_base.h src/disk/kv_io.h

src/base/kv_hash.h:

src/base/kv_base.h:

src/disk/kv_io.h:
