/* create.c - see create.h.
 *
 * Layout: header | refcount table | refcount blocks | header of LUKS | L1 table, and
 * with preallocation the L2 tables and all data behind it, in the order of the disk.
 * The refcount table is large enough for a disk that is full.  The header is written
 * last: until then the file is no image.
 */
#include "qcow2/create.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"
#include "crypto/luks.h"
#include "qcow2/header.h"
#include "qcow2/tables.h"

#define DISK_MAX ((uint64_t)INT64_MAX & ~511ull)

const struct td_format_opt qcow2_opts[] = {
	{ "cluster_size", "SIZE", "512 to 2M", "65536" },
	{ "extended_l2", "on|off", "32 subclusters a cluster", "off" },
	{ "compression_type", "TYPE", "zlib or zstd", "zlib" },
	{ "size", "SIZE", "size of the disk", NULL },
	{ "backing_file", "FILE", "what the image does not hold is in FILE", NULL },
	{ "backing_fmt", "FORMAT", "of the backing file", NULL },
	{ "lazy_refcounts", "on|off", "refcounts may be wrong after a crash", "off" },
	{ "refcount_bits", "N", "1, 2, 4, ... 64", "16" },
	{ "compat", "VERSION", "0.10 or 1.1", NULL },
	{ "data_file", "FILE", "holds the data; a name as seen from the image", NULL },
	{ "data_file_raw", "on|off", "the data file is a raw image of the disk", NULL },
	{ "preallocation", "MODE", "off, metadata, falloc or full", NULL },
	{ "encrypt.format", "TYPE", "luks or aes; --key-file gives the key", NULL },
	{ "encrypt.cipher-alg", "NAME", "of LUKS: aes-256, aes-128", NULL },
	{ "encrypt.cipher-mode", "NAME", "of LUKS: xts, cbc", NULL },
	{ "encrypt.ivgen-alg", "NAME", "of LUKS: plain64, plain, essiv", NULL },
	{ "encrypt.ivgen-hash-alg", "NAME", "of LUKS: of essiv", NULL },
	{ "encrypt.hash-alg", "NAME", "of LUKS: sha256, sha512, ...", NULL },
	{ "encrypt.iter-time", "MS", "of LUKS: how long a key takes to be tried",
	  NULL },
	{ .name = NULL }
};

struct create {
	const struct td_format_make *m;
	struct td_node *store;		/* NULL: it is only measured */
	struct qcow2_header h;
	struct qcow2_dims d;
	bool prealloc, encrypted;
	struct luks_format luks;
	struct luks_words words;

	/* Clusters, from 0 on. */
	uint64_t reft, blocks, blocks_at, luks_at, l1_at, l1, l2_at, l2, data_at, end;
};

static int refuse(const struct create *k, const char *why)
{
	if (k->store)
		td_err(k->store, "cannot make %s: %s", k->store->arg, why);
	else
		log_err("qcow2: %s", why);
	return -EINVAL;
}

static const char *value(const struct create *k, const char *name)
{
	return td_format_value(qcow2_opts, k->m, name);
}

/* --- options --- */

static int flag(const struct create *k, const char *name, bool *on)
{
	const char *v = value(k, name);

	*on = v && (!strcmp(v, "on") || !strcmp(v, "true"));
	if (!v || *on || !strcmp(v, "off") || !strcmp(v, "false"))
		return 0;
	return refuse(k, "an option that is on or off is neither");
}

static int take_sizes(struct create *k)
{
	struct qcow2_header *h = &k->h;
	const char *compat = value(k, "compat");
	uint64_t cs, bits;

	h->version = compat && (!strcmp(compat, "0.10") || !strcmp(compat, "v2")) ? 2 : 3;
	if (compat && h->version == 3 && strcmp(compat, "1.1") && strcmp(compat, "v3"))
		return refuse(k, "compat is 0.10 or 1.1");
	if (size_parse(value(k, "cluster_size"), &cs) || !is_pow2(cs) || cs < 512 ||
	    cs > 2 * MiB)
		return refuse(k, "cluster_size is a power of two, 512 to 2M");
	h->cluster_bits = (unsigned)__builtin_ctzll(cs);
	if (uint_parse(value(k, "refcount_bits"), 64, &bits) || !is_pow2(bits))
		return refuse(k, "refcount_bits is 1, 2, 4, 8, 16, 32 or 64");
	h->ref_order = (unsigned)__builtin_ctzll(bits);
	if (h->version < 3 && bits != 16)
		return refuse(k, "compat=0.10 has refcount_bits=16 alone");
	return 0;
}

static int take_features(struct create *k)
{
	struct qcow2_header *h = &k->h;
	const char *pack = value(k, "compression_type"), *file = value(k, "data_file");
	bool lazy, ext, raw;

	if (flag(k, "lazy_refcounts", &lazy) || flag(k, "extended_l2", &ext) ||
	    flag(k, "data_file_raw", &raw))
		return -EINVAL;
	if (strcmp(pack, "zlib") && strcmp(pack, "zstd"))
		return refuse(k, "compression_type is zlib or zstd");
	h->compat = lazy ? QCOW2_LAZY : 0;
	h->incompat = ext ? QCOW2_EXT_L2 : 0;
	if (!strcmp(pack, "zstd")) {
		h->compression = QCOW2_ZSTD;
		h->incompat |= QCOW2_COMPRESSION;
	}
	if (file) {
		h->incompat |= QCOW2_DATA_FILE;
		if (strlen(file) > QCOW2_NAME_MAX)
			return refuse(k, "the data file's name is too long");
		memcpy(h->data_file, file, strlen(file) + 1);
	}
	h->autoclear = raw ? QCOW2_DATA_RAW : 0;
	if (h->version < 3 && (h->compat || h->incompat || h->autoclear))
		return refuse(k, "lazy refcounts, extended L2 entries, zstd and data "
			      "files need compat=1.1");
	if (ext && h->cluster_bits < QCOW2_EXT_CLUSTER_BITS_MIN)
		return refuse(k, "extended L2 entries need clusters of 16k or more");
	if (raw && (!file || k->m->backing))
		return refuse(k, "data_file_raw needs a data file, and no backing file");
	return 0;
}

static int take_backing(struct create *k)
{
	const char *format = k->m->backing_format;

	if (!k->m->backing)
		return 0;
	if (strlen(k->m->backing) > QCOW2_NAME_MAX)
		return refuse(k, "the backing file's name is too long");
	memcpy(k->h.backing, k->m->backing, strlen(k->m->backing) + 1);
	if (format && strlen(format) > QCOW2_FMT_MAX)
		return refuse(k, "the backing format's name is too long");
	if (format)
		memcpy(k->h.backing_fmt, format, strlen(format) + 1);
	return 0;
}

static int take_luks(struct create *k)
{
	struct luks_words *w = &k->words;
	const char *why;

	*w = (struct luks_words){
		.cipher_alg = value(k, "encrypt.cipher-alg"),
		.cipher_mode = value(k, "encrypt.cipher-mode"),
		.ivgen_alg = value(k, "encrypt.ivgen-alg"),
		.ivgen_hash_alg = value(k, "encrypt.ivgen-hash-alg"),
		.hash_alg = value(k, "encrypt.hash-alg"),
		.iter_time = value(k, "encrypt.iter-time"),
	};
	why = crypt_luks_words(w, &k->luks);
	if (why)
		return refuse(k, why);
	k->h.crypto_length = crypt_luks_header_bytes(&k->luks);
	return 0;
}

static int take_encryption(struct create *k)
{
	const char *format = value(k, "encrypt.format");

	if (!format)
		return 0;
	k->encrypted = true;
	if (k->store && !k->store->env->n_secrets)
		return refuse(k, "encryption needs a key (--key-file)");
	if (!strcmp(format, "aes")) {
		k->h.crypt = QCOW2_CRYPT_AES;
		return 0;
	}
	if (strcmp(format, "luks"))
		return refuse(k, "encrypt.format is luks or aes");
	k->h.crypt = QCOW2_CRYPT_LUKS;
	return take_luks(k);
}

static int take_prealloc(struct create *k)
{
	const char *mode = value(k, "preallocation");

	k->prealloc = mode && strcmp(mode, "off");
	if (k->h.autoclear & QCOW2_DATA_RAW)
		k->prealloc = true;	/* the data file is whole */
	if (mode && strcmp(mode, "off") && strcmp(mode, "metadata") &&
	    strcmp(mode, "falloc") && strcmp(mode, "full"))
		return refuse(k, "preallocation is off, metadata, falloc or full");
	if (k->prealloc && k->m->backing && !(k->h.incompat & QCOW2_EXT_L2))
		return refuse(k, "preallocation hides a backing file, but for extended "
			      "L2 entries");
	if (k->prealloc && k->encrypted && k->h.version < 3)
		return refuse(k, "preallocation of an encrypted disk needs compat=1.1");
	return 0;
}

/* --- layout --- */

static uint64_t clusters_of(const struct create *k, uint64_t bytes)
{
	return (bytes >> k->h.cluster_bits) +
	       !!(bytes & (qcow2_cluster(&k->d) - 1));
}

static uint64_t data_clusters(const struct create *k)
{
	return clusters_of(k, k->h.size);
}

/* Refcount blocks for the first n clusters. */
static uint64_t blocks_for(const struct create *k, uint64_t n)
{
	return (n + (1ull << k->d.block_bits) - 1) >> k->d.block_bits;
}

static int plan(struct create *k)
{
	struct qcow2_header *h = &k->h;
	uint64_t cs = qcow2_cluster(&k->d), room, was;
	uint64_t l1 = qcow2_l1_needed(h->size, h->cluster_bits, k->d.ext);

	if (l1 > QCOW2_L1_MAX)
		return refuse(k, "the disk is too large for clusters of this size");
	h->l1_entries = (uint32_t)l1;
	k->l1 = clusters_of(k, l1 * 8);
	k->l2 = k->prealloc ? l1 : 0;
	/* What the file may come to: all data, its tables, and some to spare. */
	room = (k->d.external ? 0 : data_clusters(k) + data_clusters(k) / 8) + 2 * l1 +
	       2 * k->l1 + clusters_of(k, h->crypto_length) + clusters_of(k, 32 * MiB);
	k->reft = clusters_of(k, blocks_for(k, room + blocks_for(k, room)) * 8);
	k->reft = min_u64(k->reft, QCOW2_REFT_MAX >> h->cluster_bits);
	k->blocks = 1;
	do {
		was = k->blocks;
		k->blocks_at = 1 + k->reft;
		k->luks_at = k->blocks_at + k->blocks;
		k->l1_at = k->luks_at + clusters_of(k, h->crypto_length);
		k->l2_at = k->l1_at + k->l1;
		k->data_at = k->l2_at + k->l2;
		k->end = k->data_at;
		if (k->prealloc && !k->d.external)
			k->end += data_clusters(k);
		k->blocks = blocks_for(k, k->end);
	} while (k->blocks != was);
	if (k->blocks > k->reft * cs / 8)
		return refuse(k, "the disk is too large for refcounts of this size");
	h->reft_offset = cs;
	h->reft_clusters = (uint32_t)k->reft;
	h->l1_offset = l1 ? k->l1_at * cs : 0;
	h->crypto_offset = h->crypto_length ? k->luks_at * cs : 0;
	return 0;
}

static int prepare(struct create *k)
{
	int err;

	k->h.size = k->m->size;
	if (k->h.size > DISK_MAX)
		return refuse(k, "no disk is that large");
	err = take_sizes(k);
	if (!err)
		err = take_features(k);
	if (!err)
		err = take_backing(k);
	if (!err)
		err = take_encryption(k);
	if (!err)
		err = take_prealloc(k);
	if (err)
		return err;
	k->d = qcow2_dims(&k->h);
	return plan(k);
}

/* --- writing --- */

static int write_at(const struct create *k, uint64_t cluster, const void *p, uint64_t n)
{
	return td_blocking_write(k->store, cluster << k->h.cluster_bits, p,
				 n << k->h.cluster_bits);
}

static int write_refcounts(const struct create *k, uint8_t *buf)
{
	uint64_t per = 1ull << k->d.block_bits, entry = 0;
	unsigned order = k->d.ref_order;
	int err = 0;

	for (uint64_t c = 0; c < k->reft && !err; c++) {
		memset(buf, 0, qcow2_cluster(&k->d));
		for (uint64_t i = 0; i < qcow2_cluster(&k->d) / 8; i++, entry++)
			if (entry < k->blocks)
				put_be64(buf + i * 8, (k->blocks_at + entry)
							      << k->h.cluster_bits);
		err = write_at(k, 1 + c, buf, 1);
	}
	for (uint64_t b = 0; b < k->blocks && !err; b++) {
		memset(buf, 0, qcow2_cluster(&k->d));
		for (uint64_t i = 0; i < per && b * per + i < k->end; i++)
			qcow2_ref_set(buf + qcow2_ref_at(order, i), order, i, 1);
		err = write_at(k, k->blocks_at + b, buf, 1);
	}
	return err;
}

/* All entries of one L2 table.  What is read before it is written must be zeroes:
 * of a file they are; of a device, or what is to be decrypted, the entry says so. */
static void fill_l2(const struct create *k, uint64_t table, uint8_t *buf, bool zeroes)
{
	uint64_t n = 1ull << k->d.l2_bits, i0 = table * n;

	memset(buf, 0, qcow2_cluster(&k->d));
	for (uint64_t i = 0; i < n && i0 + i < data_clusters(k); i++) {
		struct qcow2_entry e = {
			.host = (k->d.external ? i0 + i : k->data_at + i0 + i)
				<< k->h.cluster_bits,
			.space = true, .copied = true,
			.zero = zeroes && !k->d.ext,
		};

		qcow2_l2_encode(&k->d, &e, buf + i * k->d.entry);
		if (k->d.external && k->d.ext)
			put_be64(buf + i * k->d.entry + 8, UINT32_MAX);
	}
}

static int write_tables(const struct create *k, uint8_t *buf, bool zeroes)
{
	uint64_t cs = qcow2_cluster(&k->d), entry = 0;
	int err = 0;

	for (uint64_t c = 0; c < k->l1 && !err; c++) {
		memset(buf, 0, cs);
		for (uint64_t i = 0; i < cs / 8 && k->l2; i++, entry++)
			if (entry < k->l2)
				put_be64(buf + i * 8, ((k->l2_at + entry)
						<< k->h.cluster_bits) | QCOW2_COPIED);
		err = write_at(k, k->l1_at + c, buf, 1);
	}
	for (uint64_t t = 0; t < k->l2 && !err; t++) {
		fill_l2(k, t, buf, zeroes);
		err = write_at(k, k->l2_at + t, buf, 1);
	}
	return err;
}

static int luks_read(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct create *k = arg;

	return td_blocking_read(k->store, k->h.crypto_offset + off, buf, len);
}

static int luks_write(void *arg, uint64_t off, const void *buf, size_t len)
{
	const struct create *k = arg;

	return td_blocking_write(k->store, k->h.crypto_offset + off, buf, len);
}

static int write_luks(struct create *k)
{
	struct luks_io io = { .read = luks_read, .write = luks_write, .arg = k,
			      .bytes = k->h.crypto_length };
	char why[160] = "";
	int err;

	if (!k->h.crypto_length)
		return 0;
	err = crypt_luks_format(&io, &k->luks, &k->store->env->secrets[0], why,
				sizeof(why));
	if (err)
		refuse(k, *why ? why : strerror(-err));
	return err;
}

/* The file with the data: as long as the disk. */
static int make_data_file(struct create *k)
{
	struct td_node *data;
	int err;

	if (!k->d.external)
		return 0;
	if (!k->m->file)
		return refuse(k, "there is no way to make its data file");
	err = k->m->file(k->m, k->h.data_file, true, &data);
	if (!err)
		err = td_blocking_size(data, align_up(k->h.size, 512));
	return err ? err : td_blocking_flush(data);
}

static int write_all(struct create *k, uint8_t *buf)
{
	uint64_t bytes = k->end << k->h.cluster_bits;
	int err = td_blocking_size(k->store, bytes);
	/* A device is as long as it was. */
	bool zeroes = k->encrypted || k->store->size > align_up(bytes, 4096);

	if (!err && k->prealloc && zeroes && k->h.version < 3)
		err = td_blocking_zeroes(k->store, k->data_at << k->h.cluster_bits,
					 (k->end - k->data_at) << k->h.cluster_bits);
	if (!err)
		err = write_refcounts(k, buf);
	if (!err)
		err = write_luks(k);
	if (!err)
		err = write_tables(k, buf, zeroes && k->h.version >= 3);
	if (!err)
		err = make_data_file(k);
	if (!err)
		err = td_blocking_flush(k->store);
	if (!err && qcow2_header_encode(&k->h, NULL, NULL, buf))
		err = refuse(k, "the header does not fit into a cluster");
	if (!err)
		err = write_at(k, 0, buf, 1);
	return err ? err : td_blocking_flush(k->store);
}

int qcow2_create(struct td_node *store, const struct td_format_make *m)
{
	struct create k = { .m = m, .store = store };
	int err = prepare(&k);
	uint8_t *buf;

	if (err)
		return err;
	buf = malloc(qcow2_cluster(&k.d));
	if (!buf)
		return -ENOMEM;
	err = write_all(&k, buf);
	free(buf);
	return err;
}

/* --- measuring --- */

int qcow2_measure(const struct td_format_make *m, uint64_t data, uint64_t *bytes)
{
	struct create k = { .m = m };
	uint64_t cs, per, l2, l1, n, blocks = 0, table = 0, was;
	int err = prepare(&k);

	if (err)
		return err;
	cs = qcow2_cluster(&k.d);
	per = cs / 8;
	l2 = k.h.l1_entries;
	l1 = (l2 + per - 1) / per;
	n = 1 + l2 + l1 + clusters_of(&k, k.h.crypto_length) +
	    (k.d.external ? 0 : data_clusters(&k));
	do {
		was = blocks + table;
		blocks = blocks_for(&k, n + blocks + table);
		table = (blocks + per - 1) / per;
	} while (was != blocks + table);
	*bytes = (n + blocks + table) * cs;
	if (!k.d.external)
		*bytes -= (data_clusters(&k) - clusters_of(&k, data)) * cs;
	return 0;
}
