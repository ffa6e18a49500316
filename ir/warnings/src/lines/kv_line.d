ir/warnings/src/lines/kv_line.read: src/lines/kv_line.c
