ir/warnings/src/store/kv_version.read: src/store/kv_version.c
