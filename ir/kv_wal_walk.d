ir/kv_wal_walk.o: src/disk/kv_wal_walk.c \
  src/disk/kv_wal_reader.h src/disk/kv_wal_private.h \
  src/disk/kv_direct.h src/disk/kv_io.h src/base/kv_base.h \
  src/disk/kv_wal.h src/disk/kv_record.h src/base/kv_opcode.h \
  src/disk/kv_format.h src/disk/kv_wal_walk.h

src/disk/kv_wal_reader.h:

src/disk/kv_wal_private.h:

src/disk/kv_direct.h:

src/disk/kv_io.h:

src/base/kv_base.h:

src/disk/kv_wal.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:

src/disk/kv_wal_walk.h:
