# Builds the programs of t/bench, as scripts/bench.sh wants them. From the top
# of the project:
#
#     make -f scripts/bench.mk DIR=.build/bench
#
# makes DIR/NAME of every t/bench/NAME.c, optimised as the module is, and each
# linked with the whole core; core, too, with its parts, t/bench/core/*.c.

DIR      ?= .build/bench

CFLAGS   := -std=gnu11 -O2 -g -pthread -Wall -Wextra -Werror -Isrc \
            -It/bench $(KV_CFLAGS)

PROGRAMS := $(basename $(notdir $(wildcard t/bench/*.c)))

OBJ      := $(DIR)/obj

include scripts/common.mk

OBJECTS  := $(patsubst %.c,$(DIR)/obj/%.o,$(notdir $(CORE)))
PARTS    := clears commits lookups memory options puts recovery store stream

vpath %.c t/bench t/bench/core

all: $(addprefix $(DIR)/,$(PROGRAMS))

$(DIR)/core: $(addprefix $(DIR)/obj/,$(addsuffix .o,$(PARTS)))

$(DIR)/%: $(DIR)/obj/%.o $(OBJECTS)
	$(CC) $(CFLAGS) -o $@.new $^
	mv $@.new $@
