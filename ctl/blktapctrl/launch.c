/* launch.c - see launch.h.
 *
 * Listening sockets stay open here too (vdisk.listen), so that a client that
 * comes while there is no tapdisk waits for the next one and notices nothing.
 */
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "ctl.h"
#include "names.h"
#include "proc.h"
#include "vdisk.h"

int launch_start(struct vdisk *vd, const char **what)
{
	int fd, err;

	*what = "make its pipes";
	err = names_pipes(vd->number);
	if (err)
		return err;
	*what = "make its socket";
	fd = names_listen(RUN_FD, vd->number, SOCK_SEQPACKET);
	if (fd < 0) {
		err = fd;
		goto fail_names;
	}
	*what = "open its pipes";
	err = chan_open(&vd->chan, vd->number, O_RDWR);
	if (err)
		goto fail_listen;
	*what = ctl.tapdisk;
	err = proc_start(vd, fd);
	if (err)
		goto fail_chan;
	close(fd);
	chan_hello(&vd->chan);
	return 0;

fail_chan:
	chan_close(&vd->chan);
fail_listen:
	close(fd);
fail_names:
	names_remove_channel(vd->number);
	return err;
}

static int pass_store(struct vdisk *vd, enum run_name name, enum tap_fd_kind kind,
		      uint64_t bytes, bool anew)
{
	int err, fd = anew ? -ENOENT : names_store_open(name, vd->minor);

	if (fd == -ENOENT)
		fd = names_store(name, vd->minor, bytes);
	if (fd < 0)
		return fd;
	err = chan_send_fd(&vd->chan, kind, 0, fd);
	close(fd);
	return err;
}

static int pass_socket(struct vdisk *vd, enum run_name name, enum tap_fd_kind kind,
		       int *fd, bool anew)
{
	if (anew && *fd >= 0) {
		close(*fd);
		*fd = -1;
	}
	if (*fd < 0) {
		int err = names_listen(name, vd->minor, SOCK_STREAM);

		if (err < 0)
			return err;
		*fd = err;
	}
	return chan_send_fd(&vd->chan, kind, 0, *fd);
}

/* In this order: NEWDEV is done when the sockets are there. */
static int equip(struct vdisk *vd, bool stores, bool anew, const char **what)
{
	int err = 0;

	*what = "pass its journal";
	if (stores)
		err = pass_store(vd, RUN_JOURNAL, TAP_FD_JOURNAL,
				 TAP_JOURNAL_BYTES, anew);
	if (err)
		return err;
	*what = "pass its redo log";
	if (stores)
		err = pass_store(vd, RUN_REDO, TAP_FD_REDO, TAP_REDO_BYTES, anew);
	if (err)
		return err;
	*what = "pass its sockets";
	err = pass_socket(vd, RUN_RING, TAP_FD_RING, &vd->listen[0], anew);
	if (err)
		return err;
	return pass_socket(vd, RUN_NBD, TAP_FD_NBD, &vd->listen[1], anew);
}

int launch_equip(struct vdisk *vd, bool lasting, const char **what)
{
	return equip(vd, lasting, true, what);
}

int launch_equip_again(struct vdisk *vd, const char **what)
{
	return equip(vd, true, false, what);
}
