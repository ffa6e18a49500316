ir/kv_line.o: src/lines/kv_line.c src/base/kv_key.h \
  src/base/kv_base.h src/base/kv_utf8.h src/lines/kv_line.h

src/base/kv_key.h:

src/base/kv_base.h:

src/base/kv_utf8.h:

src/lines/kv_line.h:
