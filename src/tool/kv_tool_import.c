
/*
 * kv-inspect import: makes a directory of what another key-value store holds;
 * see kv_tool_source.h.
 */


#include "base/kv_number.h"
#include "tool/kv_tool_source.h"


static kv_rc_t kv_tool_import_options(kv_tool_import_t *import, int argc,
    char **argv);
static kv_rc_t kv_tool_import_option(kv_tool_import_t *import,
    const char *name, const char *value);


kv_tool_exit_t
kv_tool_import(int argc, char **argv)
{
    kv_rc_t            rc;
    uint64_t           n;
    kv_tool_exit_t     code;
    kv_tool_import_t   import;

    memset(&import, 0, sizeof(import));

    if (kv_tool_import_options(&import, argc, argv) != KV_OK) {
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


static kv_rc_t
kv_tool_import_options(kv_tool_import_t *import, int argc, char **argv)
{
    int  i;

    for (i = 1; i < argc; i++) {

        if (strcmp(argv[i], "--skip") == 0) {
            import->skip = true;

        } else if (strcmp(argv[i], "--from") == 0
                   || strcmp(argv[i], "--db") == 0
                   || strcmp(argv[i], "--key-chars") == 0)
        {
            if (kv_tool_import_option(import, argv[i],
                                      i + 1 < argc ? argv[i + 1] : "")
                != KV_OK)
            {
                return KV_ERROR;
            }

            i++;

        } else if (argv[i][0] == '-' && argv[i][1]) {
            (void) kv_tool_usage("import: unknown option \"%s\"", argv[i]);
            return KV_ERROR;

        } else if (import->path == NULL && argv[i][0]) {
            import->path = argv[i];

        } else if (import->source == NULL && argv[i][0]) {
            import->source = argv[i];

        } else {
            (void) kv_tool_usage("import: \"%s\" is too much", argv[i]);
            return KV_ERROR;
        }
    }

    if (import->path == NULL || import->kind == NULL) {
        (void) kv_tool_usage("import: %s is missing", import->path
                             ? "--from lkv or --from redis" : "a directory");
        return KV_ERROR;
    }

    if (import->source == NULL && strcmp(import->kind, "lkv") == 0) {
        (void) kv_tool_usage("import: the directory of that server is "
                             "missing: import %s --from lkv SOURCE",
                             import->path);
        return KV_ERROR;
    }

    return KV_OK;
}


static kv_rc_t
kv_tool_import_option(kv_tool_import_t *import, const char *name,
    const char *value)
{
    int64_t  db;

    if (strcmp(name, "--db") == 0) {

        if (!kv_number_parse(value, strlen(value), &db) || db < 0
            || db > INT32_MAX)
        {
            (void) kv_tool_usage("import: --db takes the number of a "
                                 "database, not \"%s\"", value);
            return KV_ERROR;
        }

        import->db = (unsigned) db;
        return KV_OK;
    }

    if (strcmp(name, "--key-chars") == 0) {

        if (strcmp(value, "safe") != 0 && strcmp(value, "any") != 0) {
            (void) kv_tool_usage("import: --key-chars takes \"safe\" or "
                                 "\"any\", not \"%s\"", value);
            return KV_ERROR;
        }

        import->chars = value[0] == 'a' ? KV_KEY_ANY : KV_KEY_SAFE;
        return KV_OK;
    }

    if (strcmp(value, "lkv") != 0 && strcmp(value, "redis") != 0) {
        (void) kv_tool_usage("import: --from takes \"lkv\" or \"redis\", not "
                             "\"%s\"", value);
        return KV_ERROR;
    }

    import->kind = value;

    return KV_OK;
}
