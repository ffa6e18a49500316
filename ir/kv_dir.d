ir/kv_dir.o: src/disk/kv_dir.c src/disk/kv_dir_private.h \
  src/disk/kv_dir.h src/disk/kv_io.h src/base/kv_base.h \
  src/disk/kv_path.h

src/disk/kv_dir_private.h:

src/disk/kv_dir.h:

src/disk/kv_io.h:

src/base/kv_base.h:

src/disk/kv_path.h:
