# Handshakes that cannot be, by values that xenstore can judge and by grants and ports
# that Xen does; states in any order; nodes that go, at the end all of them.
# SHORT: 4.20
. /lab/cases/hostile.inc
hostile_begin
hostile values
said 1 'refused: its ring-page-order'
hostile states 3 $((FULL ? 30 : 12))
hostile nodes
hostile removal
tap-ctl xen-detach "$DOM" xvdc || fail "xen-detach: status $?"
hostile_over
