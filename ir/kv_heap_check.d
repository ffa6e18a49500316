ir/kv_heap_check.o: src/memory/kv_heap_check.c \
  src/memory/kv_heap_private.h src/base/kv_mutex.h src/base/kv_base.h \
  src/memory/kv_heap.h

src/memory/kv_heap_private.h:

src/base/kv_mutex.h:

src/base/kv_base.h:

src/memory/kv_heap.h:
