ir/kv_snapshot_write.o: src/disk/kv_snapshot_write.c \
  src/base/kv_crc32c.h src/base/kv_base.h src/base/kv_failpoint.h \
  src/base/kv_mmap.h src/disk/kv_snapshot_private.h \
  src/disk/kv_snapshot.h src/disk/kv_io.h src/disk/kv_record.h \
  src/base/kv_opcode.h src/disk/kv_format.h

src/base/kv_crc32c.h:

src/base/kv_base.h:

src/base/kv_failpoint.h:

src/base/kv_mmap.h:

src/disk/kv_snapshot_private.h:

src/disk/kv_snapshot.h:

src/disk/kv_io.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:
