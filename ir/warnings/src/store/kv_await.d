ir/warnings/src/store/kv_await.read: src/store/kv_await.c
