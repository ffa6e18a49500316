ir/warnings/src/store/kv_store_list.read: src/store/kv_store_list.c
