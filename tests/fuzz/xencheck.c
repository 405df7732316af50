/* The nodes of a guest's disk: the input is lines KEY=VALUE, anything in them.
 * What is taken from them lies in its range, whatever they are. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "base/vdev.h"
#include "tapring_proto.h"

#include "xen/check.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct nodes {
	struct xen_reader r;
	const char *text;
	char value[4096];
};

static const char *look_up(const struct xen_reader *r, const char *key)
{
	struct nodes *n = container_of((struct xen_reader *)(uintptr_t)r,
				       struct nodes, r);
	size_t len = strlen(key);

	for (const char *s = n->text; s; s = strchr(s, '\n')) {
		s += *s == '\n';
		if (!strncmp(s, key, len) && s[len] == '=') {
			size_t v = strcspn(s + len + 1, "\n");

			v = v < sizeof(n->value) ? v : sizeof(n->value) - 1;
			memcpy(n->value, s + len + 1, v);
			n->value[v] = '\0';
			return n->value;
		}
	}
	return NULL;
}

static void check_front(const struct xen_front *f)
{
	ASSERT(f->state <= XB_RECONFIGURED);
	for (const char *s = f->why; *s; s++)
		ASSERT(*s >= ' ' && *s <= '~');
	if (f->err)
		return;
	ASSERT(f->c.queues >= 1 && f->c.queues <= TAP_XEN_QUEUES);
	ASSERT(f->c.order <= TAP_XEN_ORDER);
	ASSERT(f->c.abi >= TAPRING_ABI_NATIVE && f->c.abi <= TAPRING_ABI_X86_64);
	for (unsigned q = 0; q < f->c.queues; q++)
		ASSERT(f->c.evtchn[q] > 0 && f->c.evtchn[q] < 131072);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char spec[TAP_TEXT_MAX + 1];
	char *text = malloc(size + 1), name[VDEV_NAME_MAX];
	struct nodes n = { .r = { look_up } };
	struct xen_front f;
	struct xen_back b;
	uint32_t devid;

	ASSERT(text);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	n.text = text;
	xen_check_front(&n.r, &f);
	check_front(&f);
	xen_check_back(&n.r, &b);
	ASSERT(b.minor >= -1 && strlen(b.params) <= TAP_TEXT_MAX);
	if (xen_spec(b.params, spec))
		ASSERT(strchr(spec, ':'));
	if (!vdev_parse(b.params, &devid))
		vdev_name(devid, name);
	free(text);
	return 0;
}
