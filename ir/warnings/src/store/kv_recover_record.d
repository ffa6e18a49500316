ir/warnings/src/store/kv_recover_record.read: \
  src/store/kv_recover_record.c
