ir/kv_wal_write.o: src/disk/kv_wal_write.c src/base/kv_crc32c.h \
  src/base/kv_base.h src/disk/kv_wal_private.h src/disk/kv_direct.h \
  src/disk/kv_io.h src/disk/kv_wal.h src/disk/kv_record.h \
  src/base/kv_opcode.h src/disk/kv_format.h

src/base/kv_crc32c.h:

src/base/kv_base.h:

src/disk/kv_wal_private.h:

src/disk/kv_direct.h:

src/disk/kv_io.h:

src/disk/kv_wal.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:
