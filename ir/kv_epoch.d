ir/kv_epoch.o: src/memory/kv_epoch.c src/memory/kv_epoch.h \
  src/memory/kv_worker.h src/memory/kv_entry.h src/memory/kv_heap.h \
  src/base/kv_base.h src/base/kv_mutex.h src/base/kv_opcode.h \
  src/base/kv_failpoint.h

src/memory/kv_epoch.h:

src/memory/kv_worker.h:

src/memory/kv_entry.h:

src/memory/kv_heap.h:

src/base/kv_base.h:

src/base/kv_mutex.h:

src/base/kv_opcode.h:

src/base/kv_failpoint.h:
