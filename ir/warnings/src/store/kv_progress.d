ir/warnings/src/store/kv_progress.read: src/store/kv_progress.c
