# A configuration with disks as users write them for blktap, started by tap-xl with
# the xl that is here: tap:aio:, tap:qcow2: with a colon in its path, file: and phy:;
# an ordinary shutdown leaves nothing.
# TIMEOUT: 400
needs_xen_ring
truncate -s 8M "$T/a.img" "$T/c.img"
tap-img create -q -f qcow2 "$T/b:1 2.qcow2" 8M || fail "tap-img"
start_ctl_xl
guest_config y "tap:aio:$T/a.img,xvda,w" "tap:qcow2:$T/b:1 2.qcow2,xvdb,w" \
	"file:$T/c.img,xvdc,r" "phy:/dev/vdb,xvdd,w" >y.cfg
G=y
create_guest y tap-xl create -q y.cfg
must "disk xvda && disk xvdb && disk xvdc && disk xvdd"
for d in a b d; do must "guestio write /dev/xvd$d 7 && guestio verify /dev/xvd$d 7"; done
must "guestio refuse /dev/xvdc"
[ "$(must "attr xvdd queue/physical_block_size")" = 4096 ] || fail "phy: sectors"
must "guestio load /dev/xvdb 3 4"
cp "$T/a.img" "$T/e.img"
tap-xl block-attach y "tap:aio:$T/e.img,xvde,w" || fail "tap-xl block-attach"
must "disk xvde && guestio verify /dev/xvde 7"
xl block-detach y xvde || fail "block-detach"
must "nodisk xvde"
send "sync; poweroff -f"
wait_for 90 no_guest y || fail "the guest stays: $(xl list)"
wait_for 30 nothing_left || fail "left: $(tap-ctl list) $(backends)"
tap-img check -q "$T/b:1 2.qcow2" || fail "the checker finds fault"
stop_ctl
