ir/kv_io.o: src/disk/kv_io.c src/disk/kv_io.h src/base/kv_base.h

src/disk/kv_io.h:

src/base/kv_base.h:
