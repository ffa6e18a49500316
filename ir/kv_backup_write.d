ir/kv_backup_write.o: src/disk/kv_backup_write.c \
  src/disk/kv_backup_private.h src/base/kv_crc32c.h src/base/kv_base.h \
  src/disk/kv_backup.h src/disk/kv_backup_format.h src/disk/kv_format.h \
  src/disk/kv_io.h src/disk/kv_wal_walk.h src/disk/kv_wal.h \
  src/disk/kv_record.h src/base/kv_opcode.h src/disk/kv_snapshot.h

src/disk/kv_backup_private.h:

src/base/kv_crc32c.h:

src/base/kv_base.h:

src/disk/kv_backup.h:

src/disk/kv_backup_format.h:

src/disk/kv_format.h:

src/disk/kv_io.h:

src/disk/kv_wal_walk.h:

src/disk/kv_wal.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_snapshot.h:
