ir/warnings/src/base/kv_key.read: src/base/kv_key.c
