# A drive whose medium is changed and ejected while a guest has it.
# SHORT: 4.17
needs_xen_ring
truncate -s 2M "$T/b.img"
dd if=/dev/urandom of="$T/a.img" bs=64k count=16 2>/dev/null
dd if=/dev/urandom of="$T/b.img" bs=64k count=32 2>/dev/null
guest
start_ctl
B=/local/domain/0/backend/tap/$DOM/$(devid xvdd)
tap-ctl xen-attach "$DOM" xvdd "tap:cdrom:$T/a.img" >/dev/null || fail "xen-attach: status $?"
must "disk xvdd"
[ "$(must "attr xvdd ro")" = 1 ] || fail "the guest may write"
same() { [ "$(in_guest "dd if=/dev/xvdd bs=64k iflag=direct 2>/dev/null | md5sum")" = "$(md5sum <"$1")" ]; }
same "$T/a.img" || fail "not what the first medium has"
xenstore-write "$B/params" "aio:$T/b.img"
must "size xvdd 4096"
wait_for 20 same "$T/b.img" || fail "not what the second has"
xenstore-write "$B/params" ""
unreadable() { ! in_guest "dd if=/dev/xvdd of=/dev/null bs=64k iflag=direct 2>/dev/null"; }
wait_for 20 unreadable || fail "an empty drive is read: $(tap-ctl list)"
xenstore-write "$B/params" "aio:$T/b.img"
wait_for 20 same "$T/b.img" || fail "not what it had"
tap-ctl xen-detach "$DOM" xvdd || fail "xen-detach"
must "nodisk xvdd"
wait_for 20 nothing_left || fail "left: $(tap-ctl list) $(backends)"
stop_ctl
