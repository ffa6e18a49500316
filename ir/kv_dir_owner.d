ir/kv_dir_owner.o: src/disk/kv_dir_owner.c \
  src/disk/kv_dir_private.h src/disk/kv_dir.h src/disk/kv_io.h \
  src/base/kv_base.h

src/disk/kv_dir_private.h:

src/disk/kv_dir.h:

src/disk/kv_io.h:

src/base/kv_base.h:
