ir/fuzz_line.o: t/fuzz/fuzz_line.c t/fuzz/fuzz.h \
  src/disk/kv_record.h src/base/kv_opcode.h src/disk/kv_format.h \
  src/base/kv_base.h src/base/kv_key.h src/lines/kv_line.h

t/fuzz/fuzz.h:

src/disk/kv_record.h:

src/base/kv_opcode.h:

src/disk/kv_format.h:

src/base/kv_base.h:

src/base/kv_key.h:

src/lines/kv_line.h:
