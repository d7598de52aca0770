/* Stands where the image's dynamic loader should be: the kernel runs it in place of any dynamic program, with that program as
 * /proc/self/exe. It keeps a descriptor of the program and becomes /bin/overwrite. No library, for it would be its own loader. */
static long call(long number, const void *a, const void *b, const void *c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

enum { OPEN = 2, EXECVE = 59, EXIT = 60 };

__attribute__((force_align_arg_pointer)) void _start(void) {
  long fd = call(OPEN, "/proc/self/exe", 0, 0);
  char number[] = {(char)('0' + fd / 10), (char)('0' + fd % 10), 0};
  const char *argv[] = {"overwrite", number, 0};
  const char *env[] = {0};
  if (fd >= 0) call(EXECVE, "/bin/overwrite", argv, env);
  for (;;) call(EXIT, (void *)90, 0, 0);
}
