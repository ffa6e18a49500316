
/*
 * kv-inspect: looks into the directory of a kv_zone, and makes one; see
 * kv-inspect.1.  This is the table of its commands, and what it says of itself.
 */


#include <fcntl.h>
#include <unistd.h>

#include "disk/kv_format.h"
#include "tool/kv_tool.h"
#include "tool/kv_tool_args.h"


#ifndef KV_TOOL_VERSION
#define KV_TOOL_VERSION  "0.4"
#endif


#define KV_TOOL_BUFFER   (256u << 10)     /* bytes, of standard output */


typedef struct {
    const char      *name;
    const char      *operands;
    const char      *help;
    const char      *more;                /* its options; "": it has none */
    kv_tool_exit_t (*run)(int argc, char **argv);
} kv_tool_command_t;


static void kv_tool_open_all(void);
static void kv_tool_help(void);


static const kv_tool_command_t  commands[] = {

    { "check", "FILE|DIR", "reads all of it; says what is damaged, and what "
      "would be lost",
      "FILE is a backup, a snapshot or a segment of the log; DIR may be an "
      "archive.\n",
      kv_tool_check },

    { "stat", "DIR", "says what is there; reads no more than headers", "",
      kv_tool_stat },

    { "dump", "DIR", "prints all keys and values, as lines of JSON", "",
      kv_tool_dump },

    { "load", "DIR", "makes the directory, of lines as dump prints them, on "
      "standard input", "", kv_tool_load },

    { "log", "[--entries] [--follow] [--from LSN] DIR", "prints the records of "
      "the log, also of a directory in use",
      "--entries        prints batches, and what each is in a replicated log\n"
      "--follow, -f     goes on with the records that come, until it is "
      "ended\n"
      "--from LSN       begins with that one\n",
      kv_tool_log },

    { "repair", "DIR [--yes]", "says what is to be given up so that nginx "
      "starts again; does it with --yes",
      "--yes            changes the directory; what goes is kept in a folder "
      "there\n",
      kv_tool_repair },

    { "restore", "FILE DIR | ARCHIVE DIR --to-lsn N|--to-time T [--data DIR]",
      "makes the directory, of a backup or of a moment of an archive",
      "--to-lsn N       the moment behind that write\n"
      "--to-time T      that time, as 2026-11-30T02:38:00Z or with its zone, "
      "+01:00;\n"
      "                 without one it is UTC\n"
      "--data DIR       the store's own directory: what the archive does not "
      "have yet\n",
      kv_tool_restore },

    { "import", "DIR --from lkv SOURCE | --from redis [SOURCE] [--db N] "
      "[--key-chars any] [--skip]",
      "makes the directory, of what another store holds",
      "--from lkv       SOURCE is the directory of that server\n"
      "--from redis     SOURCE is HOST:PORT or a socket's path; "
      "127.0.0.1:6379\n"
      "--db N           of Redis, instead of 0\n"
      "--key-chars any  keeps keys that only locations with kv_key_chars any "
      "take\n"
      "--skip           leaves out keys that cannot be kept\n",
      kv_tool_import }
};


int
main(int argc, char **argv)
{
    size_t  i;

    kv_tool_open_all();

    (void) setvbuf(stdout, NULL, _IOFBF, KV_TOOL_BUFFER);

    if (argc < 2) {
        return kv_tool_usage("a command is missing");
    }

    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        kv_tool_help();
        return kv_tool_flush(KV_TOOL_GOOD);
    }

    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        (void) printf("kv-inspect of ngx_http_kv_module " KV_TOOL_VERSION
                      ", format %u\n", KV_FORMAT_VERSION);
        return kv_tool_flush(KV_TOOL_GOOD);
    }

    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {

        if (strcmp(argv[1], commands[i].name) != 0) {
            continue;
        }

        if (kv_tool_args_help(argc - 1, argv + 1)) {
            (void) printf("Usage: kv-inspect %s %s\n\nIt %s.\n%s%s",
                          commands[i].name, commands[i].operands,
                          commands[i].help, commands[i].more[0] ? "\n" : "",
                          commands[i].more);
            return kv_tool_flush(KV_TOOL_GOOD);
        }

        return kv_tool_flush(commands[i].run(argc - 1, argv + 1));
    }

    return kv_tool_usage("unknown command \"%s\"", argv[1]);
}


/*
 * A standard stream that is closed would be the next file that is opened, and
 * get what is printed.  Now that is an error.
 */

static void
kv_tool_open_all(void)
{
    int  fd;

    do {
        fd = open("/dev/null", O_RDONLY);
    } while (fd != -1 && fd <= STDERR_FILENO);

    if (fd != -1) {
        (void) close(fd);
    }
}


static void
kv_tool_help(void)
{
    size_t  i;

    (void) printf("Usage: kv-inspect COMMAND ...\n\n"
                  "Looks into the directory of a kv_zone, and makes one.\n\n");

    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        (void) printf("    %s %s\n        %s\n", commands[i].name,
                      commands[i].operands, commands[i].help);
    }

    (void) printf("\nIt exits with 0, with 1 if it found damage, and with 2 if "
                  "it could not do\nwhat it was asked for.  More is in "
                  "kv-inspect(1).\n");
}
