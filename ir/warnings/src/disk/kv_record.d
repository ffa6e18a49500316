ir/warnings/src/disk/kv_record.read: src/disk/kv_record.c
