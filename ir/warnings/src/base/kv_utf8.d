ir/warnings/src/base/kv_utf8.read: src/base/kv_utf8.c
