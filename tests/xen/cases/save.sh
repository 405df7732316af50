# FULL: saving a guest takes a minute
# A guest under load is saved and restored: its load goes on without an error.
# TIMEOUT: 600
needs_xen_ring
truncate -s 8M "$T/a.img"
start_ctl_xl
GUEST_MEMORY=112 guest_config z "tap:aio:$T/a.img,xvda,w" >z.cfg
G=z
create_guest z tap-xl create -q z.cfg
must "disk xvda && load_begin /dev/xvda 100000 4"
sleep 3
must load_on
xl save z "$T/z.sav" >/dev/null 2>&1 || fail "save: status $?"
wait_for 20 nothing_left || fail "left after save: $(tap-ctl list) $(backends)"
rm -f /run/lab/z.say
xl restore "$T/z.sav" >/dev/null 2>&1 || fail "restore: status $?"
DOM=$(xl domid z)
sleep 5
must load_on
must load_end
xl destroy z
wait_for 20 nothing_left || fail "left after destroy: $(tap-ctl list) $(backends)"
stop_ctl
