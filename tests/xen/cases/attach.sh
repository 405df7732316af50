# A raw image given to a running guest and taken away again: size, verified data,
# flush, discard that gives space back, and nothing left of it in xenstore, in the
# daemon or in tapdisk.
# SHORT: 4.20
needs_xen_ring
truncate -s 16M "$T/a.img"
guest
start_ctl
attach xvdb "aio:$T/a.img"
[ "$(must "attr xvdb size")" = 32768 ] || fail "size: $(must "attr xvdb size")"
[ "$(must "attr xvdb ro")" = 0 ] || fail "read-only"
[ "$(must "attr xvdb queue/write_cache")" = write_back ] || fail "the guest knows of no flush"
[ "$(must "attr xvdb queue/discard_max_bytes")" != 0 ] || fail "the guest knows of no discard"
must "guestio write /dev/xvdb 7"
must "guestio verify /dev/xvdb 7"
must "guestio load /dev/xvdb 3 4 flush"
tap-ctl stats -m 0 | grep -q '"flush":{"count":[1-9]' || fail "no flush came: $(tap-ctl stats -m 0)"
before=$(du -k "$T/a.img" | cut -f1)
must "guestio discard /dev/xvdb 1048576 8388608"
must "guestio verify /dev/xvdb 0 1048576 8388608"
after=$(du -k "$T/a.img" | cut -f1)
[ $((before - after)) -ge 8000 ] || fail "discard gave nothing back: $before then $after KiB"
must "guestio write /dev/xvdb 9"
detach xvdb
[ -z "$(backends)" ] || fail "left: $(backends)"
[ -z "$(tap-ctl list)" ] || fail "left: $(tap-ctl list)"
# what the guest wrote stands in the file
create "aio:$T/a.img"
tap-io -m "$MINOR" -c 'read 0 4k' >/dev/null || fail "reading in dom0"
tap-ctl destroy -m "$MINOR"
stop_ctl
