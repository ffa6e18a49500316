
/*
 * The command line of a command; see kv_tool_args.h.
 */


#include "tool/kv_tool.h"
#include "tool/kv_tool_args.h"


static bool kv_tool_args_option(char **argv, int *i,
    const kv_tool_arg_t *args);
static bool kv_tool_args_operand(char **argv, int i,
    const kv_tool_arg_t *args);
static bool kv_tool_args_missing(const char *command,
    const kv_tool_arg_t *args);


bool
kv_tool_args(int argc, char **argv, const kv_tool_arg_t *args)
{
    int   i;
    bool  options;

    options = true;

    for (i = 1; i < argc; i++) {

        if (options && strcmp(argv[i], "--") == 0) {
            options = false;

        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            if (!kv_tool_args_option(argv, &i, args)) {
                return false;
            }

        } else if (!kv_tool_args_operand(argv, i, args)) {
            return false;
        }
    }

    return !kv_tool_args_missing(argv[0], args);
}


/* argv[*i], and what is behind it if that is its value. */

static bool
kv_tool_args_option(char **argv, int *i, const kv_tool_arg_t *args)
{
    size_t       n;
    const char  *text, *value;

    text = argv[*i];
    n = strcspn(text, "=");

    for ( /* void */ ; args->name; args++) {
        if (args->kind >= KV_TOOL_FLAG && strlen(args->name) == n
            && memcmp(args->name, text, n) == 0)
        {
            break;
        }
    }

    if (args->name == NULL) {
        (void) kv_tool_usage("%s: unknown option \"%s\"", argv[0], text);
        return false;
    }

    if (*args->value) {
        (void) kv_tool_usage("%s: %s is given twice", argv[0], args->name);
        return false;
    }

    if (args->kind == KV_TOOL_FLAG) {

        if (text[n]) {
            (void) kv_tool_usage("%s: %s takes no value", argv[0], args->name);
            return false;
        }

        *args->value = args->name;
        return true;
    }

    value = text[n] ? text + n + 1 : argv[++*i];

    if (value == NULL || value[0] == '\0') {
        (void) kv_tool_usage("%s: %s needs a value", argv[0], args->name);
        return false;
    }

    *args->value = value;

    return true;
}


static bool
kv_tool_args_operand(char **argv, int i, const kv_tool_arg_t *args)
{
    const char  *last;

    for (last = NULL; args->name; args++) {

        if (args->kind > KV_TOOL_OPTIONAL) {
            continue;
        }

        last = args->name;

        if (*args->value) {
            continue;
        }

        /* a variable of a script that is not set, most likely */

        if (argv[i][0] == '\0') {
            (void) kv_tool_usage("%s: %s is missing: \"\" is no name", argv[0],
                                 args->name);
            return false;
        }

        *args->value = argv[i];
        return true;
    }

    (void) kv_tool_usage("%s: \"%s\" is too much, behind %s", argv[0], argv[i],
                         last);

    return false;
}


static bool
kv_tool_args_missing(const char *command, const kv_tool_arg_t *args)
{
    for ( /* void */ ; args->name; args++) {
        if (args->kind == KV_TOOL_OPERAND && *args->value == NULL) {
            (void) kv_tool_usage("%s: %s is missing", command, args->name);
            return true;
        }
    }

    return false;
}


const char *
kv_tool_operand(int argc, char **argv, const char *what)
{
    const char           *path;
    const kv_tool_arg_t   args[] = {
        { KV_TOOL_OPERAND, what, &path },
        { KV_TOOL_OPERAND, NULL, NULL }
    };

    path = NULL;

    return kv_tool_args(argc, argv, args) ? path : NULL;
}


bool
kv_tool_args_help(int argc, char **argv)
{
    int  i;

    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }

    return false;
}
