/* ask.c - what the blocking slots of a format ask: they say what its disk is, name
 * other files, and read and write the ones that are open. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sparse/sparse_priv.h"

void sparse_geometry(struct sparse *s, uint64_t size, uint32_t cluster,
		     uint32_t unit)
{
	ASSERT(is_aligned(size, 512) && is_pow2(cluster) && is_pow2(unit) &&
	       unit >= 512 && unit <= cluster && cluster <= SPARSE_CLUSTER_MAX);
	ASSERT(!s->meta.blocks.live || cluster == s->cluster);
	s->size = size;
	s->cluster = cluster;
	s->unit = unit;
}

void sparse_packing(struct sparse *s, const struct sparse_packer *p)
{
	s->packer = p;
}

void sparse_cipher(struct sparse *s, struct crypt *c, bool by_host)
{
	s->crypt = c;
	s->crypt_by_host = by_host;
}

void sparse_appends(struct sparse *s, unsigned file, uint64_t end)
{
	struct space *sp = &s->files[file].space;

	sp->appends = true;
	sp->end = max_u64(sp->end, cluster_up(s, end));
}

uint64_t sparse_end(const struct sparse *s, unsigned file)
{
	return s->files[file].space.end;
}

struct td_node *sparse_parent(const struct sparse *s)
{
	return s->parent;
}

/* A name in the image, as an absolute path; NULL after td_err(). */
static char *path_of(struct sparse *s, const char *name)
{
	const char *own = s->node->arg, *slash = strrchr(own, '/');
	int dir = slash ? (int)(slash - own) + 1 : 0;
	char *path = NULL;

	for (const char *p = name; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f) {
			td_err(s->node, "%s names a file with control characters",
			       own);
			return NULL;
		}
	}
	if (!*name || !strncmp(name, "json:", 5) || strstr(name, "://")) {
		td_err(s->node, "%s names '%.80s', which is not a path", own, name);
		return NULL;
	}
	if (asprintf(&path, "%.*s%s", *name == '/' ? 0 : dir, own, name) < 0) {
		td_err(s->node, "no memory for a file's name");
		return NULL;
	}
	return path;
}

int sparse_want_file(struct sparse *s, const char *name, bool rdonly, unsigned *file)
{
	struct sparse_file *f;

	if (s->n_files == SPARSE_FILES) {
		td_err(s->node, "%s has more than %u files", s->node->arg,
		       SPARSE_FILES);
		return -EMFILE;
	}
	f = realloc(s->files, (s->n_files + 1) * sizeof(*f));
	if (!f)
		return -ENOMEM;
	s->files = f;
	f += s->n_files;
	*f = (struct sparse_file){ .s = s, .rdonly = rdonly || s->rdonly };
	f->path = path_of(s, name);
	if (!f->path)
		return -EINVAL;
	*file = s->n_files++;
	return 0;
}

int sparse_want_parent(struct sparse *s, const char *type, const char *name)
{
	static const char *const types[][2] = {
		{ "raw", "aio" }, { "file", "aio" }, { "qcow2", "qcow2" },
		{ "qcow", "qcow" }, { "vmdk", "vmdk" }, { "luks", "luks" },
	};
	const char *chain = td_tree_chain(s->node->tree);
	char *path;

	if (chain && !*chain) {
		td_err(s->node, "%s has a backing file (%.80s), and none is given "
		       "for it", s->node->arg, name);
		return -EINVAL;
	}
	if (chain) {
		s->parent_spec = strdup(chain);
		return s->parent_spec ? 0 : -ENOMEM;
	}
	for (size_t i = 0; type && i < ARRAY_SIZE(types); i++) {
		if (strcmp(type, types[i][0]))
			continue;
		path = path_of(s, name);
		if (!path)
			return -EINVAL;
		if (asprintf(&s->parent_spec, "%s:%s", types[i][1], path) < 0)
			s->parent_spec = NULL;
		free(path);
		return s->parent_spec ? 0 : -ENOMEM;
	}
	td_err(s->node, "%s has a backing file (%.80s) %s%.20s: give the chain "
	       "explicitly (--backing TYPE:/path)", s->node->arg, name,
	       type ? "of the unknown type " : "and does not say of which type",
	       type ? type : "");
	return -EINVAL;
}

int sparse_pread(struct sparse *s, unsigned file, uint64_t off, void *buf, size_t len)
{
	return td_blocking_read(s->files[file].node, off, buf, len);
}

int sparse_pwrite(struct sparse *s, unsigned file, uint64_t off, const void *buf,
		  size_t len)
{
	struct td_node *n = s->files[file].node;
	int err = 0;

	if (len > UINT64_MAX - off)
		return -EFBIG;
	if (off + len > n->size)
		err = td_blocking_size(n, off + len);
	s->files[file].unsynced = true;
	return err ? err : td_blocking_write(n, off, buf, len);
}

int sparse_psync(struct sparse *s, unsigned file)
{
	return td_blocking_flush(s->files[file].node);
}

int sparse_psize(struct sparse *s, unsigned file, uint64_t size)
{
	return td_blocking_size(s->files[file].node, size);
}
