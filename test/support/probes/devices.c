/**
 * Uses a device for real: devprobe kvm|fuse|tun PATH [node|make]. Prints "kvm ok", or the call that failed and why, such as
 * "kvm open EPERM"; with "node", the node's numbers, permissions and owner; "make" tries to make a node of its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/stat.h>
#include <unistd.h>
static int said(const char *what, const char *call, int result) {
  if (result < 0) printf("%s %s %s\n", what, call, strerrorname_np(errno));
  return result < 0;
}
int main(int argc, char **argv) {
  const char *what = argv[1], *path = argv[2];
  if (argc > 3 && !strcmp(argv[3], "node")) {
    struct stat s;
    if (said(what, "stat", stat(path, &s))) return 1;
    printf("%s %d:%d %o %d:%d\n", what, major(s.st_rdev), minor(s.st_rdev), s.st_mode & 07777, s.st_uid, s.st_gid);
    return 0;
  }
  if (argc > 3 && !strcmp(argv[3], "make")) {
    return said(what, "mknod", mknod(path, S_IFCHR | 0666, makedev(10, 232)));
  }
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (said(what, "open", fd)) return 1;
  if (!strcmp(what, "kvm")) {
    int vm = ioctl(fd, KVM_CREATE_VM, 0);
    if (said(what, "KVM_CREATE_VM", vm)) return 1;
    if (said(what, "KVM_CREATE_VCPU", ioctl(vm, KVM_CREATE_VCPU, 0))) return 1;
  }
  if (!strcmp(what, "tun")) {
    unsigned features;
    struct ifreq ifr;
    if (said(what, "TUNGETFEATURES", ioctl(fd, TUNGETFEATURES, &features))) return 1;
    memset(&ifr, 0, sizeof ifr);
    ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(fd, TUNSETIFF, &ifr) == 0) { printf("tun made an interface\n"); return 1; }
  }
  printf("%s ok\n", what);
  return 0;
}
