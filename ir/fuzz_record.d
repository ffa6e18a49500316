ir/fuzz_record.o: t/fuzz/fuzz_record.c t/fuzz/fuzz.h \
  src/disk/kv_record.h src/base/kv_opcode.h src/disk/kv_format.h \
  src/base/kv_base.h

t/fuzz/fuzz.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:

src/base/kv_base.h:
