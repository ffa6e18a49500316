ir/warnings/src/store/kv_queue.read: src/store/kv_queue.c
