# FULL: minutes of random bytes
# All that the other cases of this kind leave out: every ring in every layout, all bad
# values; random bytes in the slots, also while the back end looks at them, and states,
# ROUNDS times each; rings that are broken in a hurry do not fill the log.
# TIMEOUT: 3600
. /lab/cases/hostile.inc
hostile_begin
GUEST_SECONDS=1200
hostile io-all
hostile requests x86_64
hostile requests native persistent
hostile requests x86_32
hostile indices x86_32
hostile values all
lines=$(wc -l <$CTL_LOG) begin=$(uptime_s)
hostile loop 0 60
lines=$(($(wc -l <$CTL_LOG) - lines)) begin=$(($(uptime_s) - begin))
[ $lines -le $((50 * (begin / 10 + 1))) ] || fail "a guest can fill the log: $lines in $begin s"
for i in $(seq $((ROUNDS < 10 ? ROUNDS : 10))); do
	hostile random $((i * 7919)) 10
	hostile states $((i * 104729)) 100
done
hostile_end
