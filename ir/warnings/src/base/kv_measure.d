ir/warnings/src/base/kv_measure.read: src/base/kv_measure.c
