ir/kv_path.o: src/disk/kv_path.c src/disk/kv_path.h \
  src/base/kv_base.h

src/disk/kv_path.h:

src/base/kv_base.h:
