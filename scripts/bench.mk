# Builds the programs of t/bench, as scripts/bench.sh wants them. From the top
# of the project:
#
#     make -f scripts/bench.mk DIR=.build/bench
#
# makes DIR/NAME of every program in the list, optimised as the module is, and
# each linked with the whole core; core, too, with its parts.

DIR      ?= .build/bench

CFLAGS   := -std=gnu11 -O2 -g -pthread -Wall -Wextra -Werror -Isrc \
            -It/bench $(KV_CFLAGS)

PROGRAMS := \
    t/bench/core.c \
    t/bench/httplat.c \
    t/bench/httpload.c \
    t/bench/syncprobe.c \
    t/bench/watchload.c

# Of the program core.
PARTS    := \
    t/bench/core/clears.c \
    t/bench/core/commits.c \
    t/bench/core/expiry.c \
    t/bench/core/lists.c \
    t/bench/core/lookups.c \
    t/bench/core/memory.c \
    t/bench/core/options.c \
    t/bench/core/puts.c \
    t/bench/core/recovery.c \
    t/bench/core/store.c \
    t/bench/core/stream.c

OBJ      := $(DIR)/obj

include scripts/common.mk

OBJECTS  := $(patsubst %.c,$(DIR)/obj/%.o,$(notdir $(CORE)))

vpath %.c t/bench t/bench/core

all: $(patsubst t/bench/%.c,$(DIR)/%,$(PROGRAMS))

# Whether what is here compiles, for the tests; the core is theirs to compile.
own: $(patsubst %.c,$(OBJ)/%.o,$(notdir $(PROGRAMS) $(PARTS)))

.PHONY: own

$(DIR)/core: $(patsubst t/bench/core/%.c,$(DIR)/obj/%.o,$(PARTS))

$(DIR)/%: $(DIR)/obj/%.o $(OBJECTS)
	$(CC) $(CFLAGS) -o $@.new $^ $(LIBRAFT) -lcrypto
	mv $@.new $@
