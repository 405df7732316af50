/* verbs.c - the one table of tap-ctl: what main.c dispatches by, what --help
 * prints, and what the documentation test compares the man page and the
 * completion with. */
#include "tap-ctl.h"

#define O_COMMON                                                             \
	{ CTL_OPT_JSON, "json", NULL, "print JSON" },                        \
	OPT_COMMON, OPT_END
#define O_PID { 'p', "pid", "PID", "its tapdisk's pid" }
#define O_MINOR { 'm', "minor", "MINOR", "the disk's number" }
#define O_WAIT { 't', "timeout", "SECS", "give up after so many seconds; 0: the default" }
#define O_IMAGE { 'a', "args", "TYPE:/path", "the image, as TYPE:/path" }
#define O_BACKING { CTL_OPT_BACKING, "backing", "SPEC", "what is below it, as " \
	"TYPE:/path; repeat from the top down; none: nothing is" }
#define O_KEYS                                                               \
	{ CTL_OPT_KEY_FILE, "key-file", "FILE", "a key of the image is in FILE " \
	  "(-: standard input); may be repeated" },                          \
	{ CTL_OPT_KEY_FD, "key-fd", "N", "the same of an open descriptor" }
#define O_NAME { 'd', NULL, "NAME", "accepted for tapdisk3's sake, unused" }
#define O_FLAGS                                                              \
	{ 'R', "read-only", NULL, "nobody can write to it" },                \
	{ 'D', "no-direct", NULL, "through the page cache, no O_DIRECT" }
/* tapdisk3's, refused with a line that says so. */
#define O_REFUSED                                                            \
	{ 'r', NULL, NULL, NULL }, { 'e', NULL, "MINOR", NULL },             \
	{ '2', NULL, "PATH", NULL }, { 's', NULL, NULL, NULL },              \
	{ 'C', NULL, "PATH", NULL }, { 'E', NULL, NULL, NULL }
#define O_SLICE { 'c', NULL, "SLICE", NULL }

static const struct opt opts_none[] = { O_COMMON };
static const struct opt opts_list[] = {
	{ 'p', "pid", "PID", "only this tapdisk's" },
	{ 'm', "minor", "MINOR", "only this disk" },
	{ 't', "type", "TYPE", "only images of this type" },
	{ 'f', "file", "FILE", "only images at this path" },
	O_COMMON
};
static const struct opt opts_allocate[] = { O_NAME, O_COMMON };
static const struct opt opts_spawn[] = { O_SLICE, O_COMMON };
static const struct opt opts_disk[] = { O_PID, O_MINOR, O_COMMON };
static const struct opt opts_wait[] = { O_PID, O_MINOR, O_WAIT, O_COMMON };
static const struct opt opts_minor[] = { O_MINOR, O_COMMON };
static const struct opt opts_open[] = {
	O_PID, O_MINOR, O_IMAGE, O_BACKING, O_KEYS, O_FLAGS, O_WAIT, O_REFUSED, O_COMMON
};
static const struct opt opts_close[] = {
	O_PID, O_MINOR,
	{ 'f', "force", NULL, "accepted for tapdisk3's sake: a close never waits for clients" },
	O_WAIT, O_COMMON
};
static const struct opt opts_destroy[] = {
	O_PID, O_MINOR,
	{ 'f', "force", NULL, "kill a tapdisk that does not close in time" },
	O_WAIT, O_COMMON
};
static const struct opt opts_create[] = {
	O_IMAGE, O_BACKING, O_KEYS, O_FLAGS, O_WAIT, O_NAME, O_SLICE, O_REFUSED, O_COMMON
};
static const struct opt opts_unpause[] = {
	O_PID, O_MINOR,
	{ 'a', "args", "TYPE:/path", "go on with this image instead" },
	O_BACKING, O_KEYS, O_WAIT, { '2', NULL, "PATH", NULL }, { 'c', NULL, "PATH", NULL },
	O_COMMON
};
static const struct opt opts_shutdown[] = { O_WAIT, O_COMMON };
static const struct opt opts_major[] = {
	{ 'b', NULL, NULL, "the block device's (as without)" },
	{ 'c', NULL, NULL, "the character device's" },
	O_COMMON
};

static const struct opt opts_xen_attach[] = {
	O_BACKING, O_KEYS,
	{ 'R', "read-only", NULL, "as r" },
	O_WAIT, O_COMMON
};
static const struct opt opts_xen_detach[] = { O_WAIT, O_COMMON };

#define IMAGE_HELP                                                           \
	"TYPE:/path is for example aio:/srv/a.img, ram:1G, or\n"             \
	"FILTER:OPTIONS|TYPE:/path; `tapdisk --features' lists the types.\n"   \
	"With --backing the image's own word for what is below it counts for\n" \
	"nothing.\n"

const struct verb ctl_verbs[] = {
	{ .name = "list", .args = "[-p PID] [-m MINOR] [-t TYPE] [-f FILE]",
	  .help = "list disks and tapdisks",
	  .more = "On a terminal, in columns:\n"
		  "     pid minor state       type file\n"
		  "else a line each, for scripts, absent fields left out:\n"
		  "pid=N minor=N state=0xN args=TYPE:/path\n"
		  "States: 0 running, 0x1 dead, 0x2 closed, 0x10 pausing, "
		  "0x20 paused,\n0x40 closing, 0x80 opening, 0x220 paused and "
		  "the last unpause failed.\n",
	  .opts = opts_list, .ask = TAP_CTL_LIST, .run = run_list },
	{ .name = "create",
	  .args = "-a TYPE:/path [--backing SPEC]... [--key-file FILE]... "
		  "[-R] [-D] [-t SECS]",
	  .help = "make a disk of an image: allocate, spawn, attach, open",
	  .more = IMAGE_HELP "Prints the path of the disk's marker; its last "
		  "digits are the minor.\n",
	  .opts = opts_create, .need = "a", .ask = TAP_CTL_CREATE,
	  .run = run_create },
	{ .name = "destroy", .args = "-m MINOR [-p PID] [-f] [-t SECS]",
	  .help = "undo create: close, detach, free",
	  .more = "If the last flush of the image fails the disk is removed, and "
		  "the loss is told.\nWith -f one that is stuck is removed too; "
		  "what was not flushed is lost.\n",
	  .opts = opts_destroy, .need = "m", .ask = TAP_CTL_DESTROY,
	  .run = run_plain },
	{ .name = "allocate", .args = "", .help = "reserve the lowest free minor",
	  .more = "Prints the path of its marker; the last digits are the "
		  "minor.\n",
	  .opts = opts_allocate, .ask = TAP_CTL_ALLOCATE, .run = run_allocate },
	{ .name = "free", .args = "-m MINOR", .help = "give a minor back",
	  .opts = opts_minor, .need = "m", .ask = TAP_CTL_FREE,
	  .run = run_plain },
	{ .name = "spawn", .args = "",
	  .help = "start a tapdisk that has no disk yet",
	  .more = "Prints its pid.\n",
	  .opts = opts_spawn, .ask = TAP_CTL_SPAWN, .run = run_spawn },
	{ .name = "attach", .args = "-p PID -m MINOR",
	  .help = "give a minor to a tapdisk",
	  .opts = opts_disk, .need = "pm", .ask = TAP_CTL_ATTACH,
	  .run = run_plain },
	{ .name = "detach", .args = "-m MINOR [-p PID]",
	  .help = "take the minor away; its tapdisk ends",
	  .opts = opts_disk, .need = "m", .ask = TAP_CTL_DETACH,
	  .run = run_plain },
	{ .name = "open",
	  .args = "-m MINOR [-p PID] -a TYPE:/path [--backing SPEC]... "
		  "[--key-file FILE]... [-R] [-D] [-t SECS]",
	  .help = "open an image on an attached disk", .more = IMAGE_HELP,
	  .opts = opts_open, .need = "ma", .ask = TAP_CTL_OPEN,
	  .run = run_plain },
	{ .name = "close", .args = "-m MINOR [-p PID] [-f] [-t SECS]",
	  .help = "drain, flush and close the image",
	  .opts = opts_close, .need = "m", .ask = TAP_CTL_CLOSE,
	  .run = run_plain },
	{ .name = "pause", .args = "-m MINOR [-p PID] [-t SECS]",
	  .help = "drain, flush, close the image, hold the clients",
	  .more = "Until unpause the image is free for other programs.\n",
	  .opts = opts_wait, .need = "m", .ask = TAP_CTL_PAUSE,
	  .run = run_plain },
	{ .name = "unpause",
	  .args = "-m MINOR [-p PID] [-a TYPE:/path [--backing SPEC]...] "
		  "[--key-file FILE]... [-t SECS]",
	  .help = "open the image, or another one, and go on",
	  .more = "If it fails the disk stays paused.\n",
	  .opts = opts_unpause, .need = "m", .ask = TAP_CTL_UNPAUSE,
	  .run = run_plain },
	{ .name = "resize", .args = "-m MINOR [-p PID] [-t SECS] [SIZE]",
	  .help = "grow a disk while it runs",
	  .more = "SIZE is bytes, or with k, M, G, T.  Without it the disk "
		  "takes up what its\nimage has grown to.\n",
	  .opts = opts_wait, .need = "m", .operand = true,
	  .ask = TAP_CTL_RESIZE, .run = run_resize },
	{ .name = "stats", .args = "[-m MINOR] [-p PID]",
	  .help = "counters and latencies as JSON, of a disk or of all",
	  .more = "Of one disk an object; without -m and -p an array of those of "
		  "all disks.\n",
	  .act = "read statistics",
	  .opts = opts_disk, .ask = TAP_CTL_STATS,
	  .run = run_stats },
	{ .name = "info", .args = "-m MINOR [-p PID]",
	  .help = "what a disk is: size, sectors, sockets",
	  .act = "read information",
	  .opts = opts_disk, .need = "m", .ask = TAP_CTL_INFO,
	  .run = run_info },
	{ .name = "debug", .args = "[-m MINOR] [-p PID] AREAS",
	  .help = "switch debug messages of a disk or of the daemon",
	  .more = "AREAS is for example ring,disk or ring=0 or all or none.  "
		  "Without -m and -p\nthe daemon's own.\n",
	  .act = "set debug areas",
	  .opts = opts_disk, .operand = true, .ask = TAP_CTL_DEBUG,
	  .run = run_debug },
	{ .name = "shutdown", .args = "[-t SECS]",
	  .help = "close every disk, then end the daemon", .act = "shut down",
	  .opts = opts_shutdown, .ask = TAP_CTL_SHUTDOWN, .run = run_shutdown },
	{ .name = "major", .args = "[-b | -c]",
	  .help = "tapdisk3's; there is no kernel driver, so it fails",
	  .act = "tell the major number",
	  .opts = opts_major, .run = run_major },
	{ .name = "xen-attach",
	  .args = "GUEST VDEV tap:TYPE:/path [r|w] [--backing SPEC]... "
		  "[--key-file FILE]... [-t SECS]",
	  .help = "give a guest of Xen a disk, while it runs or before",
	  .more = "GUEST is its name or number; VDEV is what it sees: xvdb, sda1, "
		  "51728, ...\ntap:cdrom:... is a read-only drive, whose medium can be "
		  "changed.\nPrints the path of the disk's marker.\n",
	  .act = "attach",
	  .opts = opts_xen_attach, .operand = true, .n_more = 3,
	  .ask = TAP_CTL_XEN_ATTACH, .run = run_xen_attach },
	{ .name = "xen-detach", .args = "GUEST VDEV [-t SECS]",
	  .help = "take a disk of xen-attach away from a guest",
	  .more = "Waits until the guest has let go of it; the disk is closed "
		  "then.\n",
	  .act = "detach",
	  .opts = opts_xen_detach, .operand = true, .n_more = 1,
	  .ask = TAP_CTL_XEN_DETACH, .run = run_xen_detach },
	{ .name = "xen-list", .args = "",
	  .help = "list the disks of Xen's guests, whoever attached them",
	  .more = "A line each: guest, device, kind of backend, states of backend "
		  "and frontend,\nminor, pid, r or w, image.\n",
	  .act = "list guests' disks",
	  .opts = opts_none, .ask = TAP_CTL_XEN_LIST, .run = run_xen_list },
	{ .name = "check", .args = "", .help = "does the daemon answer?",
	  .opts = opts_none, .ask = TAP_CTL_CHECK, .run = run_check },
	{ .name = "version", .args = "",
	  .help = "the versions of tap-ctl and of the daemon, if it runs",
	  .opts = opts_none, .ask = TAP_CTL_CHECK, .run = run_version },
	{ .name = NULL },
};
