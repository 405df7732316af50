# Requests that are none - segments, sectors, operations, grants, lists - in the layouts
# of 64-bit and 32-bit guests, with grants that are copied and that stay mapped: each is
# answered with its error and changes nothing.
# SHORT: 4.17
. /lab/cases/hostile.inc
hostile_begin
begin=$(uptime_s)
hostile requests native
hostile requests x86_32 persistent
said 1 'refused a request'
lines=$(grep -c 'refused a request' $CTL_LOG) seconds=$(($(uptime_s) - begin))
# At most 10 lines in 10 s; there were some hundreds of requests.
[ "$lines" -le $((10 * (seconds / 10 + 2))) ] || fail "a guest can fill the log: $lines in $seconds s"
hostile_end
