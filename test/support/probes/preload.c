/** As a library that an image preloads: whoever loads it has run the image's code. Leaves its word at the path in CANARY. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void run(void) {
  const char *path = getenv("CANARY");
  int fd = path ? open(path, O_CREAT | O_WRONLY, 0644) : -1;
  if (fd >= 0) close(fd);
}
