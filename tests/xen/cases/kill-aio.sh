# tapdisk killed with -9 again and again under a guest's verifying load: the guest
# sees no error and no wrong byte, and the nodes in xenstore stay as they are, but for
# those that name the process.
# SHORT: 4.20
# TIMEOUT: 2400
. /lab/cases/kill.inc
truncate -s 8M "$T/a.img"
kill_rounds "aio:$T/a.img"
stop_ctl
