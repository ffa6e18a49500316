
/*
 * What the commands of kv-inspect share: exit codes, messages, progress.
 *
 * A command gets its own name in argv[0], and returns how the program exits.
 * What it was asked for goes to standard output; messages and the progress of
 * long work to standard error, the latter only if that is a terminal.
 */


#ifndef KV_TOOL_H
#define KV_TOOL_H


#include "base/kv_base.h"


/* How the program exits; the manual page promises these. */

typedef enum {
    KV_TOOL_GOOD = 0,
    KV_TOOL_DAMAGE = 1,              /* a file is damaged */
    KV_TOOL_FAILED = 2               /* anything else, told on stderr */
} kv_tool_exit_t;


/* ---- the commands */

kv_tool_exit_t kv_tool_check(int argc, char **argv);
kv_tool_exit_t kv_tool_stat(int argc, char **argv);
kv_tool_exit_t kv_tool_dump(int argc, char **argv);
kv_tool_exit_t kv_tool_load(int argc, char **argv);
kv_tool_exit_t kv_tool_log(int argc, char **argv);
kv_tool_exit_t kv_tool_repair(int argc, char **argv);
kv_tool_exit_t kv_tool_restore(int argc, char **argv);
kv_tool_exit_t kv_tool_import(int argc, char **argv);

/* Of kv_tool_check(): the file is a backup.  Told, also what is wrong. */
kv_tool_exit_t kv_tool_check_backup(const char *path);

/* Whether the directory is an archive; and the same of one. */
bool kv_tool_is_archive(const char *path);
kv_tool_exit_t kv_tool_check_archive(const char *path);


/* ---- kv_tool_signal.c */

/*
 * From now on SIGINT, SIGTERM and SIGHUP only set what kv_tool_stopped() tells,
 * and end the call of the system that they find.
 */
void kv_tool_catch(void);
bool kv_tool_stopped(void);

/* Ends the program by the signal that was caught, if there was one. */
void kv_tool_end_stopped(void);


/* ---- kv_tool_say.c */

/* A line on standard error, which begins with the program's name. */
void kv_tool_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The same about a command line, with where help is.  KV_TOOL_FAILED. */
kv_tool_exit_t kv_tool_usage(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

/*
 * Writes out what is left for standard output.  Returns `code`, or
 * KV_TOOL_FAILED, told, if not all of it could be written.
 */
kv_tool_exit_t kv_tool_flush(kv_tool_exit_t code);

/*
 * Work of `total` units begins; 0: nobody knows how much.  Bytes are written
 * as MiB, other units as they are.
 */
void kv_tool_progress_begin(const char *what, uint64_t total, bool bytes);
void kv_tool_progress_add(uint64_t n);
void kv_tool_progress_end(void);

/* "1.5 MiB" to `buf`; returns it. */
#define KV_TOOL_SIZE  32
const char *kv_tool_size(uint64_t bytes, char buf[KV_TOOL_SIZE]);


/* ---- kv_tool_moment.c; times are ms since the epoch */

/* "2026-11-30T02:38:00.123Z" to `buf`; returns it.  0 ms: "-". */
#define KV_TOOL_TIME  32
const char *kv_tool_time(uint64_t ms, char buf[KV_TOOL_TIME]);

/*
 * Reads such a time.  Instead of the T there may be a blank, seconds and what
 * is behind them may be missing, and instead of the Z there may be nothing, or
 * an offset from UTC, as in +01:00, +0100 or +01.  Or "@" and seconds since the
 * epoch.  False: it is none.
 */
bool kv_tool_time_parse(const char *text, uint64_t *ms);

/*
 * Reads an LSN: a decimal number, one with 0x and hexadecimal digits, which the
 * names of files have, or the version of a key or of a store, as in an ETag.
 * False: it is none.
 */
bool kv_tool_lsn_parse(const char *text, uint64_t *lsn);


#endif /* KV_TOOL_H */
