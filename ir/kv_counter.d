ir/kv_counter.o: src/store/kv_counter.c src/store/kv_counter.h \
  src/base/kv_number.h src/base/kv_base.h src/memory/kv_entry.h \
  src/memory/kv_heap.h

src/store/kv_counter.h:

src/base/kv_number.h:

src/base/kv_base.h:

src/memory/kv_entry.h:

src/memory/kv_heap.h:
