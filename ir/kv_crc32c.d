ir/kv_crc32c.o: src/base/kv_crc32c.c src/base/kv_crc32c.h \
  src/base/kv_base.h

src/base/kv_crc32c.h:

src/base/kv_base.h:
