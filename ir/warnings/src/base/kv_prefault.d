ir/warnings/src/base/kv_prefault.read: src/base/kv_prefault.c
