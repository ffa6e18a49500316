ir/kv_heap.o: src/memory/kv_heap.c src/memory/kv_heap_private.h \
  src/base/kv_mutex.h src/base/kv_base.h src/memory/kv_heap.h \
  src/base/kv_failpoint.h src/memory/kv_poison.h

src/memory/kv_heap_private.h:

src/base/kv_mutex.h:

src/base/kv_base.h:

src/memory/kv_heap.h:

src/base/kv_failpoint.h:

src/memory/kv_poison.h:
