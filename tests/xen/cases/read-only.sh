# mode r: the guest sees a read-only disk, a write fails, the file stays as it is.
# SHORT: 4.17
needs_xen_ring
dd if=/dev/urandom of="$T/a.img" bs=64k count=16 2>/dev/null
sum=$(md5sum <"$T/a.img")
guest
start_ctl
attach xvdb "aio:$T/a.img" r
[ "$(must "attr xvdb ro")" = 1 ] || fail "the guest may write"
[ "$(must "attr xvdb queue/write_cache")" = write_through ] || fail "the guest would flush"
[ "$(must "attr xvdb queue/discard_max_bytes")" = 0 ] || fail "the guest would discard"
must "guestio refuse /dev/xvdb"
[ "$(must "md5sum </dev/xvdb" | cut -d' ' -f1)" = "${sum%% *}" ] || fail "not what the file has"
detach xvdb
[ "$(md5sum <"$T/a.img")" = "$sum" ] || fail "the file has changed"
stop_ctl
