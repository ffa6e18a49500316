ir/kv_measure.o: src/base/kv_measure.c src/base/kv_measure.h \
  src/base/kv_base.h

src/base/kv_measure.h:

src/base/kv_base.h:
