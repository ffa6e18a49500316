ir/warnings/src/memory/kv_worker.read: src/memory/kv_worker.c
