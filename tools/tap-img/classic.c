/* classic.c - img2qcow, qcow2raw and qcow-create: names and arguments of the tools
 * that came with the first blktap, as other words for convert and create. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"
#include "tap_img.h"

#define WORDS_MAX 16

static int run(const struct command *c, const char *const *word)
{
	char *argv[WORDS_MAX + 1] = { (char *)c->name };
	int n = 1;

	for (; *word && n < WORDS_MAX; word++)
		argv[n++] = (char *)*word;
	return c->run(c, n, argv);
}

static int usage(const char *text)
{
	fprintf(stderr, "usage: %s\n", text);
	return ST_FAILED;
}

static int img2qcow(int argc, char **argv)
{
	if (argc != 3)
		return usage("img2qcow QCOW-FILE RAW-FILE");
	return run(&cmd_convert, (const char *const[]){
		"-f", "raw", "-O", "qcow", "--", argv[2], argv[1], NULL });
}

static bool may_overwrite(const char *name)
{
	struct stat st;
	int c;

	if (stat(name, &st))
		return true;
	printf("%s is there already: overwrite it (y/n)? ", name);
	fflush(stdout);
	c = getchar();
	return c == 'y' || c == 'Y';
}

static int qcow2raw(int argc, char **argv)
{
	const struct td_format_tool *t;

	if (argc != 3)
		return usage("qcow2raw RAW-FILE QCOW-FILE");
	if (img_probe(argv[2], &t))
		return ST_FAILED;
	if (!t || strncmp(t->name, "qcow", 4)) {
		log_err("%s is no image of format qcow or qcow2", argv[2]);
		return ST_FAILED;
	}
	if (!may_overwrite(argv[1]))
		return ST_FAILED;
	return run(&cmd_convert, (const char *const[]){
		"-f", t->name, "-O", "raw", "--", argv[2], argv[1], NULL });
}

static int make(const char *format, bool reserve, char **word, int n)
{
	const struct td_format_tool *t = NULL;
	const char *v[WORDS_MAX] = { "-q", "-f", format };
	char size[24];
	uint64_t mb;
	int k = 3;

	if (uint_parse(word[0], INT64_MAX >> 20, &mb) || !mb) {
		log_err("bad size '%s': want a number of megabytes", word[0]);
		return ST_FAILED;
	}
	snprintf(size, sizeof(size), "%lluM", (unsigned long long)mb);
	if (reserve) {
		v[k++] = "-o";
		v[k++] = "preallocation=falloc";
	}
	if (n == 3) {
		char *path = name_from_image(word[1], word[2]);
		int err = img_probe(path, &t);

		free(path);
		if (err)
			return ST_FAILED;
		v[k++] = "-b";
		v[k++] = word[2];
		v[k++] = "-F";
		v[k++] = t ? t->name : "raw";
	}
	v[k++] = "--";
	v[k++] = word[1];
	v[k++] = size;
	return run(&cmd_create, v);
}

static int qcow_create(int argc, char **argv)
{
	static const char text[] =
		"qcow-create [-h] [-r] [-f qcow|qcow2] MEGABYTES FILE [BACKING-FILE]\n\n"
		"  -r  reserve all space (qcow2)\n"
		"  -f  the format (qcow)";
	const char *format = "qcow";
	bool reserve = false;
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "-r"))
			reserve = true;
		else if (!strcmp(argv[i], "-f") && i + 1 < argc)
			format = argv[++i];
		else if (!strcmp(argv[i], "-h"))
			return printf("usage: %s\n", text) < 0;
		else
			return usage(text);
	}
	if (argc - i < 2 || argc - i > 3 || strncmp(format, "qcow", 4))
		return usage(text);
	return make(format, reserve, argv + i, argc - i);
}

const struct classic *classic_find(const char *argv0)
{
	static const struct classic all[] = {
		{ "img2qcow", img2qcow }, { "qcow2raw", qcow2raw },
		{ "qcow-create", qcow_create },
	};
	const char *slash = strrchr(argv0, '/'), *name = slash ? slash + 1 : argv0;

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		if (!strcmp(all[i].name, name))
			return &all[i];
	return NULL;
}
