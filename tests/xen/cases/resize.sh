# A disk that grows, and shrinks, under a guest that uses it.
needs_xen_ring
truncate -s 4M "$T/a.img"
guest
start_ctl
attach xvdb "aio:$T/a.img"
must "guestio write /dev/xvdb 3"
must "load_begin /dev/xvdb 100000 4"
sleep 2
truncate -s 8M "$T/a.img"
tap-ctl resize -m 0 || fail "resize: status $?"
must "size xvdb 16384"
must load_end
must "guestio write /dev/xvdb 4"
must "guestio verify /dev/xvdb 4"
detach xvdb
stop_ctl
