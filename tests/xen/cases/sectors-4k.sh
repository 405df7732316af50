# A disk on a device of 4096-byte sectors (dom0's second, which QEMU makes so): the
# guest is told what to align to, and its data is right, single sectors of 512
# bytes included.
# SHORT: 4.17
needs_xen_ring
[ "$(cat /sys/block/vdb/queue/logical_block_size)" = 4096 ] || fail "dom0 has no such disk"
guest
start_ctl
attach xvdb aio:/dev/vdb
[ "$(must "attr xvdb queue/physical_block_size")" = 4096 ] || fail "the guest is told of other sectors"
[ "$(must "attr xvdb size")" = "$(cat /sys/block/vdb/size)" ] || fail "size: $(must "attr xvdb size")"
must "guestio write /dev/xvdb 7"
must "guestio verify /dev/xvdb 7"
must "dd if=/dev/zero of=/dev/xvdb bs=512 seek=3 count=2 oflag=direct 2>/dev/null"
must "guestio verify /dev/xvdb 7 4096"
[ "$(must "dd if=/dev/xvdb bs=512 skip=3 count=2 2>/dev/null | tr -d '\\000' | wc -c")" = 0 ] ||
	fail "sectors of 512 bytes"
must "guestio load /dev/xvdb 3 4"
detach xvdb
stop_ctl
