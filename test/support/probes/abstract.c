/* Connects to a Unix socket in the abstract name space, and says what it hears there. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char text[256] = {0};
  if (argc < 2 || strlen(argv[1]) > sizeof address.sun_path - 2) return 2;
  memcpy(address.sun_path + 1, argv[1], strlen(argv[1]));
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(argv[1]));
  if (connect(fd, (struct sockaddr *)&address, size) < 0 || read(fd, text, sizeof text - 1) < 0) {
    printf("refused: %s\n", strerror(errno));
    return 1;
  }
  printf("%s\n", text);
  return 0;
}
