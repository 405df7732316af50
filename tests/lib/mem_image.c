/* mem_image.c - see mem_image.h.
 *
 * I1  A page with refs > 1 is never written.
 * I2  Bytes of a page behind the file's end are zeroes.
 */
#include "mem_image.h"

#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

struct mem_page {
	unsigned refs;
	unsigned char bytes[MEM_PAGE];
};

static void put_page(struct mem_page *p)
{
	if (p && !--p->refs)
		free(p);
}

void mem_image_free(struct mem_image *m)
{
	for (size_t i = 0; i < m->pages; i++)
		put_page(m->page[i]);
	free(m->page);
	*m = (struct mem_image){ 0 };
}

void mem_image_copy(struct mem_image *to, const struct mem_image *from)
{
	struct mem_image m = *from;

	m.page = NULL;
	if (m.pages) {
		m.page = malloc(m.pages * sizeof(m.page[0]));
		if (!m.page)
			err(1, "mem_image");
		memcpy(m.page, from->page, m.pages * sizeof(m.page[0]));
	}
	for (size_t i = 0; i < m.pages; i++)
		if (m.page[i])
			m.page[i]->refs++;
	mem_image_free(to);
	*to = m;
}

void mem_image_read(const struct mem_image *m, uint64_t off, void *buf, size_t len)
{
	char *to = buf;

	while (len) {
		uint64_t i = off / MEM_PAGE, in = off % MEM_PAGE;
		size_t n = min_u64(len, MEM_PAGE - in);

		if (i < m->pages && m->page[i])
			memcpy(to, m->page[i]->bytes + in, n);
		else
			memset(to, 0, n);
		to += n;
		off += n;
		len -= n;
	}
}

/* A page of our own (I1). */
static unsigned char *own_page(struct mem_image *m, uint64_t i)
{
	struct mem_page *p;

	if (i >= m->pages) {
		size_t n = align_up(i + 1, 256);

		m->page = reallocarray(m->page, n, sizeof(m->page[0]));
		if (!m->page)
			err(1, "mem_image");
		memset(m->page + m->pages, 0, (n - m->pages) * sizeof(m->page[0]));
		m->pages = n;
	}
	p = m->page[i];
	if (p && p->refs == 1)
		return p->bytes;
	p = malloc(sizeof(*p));
	if (!p)
		err(1, "mem_image");
	p->refs = 1;
	if (m->page[i])
		memcpy(p->bytes, m->page[i]->bytes, MEM_PAGE);
	else
		memset(p->bytes, 0, MEM_PAGE);
	put_page(m->page[i]);
	m->page[i] = p;
	return p->bytes;
}

void mem_image_write(struct mem_image *m, uint64_t off, const void *buf, size_t len)
{
	const char *from = buf;

	m->size = max_u64(m->size, off + len);
	while (len) {
		uint64_t in = off % MEM_PAGE;
		size_t n = min_u64(len, MEM_PAGE - in);

		memcpy(own_page(m, off / MEM_PAGE) + in, from, n);
		from += n;
		off += n;
		len -= n;
	}
}

void mem_image_zero(struct mem_image *m, uint64_t off, uint64_t len)
{
	uint64_t end = off + min_u64(len, UINT64_MAX - off);

	end = min_u64(end, m->pages * (uint64_t)MEM_PAGE);
	while (off < end) {
		uint64_t i = off / MEM_PAGE, in = off % MEM_PAGE;
		uint64_t n = min_u64(end - off, MEM_PAGE - in);

		if (n == MEM_PAGE) {
			put_page(m->page[i]);
			m->page[i] = NULL;
		} else if (m->page[i]) {
			memset(own_page(m, i) + in, 0, n);
		}
		off += n;
	}
}

void mem_image_resize(struct mem_image *m, uint64_t size)
{
	if (size < m->size)
		mem_image_zero(m, size, UINT64_MAX);	/* I2 */
	m->size = size;
}

bool mem_image_data(const struct mem_image *m, uint64_t off, uint64_t *end)
{
	uint64_t i = off / MEM_PAGE;
	bool data = i < m->pages && m->page[i];

	while (i < m->pages && !!m->page[i] == data)
		i++;
	*end = i < m->pages ? i * MEM_PAGE : data ? i * MEM_PAGE : UINT64_MAX;
	return data;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9fb21c651e98df25ull;
	return h ^ (h >> 32);
}

uint64_t mem_image_hash(const struct mem_image *m)
{
	uint64_t h = mix(1, m->size), v, any;

	for (size_t i = 0; i < m->pages; i++) {
		uint64_t page = i;

		if (!m->page[i])
			continue;
		any = 0;
		for (unsigned k = 0; k < MEM_PAGE; k += 8) {
			memcpy(&v, m->page[i]->bytes + k, 8);
			any |= v;
			page = mix(page, v);
		}
		if (any)		/* a page of zeroes is no page */
			h = mix(h, page);
	}
	return h;
}

void mem_image_load(struct mem_image *m, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[MEM_PAGE];
	off_t off = 0, end;

	mem_image_free(m);
	end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	if (end < 0)
		err(1, "%s", path);
	while ((off = lseek(fd, off, SEEK_DATA)) >= 0 && off < end) {
		ssize_t n = pread(fd, buf, sizeof(buf), off);

		if (n <= 0)
			err(1, "%s", path);
		mem_image_write(m, (uint64_t)off, buf, (size_t)n);
		off += n;
	}
	close(fd);
	mem_image_resize(m, (uint64_t)end);
}

void mem_image_save(const struct mem_image *m, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)m->size))
		err(1, "%s", path);
	for (size_t i = 0; i < m->pages; i++) {
		uint64_t off = i * (uint64_t)MEM_PAGE;
		size_t n;

		if (!m->page[i] || off >= m->size)
			continue;
		n = min_u64(MEM_PAGE, m->size - off);
		if (pwrite(fd, m->page[i]->bytes, n, (off_t)off) != (ssize_t)n)
			err(1, "%s", path);
	}
	close(fd);
}
