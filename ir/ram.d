ir/ram.o: t/unit/ram.c t/unit/ram.h src/disk/kv_io.h \
  src/base/kv_base.h

t/unit/ram.h:

src/disk/kv_io.h:

src/base/kv_base.h:
