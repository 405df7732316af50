/* fds.h - how many descriptors this process has, to see that none is left over. */
#ifndef TESTS_FDS_H
#define TESTS_FDS_H

unsigned count_fds(void);

#endif
