# A disk that is to be taken away while the guest uses it.  Linux before 5.15 keeps it
# until its last user has closed it, and that one sees nothing; later ones give it up at
# once, and their user has errors.  Either way nothing is left, and the next disk works.
# SHORT: 4.20
# TIMEOUT: 400
. /lab/cases/kill.inc
in_flight() { tap-ctl stats -m "$MINOR" | grep -q '"inflight": *[1-9]'; }
# used: it is, from now on.
used()
{
	MINOR=$(tap-ctl list | sed -n 's/.*minor=\([0-9]*\).*/\1/p')
	must "load_begin /dev/xvdb 100000 6"
	wait_for 20 in_flight || fail "nothing is in flight: $(tap-ctl stats -m "$MINOR")"
}
truncate -s 8M "$T/a.img"
guest
start_ctl
attach xvdb "aio:$T/a.img"
used
case $(must "uname -r") in
[1-4].*|5.[0-9].*|5.1[0-4].*)
	tap-ctl xen-detach "$DOM" xvdb -t 5
	rc=$?
	[ $rc = 110 ] || fail "xen-detach: status $rc, not ETIMEDOUT"
	must gap >/dev/null
	pid=$(pid_of_disk)
	kill -KILL "$pid"
	wait_for 20 successor "$pid" || fail "no successor: $(tap-ctl list)"
	must gap >/dev/null
	must load_end ;;
*)
	tap-ctl xen-detach "$DOM" xvdb -t 120 || fail "xen-detach: status $?"
	in_guest load_end && fail "a load on a disk that has gone"
	must "nodisk xvdb"
	# It does not go before what is in flight has ended.
	truncate -s 256K "$T/slow.img"
	attach xvdb "delay:ms=1500|aio:$T/slow.img"
	used
	tap-ctl xen-detach "$DOM" xvdb -t 120 || fail "xen-detach: status $?"
	in_guest load_end && fail "a load on a slow disk that has gone" ;;
esac
must "nodisk xvdb"
must calm
wait_for 20 nothing_left || fail "left: $(tap-ctl list) $(backends)"
attach xvdb "aio:$T/a.img"
must "guestio write /dev/xvdb 7 && guestio verify /dev/xvdb 7"
detach xvdb
stop_ctl
