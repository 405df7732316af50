# A guest that keeps more pages granted than are kept mapped for it (1056 a queue): what
# has not been used for a while makes room, what is beyond is copied, the data is right.
# FULL: minutes; unit/xen_grants has the rules
. /lab/cases/hostile.inc
ring() { tr ',{}' '\n' <"$T/now" | sed -n "s/^\"$1\"://p" | head -n 1; }
# The last numbers of its ring, when it asks: when that is gone, they are.
asked() { [ "$(xenstore-read "$LOOK" 2>/dev/null)" = please ]; }
look() { wait_for 200 asked && tap-ctl stats -m 1 >"$T/now" && xenstore-write "$LOOK" seen; }

hostile_begin
must "echo 4096 >/sys/module/xen_gntalloc/parameters/limit"
LOOK=/local/domain/$DOM/device/vbd/$HOSTILE/look
look &
looks=$!
trap 'kill $looks 2>/dev/null' EXIT
hostile crowd 0 1300
wait $looks || fail "its numbers were not seen"
[ "$(ring evicted)" -gt 0 ] || fail "nothing was evicted: $(cat "$T/now")"
[ "$(ring mapped)" -gt 1000 ] || fail "mapped: $(ring mapped)"
[ "$(ring copied)" -gt 0 ] || fail "nothing was copied: $(cat "$T/now")"
[ "$(ring bad_grants)" = 0 ] || fail "grants were refused: $(cat "$T/now")"
echo "NOTE: mapped $(ring mapped), evicted $(ring evicted), copied $(ring copied)"
hostile_end
