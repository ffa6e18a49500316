ir/warnings/src/store/kv_handle.read: src/store/kv_handle.c
