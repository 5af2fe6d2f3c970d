const char license[] __attribute__((section(".modinfo"), used)) = "license=GPL";
int NAME(void);
int NAME(void) { return 0; }
