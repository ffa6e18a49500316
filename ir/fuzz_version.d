ir/fuzz_version.o: t/fuzz/fuzz_version.c t/fuzz/fuzz.h \
  src/disk/kv_record.h src/base/kv_opcode.h src/disk/kv_format.h \
  src/base/kv_base.h src/store/kv_version.h

t/fuzz/fuzz.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:

src/base/kv_base.h:

src/store/kv_version.h:
