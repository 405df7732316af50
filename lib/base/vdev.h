/* vdev.h - names and numbers of Xen's virtual block devices, as libxl has them. */
#ifndef BASE_VDEV_H
#define BASE_VDEV_H

#include <stdint.h>

#define VDEV_NAME_MAX 16

/* "xvda", "xvdb3", "sda", "hdc1", "d0p2" or a number -> as in xenstore.  0 or
 * -EINVAL. */
int vdev_parse(const char *name, uint32_t *devid);
/* And back, into buf of VDEV_NAME_MAX bytes, which it returns: xvd disks by the name
 * that stands for this number alone, all others as the number. */
const char *vdev_name(uint32_t devid, char *buf);

#endif
