/* descriptor.c - see descriptor.h. */
#include "vmdk/descriptor.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "base/size.h"

#define SECTORS_MAX (INT64_MAX / 512)

static const char magic[] = "# disk descriptorfile";

/* What the words mean; a type that is not here is none. */
static const char *const accesses[] = {
	[VMDK_RW] = "RW", [VMDK_RDONLY] = "RDONLY", [VMDK_NOACCESS] = "NOACCESS",
};

static const struct {
	const char *word;
	int type;		/* enum vmdk_type, or -1: known, not supported */
} types[] = {
	{ "FLAT", VMDK_FLAT },		{ "VMFS", VMDK_FLAT },
	{ "SPARSE", VMDK_SPARSE },	{ "ZERO", VMDK_ZERO },
	{ "VMFSSPARSE", -1 },		{ "SESPARSE", -1 },
	{ "VMFSRDM", -1 },		{ "VMFSRAW", -1 },
};

static const char *const create_types[] = {
	"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
	"twoGbMaxExtentFlat", "2GbMaxExtentSparse", "2GbMaxExtentFlat",
	"streamOptimized", "vmfs", "vmfsThin", "vmfsPreallocated",
	"vmfsEagerZeroedThick",
};

struct reader {
	struct vmdk_descriptor *d;
	unsigned line;		/* the number of the one at work, from 1 */
	bool parent_cid_seen;
	char *why;
	size_t why_len;
};

__attribute__((format(printf, 3, 4)))
static int bad(const struct reader *r, int err, const char *fmt, ...)
{
	int n = snprintf(r->why, r->why_len, "line %u of the descriptor: ", r->line);
	va_list ap;

	va_start(ap, fmt);
	if (n > 0 && (size_t)n < r->why_len)
		vsnprintf(r->why + n, r->why_len - (size_t)n, fmt, ap);
	va_end(ap);
	return err;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static char *skip(char *s)
{
	while (blank(*s))
		s++;
	return s;
}

/* The word at *s, ended by a NUL that replaces the blank behind it; "" at the end.
 * One in quotes may have blanks in it; NULL: its closing quote is missing. */
static char *word(char **s)
{
	char *w = skip(*s), *end;

	if (*w == '"') {
		end = strchr(++w, '"');
		if (!end)
			return NULL;
	} else {
		for (end = w; *end && !blank(*end); end++)
			;
	}
	*s = end + (*end != '\0');
	*end = '\0';
	return w;
}

/* The same for what must be there: "" will be refused by whoever asked. */
static char *need(char **s)
{
	static char none[1];
	char *w = word(s);

	return w ? w : none;
}

static int sectors(const struct reader *r, const char *w, const char *what,
		   uint64_t *v)
{
	if (uint_parse(w, SECTORS_MAX, v))
		return bad(r, -EINVAL, "bad %s '%.40s'", what, w);
	return 0;
}

static int line_type(const struct reader *r, const char *w, enum vmdk_type *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strcasecmp(w, types[i].word))
			continue;
		if (types[i].type < 0)
			return bad(r, -EOPNOTSUPP,
				   "extents of type %s are not supported",
				   types[i].word);
		*type = (enum vmdk_type)types[i].type;
		return 0;
	}
	return bad(r, -EINVAL, "bad type of extent '%.40s'", w);
}

/* ACCESS SECTORS TYPE ["NAME" [OFFSET ...]]; s is behind ACCESS. */
static int extent_line(struct reader *r, enum vmdk_access access, char *s)
{
	struct vmdk_descriptor *d = r->d;
	struct vmdk_line *l;
	char *w;
	int err;

	if (d->n_lines == VMDK_EXTENTS_MAX)
		return bad(r, -EINVAL, "more than %u extents", VMDK_EXTENTS_MAX);
	l = &d->lines[d->n_lines];
	*l = (struct vmdk_line){ .access = access };
	err = sectors(r, need(&s), "number of sectors", &l->sectors);
	if (err)
		return err;
	if (!l->sectors || l->sectors > SECTORS_MAX - d->sectors)
		return bad(r, -EINVAL, "bad number of sectors");
	err = line_type(r, need(&s), &l->type);
	if (err)
		return err;
	if (l->type != VMDK_ZERO) {
		w = need(&s);
		if (!*w)
			return bad(r, -EINVAL, "no name of a file");
		l->name = w;
		w = need(&s);
		if (*w && l->type == VMDK_FLAT) {
			err = sectors(r, w, "offset", &l->offset);
			if (err)
				return err;
			if (l->sectors > SECTORS_MAX - l->offset)
				return bad(r, -EINVAL, "bad offset '%.40s'", w);
		}
	}
	d->sectors += l->sectors;
	d->n_lines++;
	return 0;
}

/* 1 to 8 hexadecimal digits and nothing else; how many, or 0. */
static unsigned hex_parse(const char *s, uint32_t *v)
{
	size_t n = strspn(s, "0123456789abcdefABCDEF");

	if (s[n] || n < 1 || n > 8)
		return 0;
	*v = (uint32_t)strtoul(s, NULL, 16);
	return (unsigned)n;
}

static int set_cid(struct reader *r, char *value)
{
	struct vmdk_descriptor *d = r->d;

	if (d->has_cid)
		return bad(r, -EINVAL, "a second CID");
	d->cid_digits = hex_parse(value, &d->cid);
	if (!d->cid_digits)
		return bad(r, -EINVAL, "bad CID '%.40s'", value);
	d->cid_at = (size_t)(value - d->text);
	d->has_cid = true;
	return 0;
}

static int set_parent_cid(struct reader *r, char *value)
{
	if (r->parent_cid_seen)
		return bad(r, -EINVAL, "a second parentCID");
	if (!hex_parse(value, &r->d->parent_cid))
		return bad(r, -EINVAL, "bad parentCID '%.40s'", value);
	r->parent_cid_seen = true;
	return 0;
}

static int set_version(struct reader *r, char *value)
{
	uint64_t v;

	if (uint_parse(value, 3, &v) || v < 1)
		return bad(r, -EOPNOTSUPP, "version %.40s: only 1 to 3 are known",
			   value);
	return 0;
}

static int set_type(struct reader *r, char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(create_types); i++)
		if (!strcasecmp(value, create_types[i])) {
			r->d->type = create_types[i];
			return 0;
		}
	return bad(r, -EOPNOTSUPP, "disks of type '%.40s' are not supported", value);
}

static int set_parent(struct reader *r, char *value)
{
	r->d->parent = *value ? value : NULL;
	return 0;
}

static const struct {
	const char *name;
	int (*set)(struct reader *r, char *value);
} keys[] = {
	{ "version", set_version },	{ "CID", set_cid },
	{ "parentCID", set_parent_cid },	{ "createType", set_type },
	{ "parentFileNameHint", set_parent },
};

/* KEY = VALUE; eq is the '='. */
static int key_line(struct reader *r, char *s, char *eq)
{
	char *end = eq, *value;

	while (end > s && blank(end[-1]))
		end--;
	*end = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (strcasecmp(s, keys[i].name))
			continue;
		value = skip(eq + 1);
		if (*value == '"') {
			eq = value;
			value = word(&eq);
			if (!value)
				return bad(r, -EINVAL, "%s: no closing quote",
					   keys[i].name);
		} else {
			end = value + strlen(value);
			while (end > value && blank(end[-1]))
				end--;
			*end = '\0';
		}
		return keys[i].set(r, value);
	}
	return 0;
}

static int one_line(struct reader *r, char *s)
{
	char *eq, *end;

	s = skip(s);
	if (!*s || *s == '#')
		return 0;
	for (end = s; isalpha((unsigned char)*end); end++)
		;
	for (size_t i = 0; blank(*end) && i < ARRAY_SIZE(accesses); i++)
		if (strlen(accesses[i]) == (size_t)(end - s) &&
		    !strncasecmp(s, accesses[i], (size_t)(end - s)) &&
		    *skip(end) != '=')
			return extent_line(r, (enum vmdk_access)i, end);
	eq = strchr(s, '=');
	return eq ? key_line(r, s, eq) : 0;
}

bool vmdk_descriptor_magic(const char *bytes, size_t len)
{
	return len >= sizeof(magic) - 1 &&
	       !strncasecmp(bytes, magic, sizeof(magic) - 1);
}

int vmdk_descriptor_parse(struct vmdk_descriptor *d, const char *bytes, size_t len,
			  char *why, size_t why_len)
{
	struct reader r = { .d = d, .why = why, .why_len = why_len };
	int err = 0;

	*d = (struct vmdk_descriptor){ .parent_cid = VMDK_NO_PARENT };
	d->text = len <= VMDK_DESCRIPTOR_MAX ? malloc(len + 1) : NULL;
	d->lines = calloc(VMDK_EXTENTS_MAX, sizeof(*d->lines));
	if (!d->text || !d->lines) {
		err = len > VMDK_DESCRIPTOR_MAX ? -EINVAL : -ENOMEM;
		snprintf(why, why_len, err == -ENOMEM ? "no memory" :
			 "the descriptor is longer than 1 MiB");
		vmdk_descriptor_free(d);
		return err;
	}
	memcpy(d->text, bytes, len);
	d->text[len] = '\0';
	for (char *s = d->text, *end; !err && s; s = end) {
		end = strchr(s, '\n');
		if (end)
			*end++ = '\0';
		r.line++;
		err = one_line(&r, s);
	}
	if (err)
		vmdk_descriptor_free(d);
	return err;
}

void vmdk_descriptor_free(struct vmdk_descriptor *d)
{
	free(d->text);
	free(d->lines);
	*d = (struct vmdk_descriptor){ .parent_cid = VMDK_NO_PARENT };
}

void vmdk_descriptor_cid(struct vmdk_descriptor *d, uint32_t random, char digits[8])
{
	uint32_t mask = 0xffffffffu >> 4 * (8 - d->cid_digits);
	uint32_t cid = random & mask;
	char text[9];

	/* The two highest have meanings: no parent, and see the long CID. */
	while (cid == d->cid || cid >= 0xfffffffeu)
		cid = (cid + 1) & mask;
	d->cid = cid;
	snprintf(text, sizeof(text), "%0*x", (int)d->cid_digits, cid);
	memcpy(digits, text, d->cid_digits);
}
