/* secret.h - memory for keys: locked if the system lets us, left out of core
 * dumps, wiped when it is given back.  Whole pages, so for few and short-lived
 * things.  What OpenSSL keeps for itself (expanded keys) is in its own memory: it
 * wipes that, and a tapdisk in its sandbox leaves no core dump. */
#ifndef CRYPTO_SECRET_H
#define CRYPTO_SECRET_H

#include <stddef.h>

void *secret_new(size_t len);		/* zeroed; NULL: no memory */
void secret_free(void *p, size_t len);	/* NULL is nothing */
/* Of what is on a stack, in a way that no compiler leaves out. */
void secret_wipe(void *p, size_t len);

#endif
