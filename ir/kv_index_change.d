ir/kv_index_change.o: src/index/kv_index_change.c \
  src/index/kv_index_private.h src/index/kv_index.h \
  src/memory/kv_epoch.h src/memory/kv_worker.h src/memory/kv_entry.h \
  src/memory/kv_heap.h src/base/kv_base.h src/base/kv_mutex.h \
  src/base/kv_opcode.h

src/index/kv_index_private.h:

src/index/kv_index.h:

src/memory/kv_epoch.h:

src/memory/kv_worker.h:

src/memory/kv_entry.h:

src/memory/kv_heap.h:

src/base/kv_base.h:

src/base/kv_mutex.h:

src/base/kv_opcode.h:
