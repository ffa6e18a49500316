
/*
 * What the fuzz targets share.  A target is t/fuzz/fuzz_NAME.c, one function
 * that libFuzzer calls with inputs of its own making; scripts/fuzz.sh builds
 * and runs them.
 *
 * An input of random bytes never gets behind a checksum.  So most inputs are
 * not files but descriptions of files, which a target takes apart with a
 * fuzz_feed_t and makes real ones of, their checksums right unless it is
 * described that they are not.
 */


#ifndef FUZZ_H
#define FUZZ_H


#include <stdlib.h>

#include "disk/kv_record.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* What must hold; libFuzzer keeps the input for which it does not. */

#define fuzz_check(condition, ...)                                            \
    do {                                                                      \
        if (kv_unlikely(!(condition))) {                                      \
            (void) fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,         \
                           #condition);                                       \
            (void) fprintf(stderr, "" __VA_ARGS__);                           \
            (void) fprintf(stderr, "\n");                                     \
            abort();                                                          \
        }                                                                     \
    } while (0)


/* The rest of an input.  Behind its end there are zeroes. */

typedef struct {
    const uint8_t  *p;
    const uint8_t  *end;
} fuzz_feed_t;


uint8_t fuzz_u8(fuzz_feed_t *feed);
uint16_t fuzz_u16(fuzz_feed_t *feed);

/* -128 to 127. */
int fuzz_drift(fuzz_feed_t *feed);

/* `n` bytes from the input. */
void fuzz_bytes(fuzz_feed_t *feed, void *dst, size_t n);


/*
 * Makes a record of what the input describes and appends it to the `max`
 * bytes at `dst`, of which *used are in use.  False if it does not fit.
 * *odd is set if it is none that the store would write.
 */
bool fuzz_record(fuzz_feed_t *feed, uint64_t lsn, uint8_t *dst, size_t max,
    size_t *used, bool *odd);

/* Reads all of a record and folds it, with its LSN, into *sum. */
void fuzz_fold(uint64_t *sum, uint64_t lsn, const kv_record_t *rec);


/*
 * Whether an error is fit for people: one line, which names a file of that
 * suffix and an offset.
 */
bool fuzz_says_where(const kv_err_t *err, const char *suffix);


#endif /* FUZZ_H */
