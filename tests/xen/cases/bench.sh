# FULL: measures, and judges nothing
# Requests a second of a guest, and dom0's processor time for them, on tapdisk and
# on xen-blkback with a loop device, in turn, in one boot.  All is emulated: what
# the ratios say is how much work each does.
# TIMEOUT: 900
needs_xen_ring
truncate -s 64M "$T/a.img" "$T/b.img"
dd if=/dev/zero of="$T/a.img" bs=1M count=64 conv=notrunc 2>/dev/null
dd if=/dev/zero of="$T/b.img" bs=1M count=64 conv=notrunc 2>/dev/null
load loop && load xen_blkback || fail "no xen-blkback"
guest
start_ctl
losetup /dev/loop0 "$T/b.img" || fail "losetup"
echo 1 2>/dev/null >/sys/block/loop0/loop/dio
cpu() { xl list 0 | awk 'NR == 2 { print int($6 * 10) }'; }
# measure NAME: sets RATE, and COST in ms of dom0 a thousand requests.
measure()
{
	local begin
	begin=$(cpu)
	RATE=$(must "guestio bench /dev/$1 8 8")
	COST=$((($(cpu) - begin) * 100 * 1000 / (RATE * 8 + 1)))
}
attach xvdb "aio:$T/a.img"
xl block-attach "$DOM" phy:/dev/loop0,xvdc,w || fail "block-attach"
must "disk xvdc"
for i in 1 2 3; do
	measure xvdb
	ours="$RATE/s, $COST ms of dom0 a thousand"
	rate=$RATE cost=$COST
	measure xvdc
	echo "NOTE: tapdisk $ours; xen-blkback $RATE/s, $COST ms; ratio" \
		"$((rate * 100 / (RATE + 1)))% of the requests, $((cost * 100 / (COST + 1)))% of the time"
done
xl block-detach "$DOM" xvdc
must "nodisk xvdc"
detach xvdb
losetup -d /dev/loop0
rmmod xen_blkback
stop_ctl
