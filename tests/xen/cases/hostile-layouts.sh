# A front end in user space, which does right: verified I/O in the layouts of 32-bit and
# 64-bit guests, with rings of 1 to 16 pages, 1 to 8 queues, indirect requests.
# SHORT: 4.17
. /lab/cases/hostile.inc
hostile_begin
hostile io
hostile_end
