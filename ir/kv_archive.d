ir/kv_archive.o: src/disk/kv_archive.c src/disk/kv_archive.h \
  src/disk/kv_backup.h src/disk/kv_backup_format.h src/disk/kv_format.h \
  src/base/kv_base.h src/disk/kv_io.h src/disk/kv_snapshot_private.h \
  src/base/kv_crc32c.h src/disk/kv_snapshot.h src/disk/kv_record.h \
  src/base/kv_opcode.h src/disk/kv_wal_private.h src/disk/kv_direct.h \
  src/disk/kv_wal.h src/disk/kv_wal_walk.h

src/disk/kv_archive.h:

src/disk/kv_backup.h:

src/disk/kv_backup_format.h:

src/disk/kv_format.h:

src/base/kv_base.h:

src/disk/kv_io.h:

src/disk/kv_snapshot_private.h:

src/base/kv_crc32c.h:

src/disk/kv_snapshot.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_wal_private.h:

src/disk/kv_direct.h:

src/disk/kv_wal.h:

src/disk/kv_wal_walk.h:
