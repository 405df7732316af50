#!/bin/bash
# ALONE: it uses the default run directory
# As root in the default run directory, tapdisk3's names are there too, whatever
# happens to daemon and disk, and nothing of a stranger is touched.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
requires_root "the default run directory is root's"
RUN=/var/run/tap TD3=/run/blktap-control
[ ! -e $RUN ] && [ ! -e $TD3 ] || skip "$RUN or $TD3 is in use"
at_exit "rm -rf $RUN $TD3"
unset BLKTAP_RUNDIR
start_ctl
create ram:1M
marker=$TD3/tapdisk/tapdisk-$MINOR
check()	# check PID: all is there
{
	[ "$(stat -c %a $TD3)" = 755 ] || fail "mode of $TD3"
	[ -S "$TD3/nbd$1.$MINOR" ] || fail "no nbd$1.$MINOR: $(ls -R $TD3)"
	[ -f "$marker" ] || fail "no marker: $(ls -R $TD3)"
	[ "$(find $TD3 -type l | wc -l)" = 2 ] || fail "stale names: $(ls -R $TD3)"
}
check "$PID"
: >$TD3/nbd1.2 && ln -s /etc/passwd $TD3/nbd3.4
kill -KILL "$CTL_PID"; wait "$CTL_PID" 2>/dev/null
ln -s $RUN/nbd9.sock $TD3/nbd99.9
start_ctl
rm $TD3/nbd1.2 $TD3/nbd3.4 || fail "a stranger's name was removed"
check "$PID"
kill -KILL "$PID"
wait_for 5 [ ! -L "$TD3/nbd$PID.$MINOR" ] || fail "the dead one's name stays"
destroy "$MINOR"
[ ! -L "$marker" ] || fail "the marker's name stays"
create ram:1M
stop_ctl
[ -z "$(find $TD3 -type l)" ] || fail "left: $(ls -R $TD3)"
