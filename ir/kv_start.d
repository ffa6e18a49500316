ir/kv_start.o: src/disk/kv_start.c src/disk/kv_start.h \
  src/disk/kv_snapshot.h src/disk/kv_io.h src/base/kv_base.h \
  src/disk/kv_record.h src/base/kv_opcode.h src/disk/kv_format.h \
  src/disk/kv_wal.h

src/disk/kv_start.h:

src/disk/kv_snapshot.h:

src/disk/kv_io.h:

src/base/kv_base.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:

src/disk/kv_wal.h:
