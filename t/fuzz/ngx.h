
/*
 * The few functions of nginx that our parsers call, in place of nginx: its
 * packages have no object files to link with.
 */


#ifndef FUZZ_NGX_H
#define FUZZ_NGX_H


#include "http/ngx_http_kv.h"

#include "fuzz.h"


/* What ngx_conf_log_error() was given last, and how often it was called. */

extern const char  *fuzz_ngx_error;
extern unsigned     fuzz_ngx_errors;


/* Frees what was allocated, and forgets errors. */
void fuzz_ngx_done(void);

/*
 * A copy with no byte to spare, in a block of its own: to read behind it is
 * found out.
 */
ngx_str_t fuzz_ngx_str(const void *data, size_t len);

/* Decodes %XX in place, as nginx does it; false if there is another "%". */
bool fuzz_ngx_decode(ngx_str_t *s);


#endif /* FUZZ_NGX_H */
