# Requests that are none - segments, sectors, operations, grants, lists - in the layouts
# of 64-bit and 32-bit guests, with grants that are copied and that stay mapped: each is
# answered with its error and changes nothing.
. /lab/cases/hostile.inc
hostile_begin
hostile requests native
hostile requests x86_32 persistent
said 1 'refused a request'
[ "$(grep -c 'refused a request' $CTL_LOG)" -lt 100 ] || fail "a guest can fill the log"
hostile_end
