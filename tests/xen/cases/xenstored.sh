# xenstored is replaced by another process of it, as in an update of Xen, while a
# guest's disk is under load: the load goes on, and disks still come, are paused and
# go.  (One that dies takes along what it knows: then disks go on, and no more.)
# (Xen 4.14's cannot be updated.)
# XEN: 4.17 4.20
# SHORT: 4.20
. /lab/cases/kill.inc
truncate -s 8M "$T/a.img" "$T/b.img"
guest
start_ctl
attach xvdb "aio:$T/a.img"
must "load_begin /dev/xvdb 100000 4"
for i in 1 2; do
	out=$(timeout 240 xenstore-control live-update "$(command -v xenstored)") ||
		fail "live-update: $out"
	sleep 1
	must load_on
	attach xvdc "aio:$T/b.img"
	must "guestio write /dev/xvdc $i && guestio verify /dev/xvdc $i"
	detach xvdc
done
MINOR=0
pid=$(pid_of_disk)
kill -KILL "$pid"
wait_for 20 successor "$pid" || fail "no successor: $(tap-ctl list)"
must gap >/dev/null
must load_end
detach xvdb
wait_for 20 nothing_left || fail "left: $(tap-ctl list) $(backends)"
stop_ctl
