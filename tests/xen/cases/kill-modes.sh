# FULL: as kill-aio, other rings
# The same with rings of several pages, several queues, and without persistent
# grants.
# TIMEOUT: 3600
. /lab/cases/kill.inc
truncate -s 8M "$T/a.img"
for mode in "max_ring_page_order=2 max_queues=2" "feature_persistent=0 max_indirect_segments=0"; do
	guest
	must "rmmod xen_blkfront; load xen_blkfront $mode"
	kill_rounds "aio:$T/a.img"
done
must "rmmod xen_blkfront; load xen_blkfront"
stop_ctl
