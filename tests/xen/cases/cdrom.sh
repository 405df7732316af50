# A drive whose medium is changed and ejected while a guest has it; its toolstack
# writes the nodes by itself.
needs_xen_ring
truncate -s 2M "$T/b.img"
dd if=/dev/urandom of="$T/a.img" bs=64k count=16 2>/dev/null
dd if=/dev/urandom of="$T/b.img" bs=64k count=32 2>/dev/null
guest
start_ctl
V=$(devid xvdd)
B=/local/domain/0/backend/tap/$DOM/$V F=/local/domain/$DOM/device/vbd/$V
xenstore-write "$F" "" "$B" "" && xenstore-chmod "$F" "n$DOM" r0 &&
	xenstore-chmod "$B" n0 "r$DOM" || fail "xenstore-chmod"
xenstore-write "$B/frontend" "$F" "$B/frontend-id" "$DOM" "$B/online" 1 "$B/removable" 1 \
	"$B/dev" xvdd "$B/type" tap "$B/mode" r "$B/device-type" cdrom \
	"$B/params" "aio:$T/a.img" "$B/state" 1 "$F/backend" "$B" "$F/backend-id" 0 \
	"$F/virtual-device" "$V" "$F/device-type" cdrom "$F/state" 1 || fail "xenstore-write"
must "disk xvdd"
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
