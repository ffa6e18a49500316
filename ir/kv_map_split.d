ir/kv_map_split.o: src/memory/kv_map_split.c \
  src/memory/kv_map_private.h src/memory/kv_map.h src/base/kv_hash.h \
  src/base/kv_base.h src/memory/kv_epoch.h src/memory/kv_worker.h \
  src/memory/kv_entry.h src/memory/kv_heap.h src/base/kv_mutex.h \
  src/base/kv_opcode.h src/base/kv_failpoint.h

src/memory/kv_map_private.h:

src/memory/kv_map.h:

src/base/kv_hash.h:

src/base/kv_base.h:

src/memory/kv_epoch.h:

src/memory/kv_worker.h:

src/memory/kv_entry.h:

src/memory/kv_heap.h:

src/base/kv_mutex.h:

src/base/kv_opcode.h:

src/base/kv_failpoint.h:
