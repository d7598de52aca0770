/* unix-get SOCKET ADDRESS: one HTTP request over a Unix socket; prints the answer. Ends with 2 when it cannot connect. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 3) return 1;
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  strncpy(to.sun_path, argv[1], sizeof to.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
    perror("connect");
    return 2;
  }
  dprintf(fd, "GET %s HTTP/1.1\r\nhost: identity\r\nconnection: close\r\n\r\n", argv[2]);
  char buffer[4096];
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;)
    if (write(1, buffer, n) != n) return 1;
  return 0;
}
