ir/warnings/src/memory/kv_heap.read: src/memory/kv_heap.c
