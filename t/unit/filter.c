
/*
 * In each program: KIT_TEST=name runs that test alone; see t/README.md.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>


static void __attribute__((constructor))
filter_tests(void)
{
    cmocka_set_test_filter(getenv("KIT_TEST"));
}
