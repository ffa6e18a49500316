ir/kv_entry.o: src/memory/kv_entry.c src/memory/kv_entry.h \
  src/memory/kv_heap.h src/base/kv_base.h

src/memory/kv_entry.h:

src/memory/kv_heap.h:

src/base/kv_base.h:
