# A front end that writes to a disk which it was told not to write to.
# SHORT: 4.20
. /lab/cases/hostile.inc
hostile_begin r
sum=$(md5sum <"$T/b.img")
hostile readonly
tap-ctl xen-detach "$DOM" xvdc || fail "xen-detach: status $?"
[ "$(md5sum <"$T/b.img")" = "$sum" ] || fail "the file has changed"
hostile_over
