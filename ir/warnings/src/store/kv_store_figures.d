ir/warnings/src/store/kv_store_figures.read: src/store/kv_store_figures.c
