/* script.c - what the node of a device says to the open that its hotplug script
 * asks for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xen/dev.h"
#include "xen/xen.h"

struct node_ask {
	struct store_job job;
	char node[XEN_PATH_MAX];
	char spec[TAP_TEXT_MAX + 1];
	uint32_t flags;
	char of[NAMES_NODE_MAX];	/* then: "" if it is none of our scripts' */
	xen_node_then *then;
	void *arg;

	struct xen_reader reader;
	struct store *s;	/* the thread's */
	struct xen_back back;
};

/* "backend/vbd3/3/51712", perhaps behind a domain's home. */
static void find_device(struct node_ask *n)
{
	const char *at = strstr(n->node, "backend/");

	if (at && strlen(at + 8) < sizeof(n->of) && dev_of_node(at + 8, NULL))
		strcpy(n->of, at + 8);
}

static const char *back_key(const struct xen_reader *r, const char *key)
{
	const struct node_ask *n = container_of(r, struct node_ask, reader);
	char path[DEV_PATH_MAX + 32];

	snprintf(path, sizeof(path), "backend/%s/%s", n->of, key);
	return store_read(n->s, path);
}

static int node_run(struct store_job *j, struct store *s)
{
	struct node_ask *n = container_of(j, struct node_ask, job);
	char path[XEN_PATH_MAX + 16];
	const char *v;

	n->s = s;
	n->reader.get = back_key;
	if (*n->of)
		xen_check_back(&n->reader, &n->back);
	if (!n->back.ours)
		*n->of = '\0';
	snprintf(path, sizeof(path), "%s/mode", n->node);
	v = store_read(s, path);
	if (v && !strchr(v, 'w'))
		n->flags |= TAP_OPEN_RDONLY;
	/* Xen's own script takes params apart at blanks and colons; another may
	 * mean something else by them. */
	snprintf(path, sizeof(path), "%s/script", n->node);
	v = store_read(s, path);
	v = v ? strrchr(v, '/') : NULL;
	if (!v || strcmp(v, "/block-tap") || strchr(n->spec, '\n'))
		return 0;
	snprintf(path, sizeof(path), "%s/params", n->node);
	v = store_read(s, path);
	if (v && *v)
		xen_spec(v, n->spec);	/* else argv's stays */
	return 0;
}

static void node_done(struct store_job *j)
{
	struct node_ask *n = container_of(j, struct node_ask, job);

	n->then(n->arg, n->spec, n->flags, n->of);
	free(n);
}

void xen_node_ask(const char *node, const char *spec, uint32_t flags,
		  xen_node_then *then, void *arg)
{
	struct node_ask *n = store_is_up() && strlen(node) < XEN_PATH_MAX ?
			     calloc(1, sizeof(*n)) : NULL;

	if (!n) {
		then(arg, spec, flags, "");
		return;
	}
	strcpy(n->node, node);
	find_device(n);
	strcpy(n->spec, spec);
	n->flags = flags;
	n->then = then;
	n->arg = arg;
	n->job.run = node_run;
	n->job.done = node_done;
	store_submit(&n->job);
}
