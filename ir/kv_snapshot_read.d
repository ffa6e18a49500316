ir/kv_snapshot_read.o: src/disk/kv_snapshot_read.c \
  src/base/kv_crc32c.h src/base/kv_base.h src/disk/kv_snapshot_private.h \
  src/disk/kv_snapshot.h src/disk/kv_io.h src/disk/kv_record.h \
  src/base/kv_opcode.h src/disk/kv_format.h

src/base/kv_crc32c.h:

src/base/kv_base.h:

src/disk/kv_snapshot_private.h:

src/disk/kv_snapshot.h:

src/disk/kv_io.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:
