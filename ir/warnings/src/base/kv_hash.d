ir/warnings/src/base/kv_hash.read: src/base/kv_hash.c
