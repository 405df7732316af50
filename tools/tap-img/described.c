/* described.c - --object and --image-opts: keys, and images that are described by
 * options instead of their name and -f.  Only what says what -f, --key-file and the
 * name say is taken; the rest is refused by its name.
 *
 * A word is taken apart where it is: names stay there.  That is in argv, but for words
 * with a secret's bytes, which everybody on the host can read there: argv gets a copy of
 * theirs, and the bytes are wiped, before anything else is done.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/keys.h"
#include "base/log.h"
#include "tap_img.h"

/* What --object gave. */
static struct {
	const char *id;
	unsigned key;		/* its number among all keys */
} secrets[KEYS_MAX];
static unsigned n_secrets;

/* Words that name a key. */
static struct {
	const char *word;
	unsigned key;
} named[KEYS_MAX];
static unsigned n_named;

/* The next NAME=VALUE of *s, which is moved behind it; a comma in a value is doubled.
 * False: there is none.  *value NULL: there is no '='. */
static bool next_pair(char **s, char **name, char **value)
{
	char *p = *s, *to = p;

	if (!*p)
		return false;
	*name = p;
	*value = NULL;
	for (; *p && !(*p == ',' && p[1] != ','); p++) {
		if (*p == ',')
			p++;
		if (*p == '=' && !*value) {
			*to++ = '\0';
			*value = to;
		} else {
			*to++ = *p;
		}
	}
	*s = *p ? p + 1 : p;
	*to = '\0';
	return true;
}

/* The number of its key, or -1. */
static int key_of(const char *id)
{
	for (unsigned i = 0; i < n_secrets; i++)
		if (!strcmp(secrets[i].id, id))
			return (int)secrets[i].key;
	return -1;
}

static int secret_known(const char *id)
{
	if (key_of(id) >= 0)
		return ST_OK;
	log_err("no secret with id '%s': --object secret,id=%s,file=FILE gives it", id, id);
	return ST_FAILED;
}

int secret_first(const char *id)
{
	if (secret_known(id))
		return ST_FAILED;
	if (!key_of(id))
		return ST_OK;
	log_err("the key of an image that is made comes first: put the secret '%s' before "
		"other keys", id);
	return ST_FAILED;
}

static int secret_wrong(const char *why)
{
	log_err("--object: %s: want secret,id=ID,file=FILE, or use --key-file FILE", why);
	return ST_FAILED;
}

/* Does this word say --object, or something that getopt takes for it?  *value: behind
 * the '=', or NULL: it is the next word. */
static bool is_object(char *word, char **value)
{
	static const char name[] = "--object";
	size_t len = strcspn(word, "=");

	*value = word[len] ? word + len + 1 : NULL;
	return len >= strlen("--o") && len <= strlen(name) && !strncmp(word, name, len);
}

/* From "data=" to the word's end. */
static void wipe_data(char *text)
{
	static const char data[] = "data=";
	char *p = text;

	while (p && strncmp(p, data, strlen(data))) {
		p = strchr(p, ',');
		p += p != NULL;
	}
	if (p)
		explicit_bzero(p + strlen(data), strlen(p + strlen(data)));
}

void objects_hide(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		char *value, *word;

		if (!is_object(argv[i], &value))
			continue;
		if (!value && ++i == argc)
			return;
		word = argv[i];
		argv[i] = strdup(word);
		ASSERT(argv[i]);
		wipe_data(value ? value : word);
	}
}

int object_add(char *text)
{
	const char *id = NULL, *file = NULL, *data = NULL;
	char *name, *value;
	bool secret = false;
	int st;

	while (next_pair(&text, &name, &value)) {
		if (!value)
			secret = !strcmp(name, "secret");
		else if (!strcmp(name, "qom-type"))
			secret = !strcmp(value, "secret");
		else if (!strcmp(name, "id"))
			id = value;
		else if (!strcmp(name, "file"))
			file = value;
		else if (!strcmp(name, "data"))
			data = value;
		else if (strcmp(name, "format") || strcmp(value, "raw"))
			return secret_wrong("of secrets, only the bytes of a file are taken");
	}
	if (!secret)
		return secret_wrong("only secrets are known here");
	if (!id || !file == !data)
		return secret_wrong("a secret has an id, and a file or data");
	if (key_of(id) >= 0)
		return secret_wrong("two secrets have the same id");
	if (n_secrets == ARRAY_SIZE(secrets))
		return secret_wrong("too many");
	secrets[n_secrets].id = id;
	secrets[n_secrets++].key = env_get()->n_secrets;
	st = env_secret(file, data, data ? strlen(data) : 0);
	if (data)
		explicit_bzero((char *)data, strlen(data));
	return st;
}

/* What an option of an image says. */
enum about { ABOUT_DRIVER, ABOUT_FILE, ABOUT_STORE, ABOUT_SECRET, ABOUT_CRYPT };

static const struct {
	const char *name;
	enum about about;
} known[] = {
	{ "driver", ABOUT_DRIVER },
	{ "file.filename", ABOUT_FILE },
	{ "filename", ABOUT_FILE },
	{ "file.driver", ABOUT_STORE },
	{ "encrypt.key-secret", ABOUT_SECRET },
	{ "key-secret", ABOUT_SECRET },
	{ "encrypt.format", ABOUT_CRYPT },
};

static bool is_store(const char *driver)
{
	return !strcmp(driver, "file") || !strcmp(driver, "host_device");
}

/* The option, or -1 after a message. */
static int option_of(const char *name, const char *value)
{
	for (unsigned i = 0; value && i < ARRAY_SIZE(known); i++)
		if (!strcmp(known[i].name, name) &&
		    (known[i].about != ABOUT_STORE || is_store(value)))
			return (int)known[i].about;
	log_err("--image-opts: '%s%s%s' is not taken here; driver, file.filename and "
		"encrypt.key-secret are", name, value ? "=" : "", value ? value : "");
	return -1;
}

unsigned secret_of(const char *word)
{
	for (unsigned i = 0; i < n_named; i++)
		if (named[i].word == word)
			return named[i].key;
	return 0;
}

static int name_key(const char *word, const char *id)
{
	if (n_named == ARRAY_SIZE(named)) {
		log_err("--image-opts: too many images with keys of their own");
		return ST_FAILED;
	}
	named[n_named].word = word;
	named[n_named++].key = (unsigned)key_of(id);
	return ST_OK;
}

int image_word(bool described, char **word, const char **format)
{
	char *text = *word, *name, *value;
	const char *secret = NULL;

	if (!described)
		return ST_OK;
	if (*format) {
		log_err("--image-opts and a format's option exclude each other: "
			"driver=%s says it", *format);
		return ST_FAILED;
	}
	*word = NULL;
	while (next_pair(&text, &name, &value)) {
		switch (option_of(name, value)) {
		case ABOUT_DRIVER:
			*format = is_store(value) ? "raw" : value;
			break;
		case ABOUT_FILE:
			*word = value;
			break;
		case ABOUT_SECRET:
			if (secret_known(value))
				return ST_FAILED;
			secret = value;
			break;
		case -1:
			return ST_FAILED;
		default:		/* the image says it itself */
			break;
		}
	}
	if (!*word) {
		log_err("--image-opts: no file.filename");
		return ST_FAILED;
	}
	return secret ? name_key(*word, secret) : ST_OK;
}
