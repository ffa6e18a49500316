# Builds the unit tests of the store core; scripts/test.sh runs them. From the
# top of the project:
#
#     make -f scripts/unit.mk DIR=.build/unit-asan SANITIZE=address,undefined
#
# makes DIR/test_NAME of every t/unit/test_NAME.c. Other files in t/unit are
# helpers. They and the core, which knows nothing of nginx, are one archive, of
# which each test is linked with what it uses.

DIR      ?= .build/unit-asan
SANITIZE ?= address,undefined
TESTS    ?= $(basename $(notdir $(wildcard t/unit/test_*.c)))

CFLAGS   := -std=gnu11 -O1 -g -fno-omit-frame-pointer -pthread \
            -Wall -Wextra -Werror -Isrc -It/unit -DKV_TEST_FAILPOINTS \
            -DKV_POISON $(if $(SANITIZE),-fsanitize=$(SANITIZE) \
            -fno-sanitize-recover=all) $(KV_CFLAGS)

OBJ      := $(DIR)

include scripts/common.mk

HELPERS  := $(filter-out t/unit/test_%,$(wildcard t/unit/*.c))
SHARED   := $(patsubst %.c,$(DIR)/%.o,$(notdir $(CORE) $(HELPERS)))

vpath %.c t/unit

all: $(addprefix $(DIR)/,$(TESTS))

$(DIR)/test_%: $(DIR)/test_%.o $(DIR)/shared.a
	$(CC) $(CFLAGS) -o $@.new $^ -lcmocka $(WRAP) $(KV_LDFLAGS)
	mv $@.new $@

$(DIR)/shared.a: $(SHARED)
	rm -f $@.new
	$(AR) rc $@.new $^
	mv $@.new $@

# Its allocations fail to order.
$(DIR)/test_allocations: WRAP = -Wl,--wrap=kv_heap_alloc,$\
    --wrap=kv_heap_alloc_leave,--wrap=malloc,--wrap=calloc,--wrap=realloc
