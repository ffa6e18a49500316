ir/kv_number.o: src/base/kv_number.c src/base/kv_number.h \
  src/base/kv_base.h

src/base/kv_number.h:

src/base/kv_base.h:
