ir/warnings/src/base/kv_number.read: src/base/kv_number.c
