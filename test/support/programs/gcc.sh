# A compiler with its passes in processes of their own, and what it made.
set -e
cat > /tmp/a.c << 'END'
#include <pthread.h>
#include <stdio.h>
static void *same(void *x) { return x; }
int main(void) {
  pthread_t thread;
  void *said;
  pthread_create(&thread, 0, same, "all well");
  pthread_join(thread, &said);
  puts(said);
}
END
gcc -O2 -pipe -flto /tmp/a.c -o /tmp/a
/tmp/a
