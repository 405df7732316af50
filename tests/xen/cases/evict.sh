# A guest that keeps more pages granted than are kept mapped for it (1056 a queue): what
# has not been used for a while makes room, and the data is right.
. /lab/cases/hostile.inc
stat() { tap-ctl stats -m 1 | tr ',{}' '\n' | sed -n "s/^\"$1\"://p" | head -n 1; }
# While it runs: afterwards the ring and its numbers are gone.
watch_stats()
{
	while sleep 0.1; do
		tap-ctl stats -m 1 2>/dev/null | grep '"evicted":[1-9]' >"$T/now" &&
			mv "$T/now" "$T/most"
	done
}

hostile_begin
must "echo 4096 >/sys/module/xen_gntalloc/parameters/limit"
watch_stats &
# shellcheck disable=SC2064
trap "kill $!" EXIT
hostile crowd 0 1300
[ -s "$T/most" ] || fail "nothing was evicted"
sed 's/.*\("mapped".*\)/NOTE: \1/' "$T/most" | cut -c 1-100
hostile_end
