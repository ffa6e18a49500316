ir/kv_failpoint.o: src/base/kv_failpoint.c \
  src/base/kv_failpoint.h

src/base/kv_failpoint.h:
