
/*
 * The command line of a command: its options and its operands, which may stand
 * in any order.  "--" ends the options.  The value of an option is behind a
 * "=", or the next argument.
 */


#ifndef KV_TOOL_ARGS_H
#define KV_TOOL_ARGS_H


#include "base/kv_base.h"


typedef enum {
    KV_TOOL_OPERAND = 0,
    KV_TOOL_OPTIONAL,                /* an operand that may be missing */
    KV_TOOL_FLAG,                    /* an option without a value */
    KV_TOOL_VALUE                    /* one that needs a value */
} kv_tool_arg_kind_t;


typedef struct {
    kv_tool_arg_kind_t   kind;
    const char          *name;       /* "--from"; what an operand is */
    const char         **value;      /* gets what was given; of a flag, its
                                        name; NULL before */
} kv_tool_arg_t;


/*
 * Reads the arguments behind argv[0], which is the command's name.  `args` are
 * those that it takes, the last one without a name, and its operands in their
 * order.  False, and it was told: something is missing, unknown, empty, given
 * twice, or too much.
 */
bool kv_tool_args(int argc, char **argv, const kv_tool_arg_t *args);

/* The same of a command that takes one operand and no option.  NULL: told. */
const char *kv_tool_operand(int argc, char **argv, const char *what);

/* Whether help is asked for among the options. */
bool kv_tool_args_help(int argc, char **argv);


#endif /* KV_TOOL_ARGS_H */
