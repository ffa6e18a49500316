ir/kv_snapshot_files.o: src/disk/kv_snapshot_files.c \
  src/disk/kv_snapshot_private.h src/base/kv_crc32c.h src/base/kv_base.h \
  src/disk/kv_snapshot.h src/disk/kv_io.h src/disk/kv_record.h \
  src/base/kv_opcode.h src/disk/kv_format.h

src/disk/kv_snapshot_private.h:

src/base/kv_crc32c.h:

src/base/kv_base.h:

src/disk/kv_snapshot.h:

src/disk/kv_io.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:
