ir/kv_poison.o: src/memory/kv_poison.c src/memory/kv_poison.h \
  src/base/kv_base.h

src/memory/kv_poison.h:

src/base/kv_base.h:
