/* zstd.h - one cluster, compressed by zstd and back.  Pure; from any thread.
 *
 * As in qcow2: one frame or several, whose contents are exactly one cluster; what
 * follows them in the input is ignored.
 */
#ifndef PACK_ZSTD_H
#define PACK_ZSTD_H

struct sparse_packer;

extern const struct sparse_packer pack_zstd;

#endif
