/* policy.c - see policy.h. */
#include "policy.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

/* Images that are no more than the disk's bytes, plain or encrypted: they name
 * nothing. */
static const char *const raw_types[] = { "aio", "file", "phy", "luks" };

/* Length of the TYPE at s if a ':' follows it, else 0. */
static size_t type_len(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz"
			     "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

	return s[n] == ':' ? n : 0;
}

/* The word of the line that names a file, or NULL. */
static const char *last_word(const char *line)
{
	for (;;) {
		size_t n = type_len(line);

		if (!n)
			return NULL;
		if (line[n + 1] == '/')
			return line;
		line += n + 1;
		line += strcspn(line, "|\n");
		if (*line != '|')
			return NULL;
		line++;
	}
}

const char *policy_path(const char *line, size_t *len)
{
	const char *w = last_word(line);

	if (!w)
		return NULL;
	w += type_len(w) + 1;
	*len = strcspn(w, "\n");
	return w;
}

/* Behind the line's newline, or NULL: it is the last. */
static const char *next_line(const char *line)
{
	const char *nl = strchr(line, '\n');

	return nl ? nl + 1 : NULL;
}

static bool line_names(const char *line, const char *path)
{
	size_t len;
	const char *own = policy_path(line, &len);

	return own && strlen(path) == len && !memcmp(own, path, len);
}

static bool is_raw(const char *line)
{
	const char *w = last_word(line);

	for (size_t i = 0; i < ARRAY_SIZE(raw_types); i++) {
		size_t n = strlen(raw_types[i]);

		if (type_len(w) == n && !memcmp(w, raw_types[i], n))
			return true;
	}
	return false;
}

bool policy_has_tables(const char *spec)
{
	return last_word(spec) && !is_raw(spec);
}

/* An absolute path of len bytes without "//", "." and "..", as a text is
 * compared; "" for "/". */
static void clean(const char *path, size_t len, char *to)
{
	const char *end = path + len;
	size_t n = 0;

	while (path < end) {
		size_t w;

		while (path < end && *path == '/')
			path++;
		for (w = 0; path + w < end && path[w] != '/'; w++)
			;
		if (w == 2 && !memcmp(path, "..", 2)) {
			while (n && to[--n] != '/')
				;
		} else if (w && !(w == 1 && *path == '.')) {
			to[n++] = '/';
			memcpy(to + n, path, w);
			n += w;
		}
		path += w;
	}
	to[n] = '\0';
}

/* Is `path`, cleaned, below the folder dir of len bytes?  Then fill g. */
static bool below(const char *dir, size_t len, const char *path,
		  struct policy_grant *g)
{
	size_t n;

	if (len > TAP_TEXT_MAX)
		return false;
	clean(dir, len, g->dir);
	n = strlen(g->dir);
	if (!n || strncmp(path, g->dir, n) || path[n] != '/')
		return false;
	memcpy(g->dir, dir, len);
	g->dir[len] = '\0';
	strcpy(g->name, path + n + 1);
	return true;
}

static bool has_dots(const char *path)
{
	for (const char *s = path; (s = strstr(s, "/..")); s += 3)
		if (s[3] == '/' || !s[3])
			return true;
	return false;
}

/* P3 and P4. */
static int check_found(const struct policy *p, const char *path, bool rdonly,
		       struct policy_grant *g, const char **why)
{
	char plain[TAP_TEXT_MAX + 1];
	size_t len = strlen(path);
	const char *own;

	*why = "its name is that of a folder";
	if (len > TAP_TEXT_MAX || path[len - 1] == '/')
		return -EACCES;
	clean(path, len, plain);
	g->found = true;
	g->dotted = has_dots(path);
	g->device = false;
	own = policy_path(p->spec, &len);
	while (own[len - 1] != '/')
		len--;
	if (!next_line(p->spec) && below(own, len, plain, g))
		return 0;
	*why = next_line(p->spec) ?
	       "it is not among the files that were given (tap-ctl --backing)" :
	       rdonly ? "it is not in the image's folder: give it (tap-ctl "
			"--backing) or allow its folder (blktapctrl --image-dir)" :
			"files other than the image are written to only in its "
			"folder";
	if (!rdonly)
		return -EACCES;
	g->device = true;
	for (const char *const *d = p->dirs; *d; d++)
		if (below(*d, strlen(*d), plain, g))
			return 0;
	return -EACCES;
}

int policy_check(const struct policy *p, const char *path, uint32_t ask_flags,
		 struct policy_grant *g, const char **why)
{
	bool rdonly = ask_flags & TAP_OPEN_RDONLY;

	g->found = g->device = g->dotted = false;
	*why = "want an absolute path";
	if (path[0] != '/')
		return -EINVAL;
	*why = "the disk is read-only";
	if ((p->flags & TAP_OPEN_RDONLY) && !rdonly)
		return -EROFS;
	if (line_names(p->spec, path))				/* P1 */
		return 0;
	*why = "what is below an image is never written to";
	for (const char *l = next_line(p->spec); l; l = next_line(l))
		if (line_names(l, path))				/* P2 */
			return rdonly ? 0 : -EROFS;
	*why = "not a file of this disk";
	if (!last_word(p->spec) || is_raw(p->spec))
		return -EACCES;
	return check_found(p, path, rdonly, g, why);
}

int policy_spec(const char *spec)
{
	for (const char *l = spec; l; l = next_line(l)) {
		if (!*l && l != spec && !next_line(l) && !strchr(spec, '\n')[1])
			return 0;	/* nothing below the first */
		if (!type_len(l))
			return -EINVAL;
	}
	for (; *spec; spec++)
		if (((unsigned char)*spec < ' ' && *spec != '\n') || *spec == 0x7f)
			return -EINVAL;
	return 0;
}
