ir/kv_backup_restore.o: src/disk/kv_backup_restore.c \
  src/disk/kv_backup_private.h src/base/kv_crc32c.h src/base/kv_base.h \
  src/disk/kv_backup.h src/disk/kv_backup_format.h src/disk/kv_format.h \
  src/disk/kv_io.h src/disk/kv_wal_walk.h src/disk/kv_wal.h \
  src/disk/kv_record.h src/base/kv_opcode.h src/disk/kv_dir_private.h \
  src/disk/kv_dir.h

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

src/disk/kv_dir_private.h:

src/disk/kv_dir.h:
