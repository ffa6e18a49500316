ir/kv_record.o: src/disk/kv_record.c src/disk/kv_record.h \
  src/base/kv_opcode.h src/disk/kv_format.h src/base/kv_base.h

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:

src/base/kv_base.h:
