/* secret.c - see secret.h. */
#include "crypto/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>

void *secret_new(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* Both are as good as the system allows, and no reason to fail. */
	(void)mlock(p, len);
	(void)madvise(p, len, MADV_DONTDUMP);
	return p;
}

void secret_free(void *p, size_t len)
{
	if (!p)
		return;
	secret_wipe(p, len);
	munmap(p, len);
}

void secret_wipe(void *p, size_t len)
{
	OPENSSL_cleanse(p, len);
}
