/* info.c - tap-ctl info and resize: what a disk is. */
#include <errno.h>
#include <inttypes.h>

#include "base/rundir.h"
#include "base/size.h"
#include "tap-ctl.h"

static int take_disk(void *arg, const struct msg *m)
{
	return disk_parse(arg, m);
}

/* KEY=VALUE lines; sectors, sector_size and info are tapdisk3's three (sectors
 * of sector_size bytes; info has blkif's VDISK_READONLY, 4). */
static void print_info(const struct disk *k)
{
	const struct tap_img *i = &k->img;
	char path[128];

	disk_line(k, stdout);
	if (i->sector_size)
		printf("sectors=%" PRIu64 "\nsector_size=%u\n",
		       i->bytes / i->sector_size, i->sector_size);
	printf("info=%#x\n", k->flags & TAP_OPEN_RDONLY ? 4 : 0);
	printf("size=%" PRIu64 "\n", i->bytes);
	printf("ring=%s\n", run_path(RUN_RING, k->minor, path, sizeof(path)));
	printf("nbd=%s\n", run_path(RUN_NBD, k->minor, path, sizeof(path)));
}

int run_info(struct call *c)
{
	struct disk k;
	int err = ask(c, "", 0, take_disk, &k);

	if (err)
		return err;
	if (c->json)
		return print_json(disk_json(&k));
	print_info(&k);
	return 0;
}

int run_resize(struct call *c)
{
	struct disk k;
	uint64_t size = 0;
	char text[16];
	int err;

	if (c->operand && (size_parse(c->operand, &size) || !size))
		return call_usage(c, "'%s' is not a size: want a number of bytes, "
				  "optionally with k, M, G or T", c->operand);
	err = ask(c, "", size, take_disk, &k);
	if (err)
		return err;
	if (c->json)
		return print_json(disk_json(&k));
	printf("%" PRIu64 " (%s)\n", k.img.bytes,
	       size_text(k.img.bytes, text));
	return 0;
}
