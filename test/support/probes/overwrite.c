/* Opens the file behind a descriptor once more, for writing, as soon as nobody runs it, and overwrites its beginning. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  char path[64];
  if (argc < 2) return 2;
  snprintf(path, sizeof path, "/proc/self/fd/%d", atoi(argv[1]));
  int fd = -1;
  for (int tries = 0; tries < 300; tries++) {
    fd = open(path, O_WRONLY);
    if (fd >= 0 || errno != ETXTBSY) break;
    usleep(10000);
  }
  if (fd < 0 || write(fd, "overwritten", 11) < 0) {
    printf("refused: %s\n", strerror(errno));
    return 1;
  }
  printf("overwritten\n");
  return 0;
}
