ir/warnings/src/base/kv_failpoint.read: src/base/kv_failpoint.c
