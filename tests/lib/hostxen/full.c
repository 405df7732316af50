/* full.c - loaded before libxenstore, an xenstore that has no room: it takes no key
 * of the name that stands in the file $XENSTORE_FULL, as long as that is there. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

static bool takes(const char *path)
{
	const char *name = getenv("XENSTORE_FULL"), *key = strrchr(path, '/');
	FILE *f = name ? fopen(name, "re") : NULL;
	char no[64] = "";

	if (!f)
		return true;
	if (!fgets(no, sizeof(no), f))
		no[0] = '\0';
	fclose(f);
	no[strcspn(no, "\n")] = '\0';
	return !key || strcmp(key + 1, no);
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path,
	      const void *data, unsigned len)
{
	bool (*real)(struct xs_handle *, xs_transaction_t, const char *,
		     const void *, unsigned) =
		(bool (*)(struct xs_handle *, xs_transaction_t, const char *,
			  const void *, unsigned))dlsym(RTLD_NEXT, "xs_write");

	if (takes(path))
		return real(h, t, path, data, len);
	errno = ENOSPC;
	return false;
}
