/* tool.c - luks, for tools: making an encrypted raw file (LUKS version 1, as qemu-img
 * makes it), and what a header of either version says to who has no key. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "crypto/luks.h"
#include "formats.h"
#include "luks/about.h"

#define MAGIC "LUKS\xba\xbe"

static const struct td_format_opt opts[] = {
	{ "size", "SIZE", "size of the disk", NULL },
	{ "cipher-alg", "NAME", "aes-256 or aes-128", "aes-256" },
	{ "cipher-mode", "NAME", "xts or cbc", "xts" },
	{ "ivgen-alg", "NAME", "plain64, plain or essiv", "plain64" },
	{ "ivgen-hash-alg", "NAME", "of essiv", NULL },
	{ "hash-alg", "NAME", "sha256, sha512, ...", "sha256" },
	{ "iter-time", "MS", "how long a key takes to be tried", "2000" },
	{ .name = NULL }
};

static bool luks_probe(const void *head, size_t len)
{
	const uint8_t *p = head;

	return len >= 8 && !memcmp(p, MAGIC, 6) &&
	       (get_be16(p + 6) == 1 || get_be16(p + 6) == 2);
}

static int luks_read(void *arg, uint64_t off, void *buf, size_t len)
{
	return td_blocking_read(arg, off, buf, len);
}

static int luks_write(void *arg, uint64_t off, const void *buf, size_t len)
{
	return td_blocking_write(arg, off, buf, len);
}

/* 0, or -EINVAL and *why. */
static int wanted(const struct td_format_make *m, struct luks_words *w,
		  struct luks_format *f, const char **why)
{
	*w = (struct luks_words){
		.cipher_alg = td_format_value(opts, m, "cipher-alg"),
		.cipher_mode = td_format_value(opts, m, "cipher-mode"),
		.ivgen_alg = td_format_value(opts, m, "ivgen-alg"),
		.ivgen_hash_alg = td_format_value(opts, m, "ivgen-hash-alg"),
		.hash_alg = td_format_value(opts, m, "hash-alg"),
		.iter_time = td_format_value(opts, m, "iter-time"),
	};
	*why = crypt_luks_words(w, f);
	return *why ? -EINVAL : 0;
}

static int luks_create(struct td_node *store, const struct td_format_make *m)
{
	struct luks_io io = { .read = luks_read, .write = luks_write, .arg = store };
	char text[160] = "";
	struct luks_format f;
	struct luks_words w;
	const char *why;
	int err = wanted(m, &w, &f, &why);

	if (!err && !store->env->n_secrets) {
		why = "encryption needs a key (--key-file)";
		err = -EINVAL;
	}
	if (!err) {
		io.bytes = crypt_luks_header_bytes(&f);
		if (m->size > INT64_MAX - io.bytes)
			err = -EFBIG;
		if (!err)
			err = td_blocking_size(store, io.bytes + m->size);
		why = strerror(-err);
	}
	if (!err) {
		err = crypt_luks_format(&io, &f, &store->env->secrets[0], text,
					sizeof(text));
		why = *text ? text : strerror(-err);
	}
	if (err)
		td_err(store, "cannot make %s: %s", store->arg, why);
	return err;
}

static int luks_measure(const struct td_format_make *m, uint64_t data, uint64_t *bytes)
{
	struct luks_format f;
	struct luks_words w;
	const char *why;
	int err = wanted(m, &w, &f, &why);

	(void)data;			/* all of it is written, zeroes too */
	if (err)
		log_err("luks: %s", why);
	else
		*bytes = crypt_luks_header_bytes(&f) + m->size;
	return err;
}

static void set_int(json_t *o, const char *name, uint64_t v)
{
	json_object_set_new(o, name, json_integer((json_int_t)v));
}

static int luks_info(struct td_node *store, json_t *o)
{
	struct luks_io io = { .read = luks_read, .arg = store, .bytes = store->size };
	struct luks_about a;
	char why[160] = "";
	int err = crypt_luks_about(&io, false, &a, why, sizeof(why));

	if (err) {
		td_err(store, "cannot open %s: %s", store->arg,
		       *why ? why : strerror(-err));
		return err;
	}
	set_int(o, "virtual-size", align_down(a.info.length ? a.info.length :
					      store->size - a.info.payload, a.sector));
	json_object_set_new(o, "encrypted", json_true());
	json_object_set_new(o, "format-specific",
			    json_pack("{s:s, s:o}", "type", "luks", "data",
				      luks_about_json(&a, NULL)));
	return 0;
}

const struct td_format_tool td_luks_tool = {
	.name	= "luks",
	.opts	= opts,
	.probe	= luks_probe,
	.create	= luks_create,
	.noise	= true,
	.measure = luks_measure,
	.info	= luks_info,
};
