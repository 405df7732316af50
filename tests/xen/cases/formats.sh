# Images of other formats under a guest's verified load: qcow2 with a backing
# file, qcow, vmdk.  What is in the file afterwards is checked and compared in dom0.
# SHORT: 4.17
# TIMEOUT: 600
needs_xen_ring
dd if=/dev/urandom of="$T/base.img" bs=64k count=128 2>/dev/null
tap-img create -q -f qcow2 -b "$T/base.img" -F raw "$T/d.qcow2" || fail "create qcow2"
tap-img create -q -f qcow "$T/d.qcow" 8M || fail "create qcow"
tap-img create -q -f vmdk "$T/d.vmdk" 8M || fail "create vmdk"
guest
start_ctl
for f in qcow2 qcow vmdk; do
	attach xvdb "$f:$T/d.$f"
	must "guestio load /dev/xvdb 4 4"
	must "guestio write /dev/xvdb 5 1048576 2097152"
	sum=$(must "sync; md5sum </dev/xvdb")
	detach xvdb
	tap-img check -q "$T/d.$f" || fail "$f: the checker finds fault"
	tap-img convert -f $f -O raw "$T/d.$f" "$T/out.img" || fail "$f: convert"
	[ "$(md5sum <"$T/out.img" | cut -d' ' -f1)" = "${sum%% *}" ] ||
		fail "$f: the image has not what the guest saw"
	rm "$T/out.img"
done
stop_ctl
