ir/kv_store_dir.o: src/store/kv_store_dir.c \
  src/store/kv_store_dir.h src/disk/kv_dir.h src/disk/kv_io.h \
  src/base/kv_base.h

src/store/kv_store_dir.h:

src/disk/kv_dir.h:

src/disk/kv_io.h:

src/base/kv_base.h:
