ir/fuzz_log.o: t/fuzz/fuzz_log.c t/fuzz/fuzz.h \
  src/disk/kv_record.h src/base/kv_opcode.h src/disk/kv_format.h \
  src/base/kv_base.h src/base/kv_crc32c.h src/disk/kv_wal.h \
  src/disk/kv_io.h t/unit/ram.h

t/fuzz/fuzz.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:

src/base/kv_base.h:

src/base/kv_crc32c.h:

src/disk/kv_wal.h:

src/disk/kv_io.h:

t/unit/ram.h:
