/* control.h - the control channel of one tapdisk: messages of blktapctrl over
 * the two pipes become operations on the disk. */
#ifndef CONTROL_H
#define CONTROL_H

#include <sys/types.h>

struct control;
struct disk;
struct files;
struct journal;
struct loop;
struct td_secret;

struct control_fds {
	int pipe_in;		/* RUNDIR/tapctrlwriteN, for reading */
	int pipe_out;		/* RUNDIR/tapctrlreadN, for writing */
	int files;		/* RUNDIR/tapfdN.sock, listening */
};

/* The descriptors are ours from now on.  uid: whom besides root we obey.  The
 * disk's td_env gets its file_get from here.  NULL and errno. */
struct control *control_new(struct loop *l, struct disk *d,
			    const struct control_fds *fds, uid_t uid);
void control_free(struct control *c);

/* Where fronts keep their records, or NULL: none has come. */
struct journal *control_journal(struct control *c);
struct files *control_files(struct control *c);

/* td_env.key_found's work. */
void control_key_found(struct control *c, const struct td_secret *key);

/* Close the disk as DETACH would and stop the loop: SIGTERM. */
void control_quit(struct control *c);

#endif
