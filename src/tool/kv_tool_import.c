
/*
 * kv-inspect import: makes a directory of what another key-value store holds;
 * see kv_tool_source.h.
 */


#include "base/kv_number.h"
#include "tool/kv_tool_args.h"
#include "tool/kv_tool_source.h"


static bool kv_tool_import_options(kv_tool_import_t *import, int argc,
    char **argv);
static bool kv_tool_import_chars(kv_tool_import_t *import, const char *text);
static bool kv_tool_import_db(kv_tool_import_t *import, const char *text);


kv_tool_exit_t
kv_tool_import(int argc, char **argv)
{
    kv_rc_t            rc;
    uint64_t           n;
    kv_tool_exit_t     code;
    kv_tool_import_t   import;

    memset(&import, 0, sizeof(import));

    if (!kv_tool_import_options(&import, argc, argv)) {
        return KV_TOOL_FAILED;
    }

    rc = strcmp(import.kind, "lkv") == 0 ? kv_tool_import_lkv(&import)
                                         : kv_tool_import_redis(&import);
    kv_tool_progress_end();

    if (rc != KV_OK) {
        code = import.make.writer ? kv_tool_make_abort(&import.make)
                                  : KV_TOOL_FAILED;
        return rc == KV_DAMAGED ? KV_TOOL_DAMAGE : code;
    }

    n = import.make.n;
    code = kv_tool_make_finish(&import.make);

    if (code == KV_TOOL_GOOD) {
        (void) printf("%llu keys are in \"%s\" now", (unsigned long long) n,
                      import.path);

        if (import.skipped) {
            (void) printf("; %llu were left out",
                          (unsigned long long) import.skipped);
        }

        (void) putchar('\n');
    }

    return code;
}


static bool
kv_tool_import_options(kv_tool_import_t *import, int argc, char **argv)
{
    bool         lkv;
    const char  *db, *chars, *skip;

    const kv_tool_arg_t  args[] = {
        { KV_TOOL_OPERAND, "a directory", &import->path },
        { KV_TOOL_OPTIONAL, "the source", &import->source },
        { KV_TOOL_VALUE, "--from", &import->kind },
        { KV_TOOL_VALUE, "--db", &db },
        { KV_TOOL_VALUE, "--key-chars", &chars },
        { KV_TOOL_FLAG, "--skip", &skip },
        { KV_TOOL_OPERAND, NULL, NULL }
    };

    db = NULL;
    chars = NULL;
    skip = NULL;

    if (!kv_tool_args(argc, argv, args)) {
        return false;
    }

    import->skip = skip != NULL;

    if (import->kind == NULL) {
        (void) kv_tool_usage("import: --from lkv or --from redis is missing");
        return false;
    }

    lkv = strcmp(import->kind, "lkv") == 0;

    if (!lkv && strcmp(import->kind, "redis") != 0) {
        (void) kv_tool_usage("import: --from takes \"lkv\" or \"redis\", not "
                             "\"%s\"", import->kind);
        return false;
    }

    if (lkv && import->source == NULL) {
        (void) kv_tool_usage("import: the directory of that server is "
                             "missing: import %s --from lkv SOURCE",
                             import->path);
        return false;
    }

    if (lkv && db) {
        (void) kv_tool_usage("import: --db is for --from redis");
        return false;
    }

    return (chars == NULL || kv_tool_import_chars(import, chars))
           && (db == NULL || kv_tool_import_db(import, db));
}


static bool
kv_tool_import_chars(kv_tool_import_t *import, const char *text)
{
    if (strcmp(text, "safe") != 0 && strcmp(text, "any") != 0) {
        (void) kv_tool_usage("import: --key-chars takes \"safe\" or \"any\", "
                             "not \"%s\"", text);
        return false;
    }

    import->chars = text[0] == 'a' ? KV_KEY_ANY : KV_KEY_SAFE;

    return true;
}


static bool
kv_tool_import_db(kv_tool_import_t *import, const char *text)
{
    int64_t  db;

    if (!kv_number_parse(text, strlen(text), &db) || db < 0 || db > INT32_MAX) {
        (void) kv_tool_usage("import: --db takes the number of a database, "
                             "not \"%s\"", text);
        return false;
    }

    import->db = (unsigned) db;

    return true;
}
