/* What objects compiled with a newer C library call and an older one lacks: the module is linked for glibc 2.28. */
#include <stddef.h>
#include <stdint.h>
#include <sys/random.h>

/* glibc 2.32: whether the process has one thread. Saying no is always right. */
char __libc_single_threaded __attribute__((visibility("hidden"))) = 0;

/* glibc 2.36; of std::random_device, which falls back on nothing else. */
__attribute__((visibility("hidden"))) uint32_t arc4random(void) {
    uint32_t number = 0;
    while (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) {
    }
    return number;
}
