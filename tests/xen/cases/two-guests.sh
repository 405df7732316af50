# FULL: two guests' boots
# Two guests with two disks each, all under load at once.
# TIMEOUT: 600
needs_xen_ring
for i in 1 2 3 4; do truncate -s 8M "$T/$i.img"; done
start_ctl
guest g
attach xvdb "aio:$T/1.img"
attach xvdc "aio:$T/2.img"
guest h
attach xvdb "aio:$T/3.img"
attach xvdc "aio:$T/4.img"
must "load_begin /dev/xvdb 100000 3"
send "guestio load /dev/xvdc 4 3"
guest g
must "load_begin /dev/xvdb 100000 3"
must "guestio load /dev/xvdc 4 3"
must load_end
detach xvdb
detach xvdc
guest h
GUEST_SECONDS=120 must load_end
xl destroy h
wait_for 20 nothing_left || fail "left: $(tap-ctl list) $(backends)"
stop_ctl
