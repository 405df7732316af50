# XEN: 4.20
# Xen's own toolstack and its unmodified script: a guest made with backendtype=tap
# boots with its disks, one of them read-only; another disk comes and goes while it
# runs; it is destroyed; and nothing is left.
# TIMEOUT: 400
needs_xen_ring
truncate -s 8M "$T/a.img" "$T/c.img"
dd if=/dev/urandom of="$T/b.img" bs=64k count=16 2>/dev/null
start_ctl
tap() { echo "vdev=$1,backendtype=tap,format=raw,access=${3:-rw},target=$2"; }
guest_config x "$(tap xvda "$T/a.img")" "$(tap xvdb "$T/b.img" ro)" >x.cfg
G=x
create_guest x xl create -q x.cfg
must "disk xvda && disk xvdb"
must "guestio write /dev/xvda 7"
must "guestio verify /dev/xvda 7"
must "guestio load /dev/xvda 3 4"
must "guestio refuse /dev/xvdb"
[ "$(must "md5sum </dev/xvdb" | cut -d' ' -f1)" = "$(md5sum <"$T/b.img" | cut -d' ' -f1)" ] ||
	fail "the read-only disk has not what its file has"
[ "$(xl block-list x | grep -c vbd3)" = 2 ] || fail "xl block-list: $(xl block-list x)"
xl block-attach x "$(tap xvdc "$T/c.img")" || fail "block-attach"
must "disk xvdc && guestio write /dev/xvdc 3 && guestio verify /dev/xvdc 3"
xl block-detach x xvdc || fail "block-detach"
must "nodisk xvdc"
# xentop's numbers are those of tapdisk
shown()
{
	TERM=linux timeout 60 xentop -b -i 1 -x >top 2>&1
	grep -E 'VBD Tapdisk3 +51712 .*WR: *[1-9]' top
}
wait_for 10 shown || fail "xentop shows: $(grep VBD top)"
xl block-attach x "$(tap xvdd "$T/none.img")" >err 2>&1 && fail "attached what is not there"
grep -q "none.img" err || fail "xl does not say why: $(cat err)"
xl block-detach x xvdd >/dev/null 2>&1
xl destroy x || fail "destroy"
wait_for 20 nothing_left || fail "left: $(tap-ctl list) $(backends)"
stop_ctl
