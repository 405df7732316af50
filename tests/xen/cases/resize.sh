# A disk that grows under a guest that uses it; that it becomes smaller is refused,
# and the guest sees nothing of the attempt.
# SHORT: 4.17
needs_xen_ring
truncate -s 4M "$T/a.img"
guest
start_ctl
attach xvdb "aio:$T/a.img"
must "guestio write /dev/xvdb 3"
must "load_begin /dev/xvdb 100000 4"
truncate -s 8M "$T/a.img"
tap-ctl resize -m 0 || fail "resize: status $?"
must "size xvdb 16384"
tap-ctl resize -m 0 4M >/dev/null 2>&1
[ $? = 34 ] || fail "a smaller size is not refused with ERANGE"
sleep 1
[ "$(must "attr xvdb size")" = 16384 ] || fail "size: $(must "attr xvdb size")"
must load_end
must "guestio write /dev/xvdb 4"
must "guestio verify /dev/xvdb 4"
detach xvdb
stop_ctl
