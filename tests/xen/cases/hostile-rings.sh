# Producers that run over their rings stop them, with a reason in the log, and the device
# connects anew; storms of events, closed channels, a front end that dies; any bytes in
# the slots.
# SHORT: 4.20
. /lab/cases/hostile.inc
hostile_begin
hostile indices native
said 5 'its request producer ran over the ring'
said 5 'its rings were stopped'
hostile events
hostile exit
hostile random 5 2
hostile_end
