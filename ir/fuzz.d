ir/fuzz.o: t/fuzz/fuzz.c t/fuzz/fuzz.h src/disk/kv_record.h \
  src/base/kv_opcode.h src/disk/kv_format.h src/base/kv_base.h \
  src/base/kv_crc32c.h

t/fuzz/fuzz.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:

src/base/kv_base.h:

src/base/kv_crc32c.h:
