# A file system that the guest makes, fills, leaves and finds again.
# SHORT: 4.20
needs_xen_ring
tap-img create -q -f qcow2 "$T/a.qcow2" 32M || fail "create"
guest
start_ctl
attach xvdb "qcow2:$T/a.qcow2"
must "load ext4"
must "mke2fs /dev/xvdb >/dev/null 2>&1 && mount -t ext4 /dev/xvdb /mnt"
must "dd if=/dev/urandom of=/mnt/a bs=64k count=80 2>/dev/null && md5sum </mnt/a >/mnt/sum && umount /mnt"
detach xvdb
attach xvdc "qcow2:$T/a.qcow2"
must "mount -t ext4 /dev/xvdc /mnt && md5sum </mnt/a | cmp - /mnt/sum && umount /mnt"
detach xvdc
tap-img check -q "$T/a.qcow2" || fail "the checker finds fault"
stop_ctl
