ir/warnings/src/base/kv_crc32c.read: src/base/kv_crc32c.c
