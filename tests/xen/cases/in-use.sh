# A disk that is to be taken away while the guest uses it.  Linux before 5.15 keeps it
# until its last user has closed it, and that one sees nothing; later ones give it up at
# once, and their user has errors.  Either way nothing is left, and the next disk works.
# TIMEOUT: 400
needs_xen_ring
truncate -s 8M "$T/a.img"
guest
start_ctl
attach xvdb "aio:$T/a.img"
must "load_begin /dev/xvdb 100000 6"
sleep 2
tap-ctl xen-detach "$DOM" xvdb -t 20
rc=$?
case $(must "uname -r") in
[1-4].*|5.[0-9].*|5.1[0-4].*)
	[ $rc = 110 ] || fail "xen-detach: status $rc, not ETIMEDOUT"
	must gap >/dev/null
	kill -KILL "$(tapdisks)"
	sleep 3
	must gap >/dev/null
	must load_end ;;
*)
	[ $rc = 0 ] || fail "xen-detach: status $rc"
	in_guest load_end && fail "a load on a disk that has gone"
	must "nodisk xvdb"
	# It does not go before what is in flight has ended.
	attach xvdb "delay:ms=1500|aio:$T/a.img"
	must "load_begin /dev/xvdb 100000 6"
	sleep 2
	tap-ctl xen-detach "$DOM" xvdb || fail "xen-detach: status $?"
	in_guest load_end && fail "a load on a slow disk that has gone" ;;
esac
must "nodisk xvdb"
must calm
wait_for 20 nothing_left || fail "left: $(tap-ctl list) $(backends)"
attach xvdb "aio:$T/a.img"
must "guestio write /dev/xvdb 7 && guestio verify /dev/xvdb 7"
detach xvdb
stop_ctl
