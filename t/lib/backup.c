/*
 * What "kv-inspect check FILE" and "kv-inspect restore FILE DIR" do, for tests
 * of the backups alone: the status is 0 if it is well.
 */


#include <stdio.h>
#include <string.h>

#include "disk/kv_backup.h"


int
main(int argc, char **argv)
{
    kv_rc_t             rc;
    kv_err_t            err;
    kv_backup_header_t  header;

    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        rc = kv_backup_check(argv[2], NULL, &header, &err);

    } else if (argc == 4 && strcmp(argv[1], "restore") == 0) {
        rc = kv_backup_restore(argv[2], argv[3], NULL, &header, &err);

    } else {
        return 64;
    }

    if (rc != KV_OK) {
        (void) fprintf(stderr, "%s\n", err.text);
        return 1;
    }

    return 0;
}
