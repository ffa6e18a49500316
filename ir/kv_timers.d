ir/kv_timers.o: src/memory/kv_timers.c src/memory/kv_timers.h \
  src/memory/kv_entry.h src/memory/kv_heap.h src/base/kv_base.h

src/memory/kv_timers.h:

src/memory/kv_entry.h:

src/memory/kv_heap.h:

src/base/kv_base.h:
