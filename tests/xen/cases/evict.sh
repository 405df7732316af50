# A guest that keeps more pages granted than are kept mapped for it: what is beyond
# is copied, what has not been used for a while makes room, and the data is right.
# (Front ends of Linux before 6.12 keep to the same pages: there is nothing to evict.)
# XEN: 4.20
needs_xen_ring
truncate -s 16M "$T/a.img"
guest
must "rmmod xen_blkfront; load xen_blkfront max_ring_page_order=4 max_queues=1"
start_ctl
attach xvdb "aio:$T/a.img"
must "guestio write /dev/xvdb 7"
stat() { tap-ctl stats -m 0 | tr ',{}' '\n' | sed -n "s/^\"$1\"://p" | head -n 1; }
crowd='for i in 0 1 2; do dd if=/dev/xvdb of=/dev/null bs=4M skip=$i iflag=direct 2>/dev/null & done; wait'
evicted() { must "$crowd"; sleep 0.3; must "$crowd"; [ "$(stat evicted)" -gt 0 ]; }
wait_for 60 evicted || fail "nothing was evicted: $(tap-ctl stats -m 0)"
[ "$(stat mapped)" -gt 1000 ] || fail "mapped: $(stat mapped)"
[ "$(stat copied)" -gt 0 ] || fail "nothing was copied: $(tap-ctl stats -m 0)"
must "guestio verify /dev/xvdb 7"
must "guestio load /dev/xvdb 5 16"
[ "$(stat bad_grants)" = 0 ] || fail "grants were refused: $(tap-ctl stats -m 0)"
echo "NOTE: mapped $(stat mapped), evicted $(stat evicted), copied $(stat copied)"
detach xvdb
must "rmmod xen_blkfront; load xen_blkfront"
stop_ctl
