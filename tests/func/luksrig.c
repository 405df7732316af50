/* luksrig - a LUKS image made, read and written by the driver, without a tapdisk:
 * for tests in which programs of others judge.  Passphrases are arguments here;
 * no program for users does that.
 *
 *	luksrig format FILE PASSPHRASE SIZE [NAME=VALUE...]
 *		version= cipher= mode= hash= key= (bytes) sector= ms=
 *	luksrig get FILE RAW PASSPHRASE...	the disk's bytes
 *	luksrig put FILE RAW PASSPHRASE...	the other way; of any length
 *
 * 0; 1: refused, the reason is on the standard error.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/size.h"
#include "drv_rig.h"
#include "luks_rig.h"

#define MAX_KEYS 8

static void option(struct luks_format *f, const char *arg)
{
	const char *value = strchr(arg, '=');

	if (!value)
		errx(2, "%s", arg);
	value++;
	if (!strncmp(arg, "version=", 8))
		f->version = (unsigned)atoi(value);
	else if (!strncmp(arg, "cipher=", 7))
		f->cipher = value;
	else if (!strncmp(arg, "mode=", 5))
		f->mode = value;
	else if (!strncmp(arg, "hash=", 5))
		f->hash = value;
	else if (!strncmp(arg, "key=", 4))
		f->key_len = (size_t)atoi(value);
	else if (!strncmp(arg, "sector=", 7))
		f->sector = (uint32_t)atoi(value);
	else if (!strncmp(arg, "ms=", 3))
		f->iter_ms = (unsigned)atoi(value);
	else
		errx(2, "%s", arg);
}

static int format(int argc, char **argv)
{
	struct luks_format f = { .iter_ms = 10 };
	uint64_t size;

	if (argc < 5 || size_parse(argv[4], &size))
		errx(2, "format FILE PASSPHRASE SIZE");
	for (int i = 5; i < argc; i++)
		option(&f, argv[i]);
	luks_file(argv[2], &f, argv[3], size);
	return 0;
}

/* Pieces of every length, so that all ways through the driver are gone. */
static int transfer(struct rig *g, bool put, int fd)
{
	static char buf[MiB];
	static const uint64_t lens[] = { 4096, 512, MiB, 1536, 64 * KiB, 132 * KiB };
	uint64_t size = td_tree_root(g->tree)->size;
	struct stat st;

	if (put && fstat(fd, &st))
		err(1, "fstat");
	if (put)
		size = min_u64(size, (uint64_t)st.st_size);
	for (uint64_t at = 0, n, i = 0; at < size; at += n, i++) {
		int rc;

		n = min_u64(lens[i % ARRAY_SIZE(lens)], size - at);
		if (put && pread(fd, buf, n, (off_t)at) != (ssize_t)n)
			err(1, "read");
		rc = put ? rig_write(g, at, n, buf) : rig_read(g, at, n, buf);
		if (rc)
			errx(1, "%s at %llu: %s", put ? "write" : "read",
			     (unsigned long long)at, strerror(-rc));
		if (!put && pwrite(fd, buf, n, (off_t)at) != (ssize_t)n)
			err(1, "write");
	}
	return 0;
}

static int copy(int argc, char **argv, bool put)
{
	struct td_secret keys[MAX_KEYS];
	struct rig g;
	char *spec;
	int fd, rc;

	if (argc < 4 || argc - 4 > MAX_KEYS)
		errx(2, "%s FILE RAW PASSPHRASE...", argv[1]);
	rig_init(&g);
	for (int i = 4; i < argc; i++)
		keys[g.env.n_secrets++] = luks_secret(argv[i]);
	g.env.secrets = keys;
	if (asprintf(&spec, "luks:%s", argv[2]) < 0)
		err(1, "asprintf");
	if (rig_open(&g, spec, put ? 0 : TD_NODE_RDONLY))
		return 1;		/* the driver has said why */
	free(spec);
	fd = open(argv[3], (put ? O_RDONLY : O_RDWR | O_CREAT | O_TRUNC) | O_CLOEXEC,
		  0600);
	if (fd < 0)
		err(1, "%s", argv[3]);
	rc = transfer(&g, put, fd);
	close(fd);
	if (rig_close(&g))
		rc = 1;
	rig_free(&g);
	return rc;
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "format"))
		return format(argc, argv);
	if (argc > 2 && !strcmp(argv[1], "get"))
		return copy(argc, argv, false);
	if (argc > 2 && !strcmp(argv[1], "put"))
		return copy(argc, argv, true);
	errx(2, "format, get or put");
}
