# A configuration with disks as users write them for blktap, started by tap-xl with
# the xl that is here: tap:aio:, tap:qcow2: with a colon in its path, tap:qcow:,
# tap:vmdk:, file: and phy:, with options of ours; an ordinary shutdown leaves nothing.
# SHORT: 4.17
# TIMEOUT: 400
needs_xen_ring
truncate -s 8M "$T/a.img" "$T/c.img"
mkdir base
dd if=/dev/urandom of=base/base.img bs=64k count=64 2>/dev/null
tap-img create -q -f qcow2 "$T/b:1 2.qcow2" 8M &&
	tap-img create -q -f qcow -b base/base.img -F raw f.qcow &&
	tap-img create -q -f vmdk g.vmdk 8M || fail "tap-img"
luks_image h.qcow2
printf 'a passphrase' >key
start_ctl_xl
guest_config y "tap:aio:$T/a.img,xvda,w" "tap:qcow2:$T/b:1 2.qcow2,xvdb,w" \
	"file:$T/c.img,xvdc,r" "phy:/dev/vdb,xvdd,w" \
	"tap:qcow:$T/f.qcow,xvdf,w,backing=aio:$T/base/base.img" \
	"tap:vmdk:$T/g.vmdk,xvdg,w,direct=off" \
	"tap:qcow2:$T/h.qcow2,xvdh,w,key-file=$T/key" >y.cfg
G=y
create_guest y tap-xl create -q y.cfg
must "disk xvda && disk xvdb && disk xvdc && disk xvdd && disk xvdf && disk xvdg && disk xvdh"
[ "$(must "md5sum </dev/xvdf" | cut -d' ' -f1)" = "$(md5sum <base/base.img | cut -d' ' -f1)" ] ||
	fail "the backing file is not read"
for d in a b d f g h; do must "guestio write /dev/xvd$d 7 && guestio verify /dev/xvd$d 7"; done
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
for f in "b:1 2.qcow2" g.vmdk; do
	tap-img check -q "$f" || fail "the checker finds fault: $f"
done
stop_ctl
