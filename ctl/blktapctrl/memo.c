/* memo.c - see memo.h.  Lines of "name values"; "boot" is the first, "spec" the
 * last, and what follows it is the spec to the end of the file; "was" tells of the spec
 * that stands before that one: of a disk that is being unpaused, as it was.  Numbers
 * are what this or another version of the daemon wrote: one that cannot be is no memo.
 * Nor is one of an earlier boot, if the run directory outlives that: what the disk's
 * redo log and journal have of it is older than its image.
 *
 * A disk has two files, each with all the room that it may ever need, which change
 * places: the death of a tapdisk is noted also when the run directory is full. */
#include "memo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "names.h"
#include "vdisk.h"

#define MEMO_BYTES 12288u	/* of the file, with zeroes behind the text */
_Static_assert(2 * TAP_TEXT_MAX + 1024 < MEMO_BYTES, "whole pages");

static const struct { const char *word; enum vdisk_state state; } memo_states[] = {
	{ "open", VD_RUNNING }, { "paused", VD_PAUSED },
	{ "unpausing", VD_RESUMING }, { "opening", VD_OPENING },
};

static const char *state_word(enum vdisk_state s)
{
	for (size_t i = 0; i < ARRAY_SIZE(memo_states); i++)
		if (memo_states[i].state == s)
			return memo_states[i].word;
	return "open";
}

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static const char *boot_id(void)
{
	static char id[40];
	int fd = *id ? -1 : open(BOOT_ID, O_RDONLY | O_CLOEXEC);

	if (*id)
		return id;
	if (fd < 0 || read(fd, id, sizeof(id) - 1) <= 0)
		id[0] = '\0';
	if (fd >= 0)
		close(fd);
	id[strcspn(id, "\n")] = '\0';
	if (!*id)
		strcpy(id, "-");
	return id;
}

/* As it is written; its length, or -1. */
static int memo_text(const struct vdisk *vd, bool replaced, char *buf, size_t room)
{
	const struct revival *r = &vd->revival;
	const struct tap_img *i = &vd->img;
	enum vdisk_state s = vd->state;
	bool opens, resumes;
	int n, m;

	if (s == VD_REVIVING)
		s = r->was != VD_RESUMING && r->held ? VD_PAUSED :
						       (enum vdisk_state)r->was;
	resumes = s == VD_RESUMING;
	opens = resumes || s == VD_OPENING;

	n = snprintf(buf, room, "boot %s\nstate %s\nreplaced %d\nunclean %d\nflags %u\n"
		     "keys %u\nrestarts %u\nimg %" PRIu64 " %u %u %u\npids",
		     boot_id(), state_word(s), replaced, r->unclean,
		     opens ? vd->new_flags : vd->flags,
		     vd->keys.n || vd->new_keys.n || r->keyless, r->restarts,
		     i->bytes, i->sector_size, i->phys_size, i->caps);
	for (unsigned k = 0; k < r->n_old; k++)
		n += snprintf(buf + n, room - (size_t)n, " %d", (int)r->old[k]);
	n += snprintf(buf + n, room - (size_t)n, " %d", (int)vd->pid);
	if (resumes)
		n += snprintf(buf + n, room - (size_t)n, "\nwas %u %zu", vd->flags,
			      strlen(vd->spec));
	m = snprintf(buf + n, room - (size_t)n, "\nspec\n%s%s",
		     resumes ? vd->spec : "", opens ? vd->new_spec : vd->spec);
	return m < (int)(room - (size_t)n) ? n + m : -1;
}

/* The file that is not in use, with its room; descriptor or -errno. */
static int open_spare(int minor)
{
	char path[PATH_MAX];
	int fd = open(run_path(RUN_MEMO_NEW, minor, path, sizeof(path)),
		      O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int err = fd < 0 ? -errno : -posix_fallocate(fd, 0, MEMO_BYTES);

	if (err && fd >= 0)
		close(fd);
	return err ? err : fd;
}

/* They change places; where there was one alone, another is made for the next time,
 * if there is room. */
static int exchange(int minor)
{
	char path[PATH_MAX], spare[PATH_MAX];
	int fd;

	run_path(RUN_MEMO, minor, path, sizeof(path));
	run_path(RUN_MEMO_NEW, minor, spare, sizeof(spare));
	if (!renameat2(AT_FDCWD, spare, AT_FDCWD, path, RENAME_EXCHANGE))
		return 0;
	if (rename(spare, path))
		return -errno;
	fd = open_spare(minor);
	if (fd >= 0)
		close(fd);
	return 0;
}

void memo_write(const struct vdisk *vd, bool replaced)
{
	char buf[MEMO_BYTES] = { 0 };
	int len, fd, err;

	if (vd->hearsay)	/* that would make it true */
		return;
	len = memo_text(vd, replaced, buf, sizeof(buf));
	fd = open_spare(vd->minor);
	err = fd < 0 ? fd : 0;
	if (!err && (len < 0 || pwrite(fd, buf, sizeof(buf), 0) != sizeof(buf)))
		err = -ENOSPC;
	if (fd >= 0)
		close(fd);
	if (!err)
		err = exchange(vd->minor);
	if (!err)
		return;
	/* Better none than one that is not true. */
	log_warn("%s: cannot write down what it is, so no daemon but this one will know "
		 "the disk if its tapdisk dies: %s", vdisk_name(vd), strerror(-err));
	memo_remove(vd->minor);
}

void memo_remove(int minor)
{
	names_remove(RUN_MEMO_NEW, minor);
	names_remove(RUN_MEMO, minor);
}

static int read_all(int n, char *buf, size_t room)
{
	int fd = names_store_open(RUN_MEMO, n);
	ssize_t len;

	if (fd < 0)
		return fd;
	len = read(fd, buf, room - 1);
	close(fd);
	if (len < 0)
		return -errno;
	memset(buf + len, 0, room - (size_t)len);
	for (size_t i = strlen(buf); i < room; i++)
		if (buf[i])
			return -EBADMSG;
	return 0;
}

static void take_pids(struct vdisk *vd, char *list)
{
	char *save, *w = strtok_r(list, " ", &save);

	vd->revival.n_old = 0;
	for (; w; w = strtok_r(NULL, " ", &save))
		revive_was(vd, atoi(w));
}

/* One line but the spec's; false: nonsense. */
static bool take_line(struct vdisk *vd, char *line, int *state, bool *replaced)
{
	struct tap_img i = { 0 };
	char word[16];
	unsigned v;

	if (sscanf(line, "state %15s", word) == 1) {
		for (size_t k = 0; k < ARRAY_SIZE(memo_states); k++)
			if (!strcmp(memo_states[k].word, word))
				*state = (int)memo_states[k].state;
		return *state >= 0;
	}
	if (sscanf(line, "img %" SCNu64 " %u %u %u", &i.bytes, &i.sector_size,
		   &i.phys_size, &i.caps) == 4) {
		vd->img = i;
		return i.bytes % 512 == 0;
	}
	if (!strncmp(line, "pids ", 5)) {
		take_pids(vd, line + 5);
		return true;
	}
	if (sscanf(line, "%15s %u", word, &v) != 2)
		return false;
	if (!strcmp(word, "replaced"))
		*replaced = v;
	else if (!strcmp(word, "unclean"))
		vd->revival.unclean = v;
	else if (!strcmp(word, "flags"))
		vd->flags = v & (TAP_OPEN_RDONLY | TAP_OPEN_NO_DIRECT);
	else if (!strcmp(word, "keys"))
		vd->revival.keyless = v && !vd->keys.n;
	else if (!strcmp(word, "restarts"))
		vd->revival.restarts = v;
	return true;
}

/* was: how long the first of two is, or SIZE_MAX: there is one, as what it is and is to
 * be.  vd->flags are those of the last.  False: nonsense. */
static bool take_specs(struct vdisk *vd, const char *text, size_t was,
		       unsigned was_flags)
{
	size_t len = strlen(text), skip = was == SIZE_MAX ? 0 : was;

	if (skip > len || skip > TAP_TEXT_MAX || len - skip > TAP_TEXT_MAX)
		return false;
	strcpy(vd->new_spec, text + skip);
	vd->new_flags = vd->flags;
	if (was == SIZE_MAX) {
		strcpy(vd->spec, text);
		return true;
	}
	memcpy(vd->spec, text, was);
	vd->spec[was] = '\0';
	vd->flags = was_flags & (TAP_OPEN_RDONLY | TAP_OPEN_NO_DIRECT);
	return true;
}

/* Of this boot: then *line is the next one. */
static bool is_of_today(char **line)
{
	char *end = strchr(*line, '\n');
	const char *id = boot_id();
	size_t len = strlen(id);

	if (strncmp(*line, "boot ", 5) || !end || end - *line - 5 != (ptrdiff_t)len ||
	    memcmp(*line + 5, id, len))
		return false;
	*line = end + 1;
	return true;
}

int memo_read(struct vdisk *vd, int n, bool *replaced)
{
	char buf[MEMO_BYTES + 1], *line = buf, *end;
	int state = -1, err = read_all(n, buf, sizeof(buf));
	size_t was = SIZE_MAX;
	unsigned was_flags = 0;

	*replaced = false;
	if (err)
		return err;
	if (!is_of_today(&line)) {
		log_warn("disk %d was served before this host was started again: it is "
			 "not taken up", n);
		return -ESTALE;
	}
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		if (!strcmp(line, "spec"))
			return state >= 0 && take_specs(vd, end + 1, was, was_flags) ?
			       state : -EBADMSG;
		if (sscanf(line, "was %u %zu", &was_flags, &was) != 2 &&
		    !take_line(vd, line, &state, replaced))
			return -EBADMSG;
		line = end + 1;
	}
	return -EBADMSG;
}
