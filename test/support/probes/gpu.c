/**
 * Real work on the first NVIDIA GPU, by the driver's own interface: ten times some billions of multiply-adds, checked. Prints
 * the median of their times in milliseconds, as the GPU measured them; or the call that failed.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 1024
#define THREADS 256
#define ROUNDS 200000
#define LAUNCHES 11

/* Each thread turns x into x/2 + 1 again and again, which comes to 2 from wherever it began. */
static const char *PTX =
  ".version 6.0\n.target sm_50\n.address_size 64\n"
  ".visible .entry work(.param .u64 out, .param .u32 rounds) {\n"
  ".reg .f32 %f<3>; .reg .b32 %r<7>; .reg .b64 %d<4>; .reg .pred %p;\n"
  "ld.param.u64 %d1, [out]; ld.param.u32 %r1, [rounds];\n"
  "mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;\n"
  "mad.lo.u32 %r5, %r2, %r3, %r4;\n"
  "cvt.rn.f32.u32 %f1, %r5;\n"
  "mov.u32 %r6, 0;\n"
  "again:\n"
  "fma.rn.f32 %f1, %f1, 0f3F000000, 0f3F800000;\n"
  "add.u32 %r6, %r6, 1;\n"
  "setp.lt.u32 %p, %r6, %r1;\n"
  "@%p bra again;\n"
  "mul.wide.u32 %d2, %r5, 4; cvta.to.global.u64 %d3, %d1; add.u64 %d3, %d3, %d2;\n"
  "st.global.f32 [%d3], %f1;\n"
  "ret;\n}\n";

typedef unsigned long long address;
static void *driver;

static void *named(const char *name) {
  void *found = dlsym(driver, name);
  if (!found) { printf("no %s\n", name); exit(1); }
  return found;
}
static void must(const char *call, int result) {
  if (result != 0) { printf("%s: error %d\n", call, result); exit(1); }
}
static int earlier(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

#define CALL(name, types, ...) must(name, ((int (*) types)named(name))(__VA_ARGS__))

int main(void) {
  driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (!driver) { printf("%s\n", dlerror()); return 1; }
  int device;
  void *context, *module, *function, *begin, *end;
  address out;
  CALL("cuInit", (unsigned), 0);
  CALL("cuDeviceGet", (int *, int), &device, 0);
  CALL("cuDevicePrimaryCtxRetain", (void **, int), &context, device);
  CALL("cuCtxSetCurrent", (void *), context);
  CALL("cuModuleLoadData", (void **, const void *), &module, PTX);
  CALL("cuModuleGetFunction", (void **, void *, const char *), &function, module, "work");
  CALL("cuMemAlloc_v2", (address *, size_t), &out, BLOCKS * THREADS * sizeof(float));
  CALL("cuEventCreate", (void **, unsigned), &begin, 0);
  CALL("cuEventCreate", (void **, unsigned), &end, 0);
  unsigned rounds = ROUNDS;
  void *arguments[] = {&out, &rounds};
  float times[LAUNCHES];
  for (int i = 0; i < LAUNCHES; i++) {
    CALL("cuEventRecord", (void *, void *), begin, NULL);
    CALL("cuLaunchKernel",
         (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **),
         function, BLOCKS, 1, 1, THREADS, 1, 1, 0, NULL, arguments, NULL);
    CALL("cuEventRecord", (void *, void *), end, NULL);
    CALL("cuEventSynchronize", (void *), end);
    CALL("cuEventElapsedTime", (float *, void *, void *), &times[i], begin, end);
  }
  static float results[BLOCKS * THREADS];
  CALL("cuMemcpyDtoH_v2", (void *, address, size_t), results, out, sizeof results);
  for (int i = 0; i < BLOCKS * THREADS; i++) {
    if (results[i] < 1.999f || results[i] > 2.001f) { printf("wrong: %f at %d\n", results[i], i); return 1; }
  }
  /* The first launch warms up. */
  qsort(times + 1, LAUNCHES - 1, sizeof(float), earlier);
  printf("%.4f\n", times[LAUNCHES / 2]);
  return 0;
}
