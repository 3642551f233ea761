/* The control connection and the clock of the C source; speaks as control.mjs does. */
#include "c_control.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LATENCIES (1 << 20)

static double latencies[MAX_LATENCIES];
static int latency_count;
static volatile LONG latency_lock;

void fail(const char *what) {
  fprintf(stderr, "%s failed: %lu, %d\n", what, GetLastError(), WSAGetLastError());
  ExitProcess(1);
}

double now_ms(void) {
  static LARGE_INTEGER frequency;
  LARGE_INTEGER count;
  if (frequency.QuadPart == 0) QueryPerformanceFrequency(&frequency);
  QueryPerformanceCounter(&count);
  return count.QuadPart * 1000.0 / frequency.QuadPart;
}

static struct sockaddr_in loopback(unsigned short port) {
  struct sockaddr_in address = {0};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

static SOCKET new_socket(void) {
  SOCKET s = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
  if (s == INVALID_SOCKET) fail("WSASocketW");
  return s;
}

SOCKET loopback_connect(unsigned short port) {
  struct sockaddr_in address = loopback(port);
  SOCKET s = new_socket();
  if (connect(s, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
  return s;
}

SOCKET loopback_listen(unsigned short *port) {
  struct sockaddr_in address = loopback(*port);
  int length = sizeof address;
  SOCKET s = new_socket();
  if (bind(s, (struct sockaddr *)&address, sizeof address) != 0) fail("bind");
  if (listen(s, 511) != 0) fail("listen");
  if (getsockname(s, (struct sockaddr *)&address, &length) != 0) fail("getsockname");
  *port = ntohs(address.sin_port);
  return s;
}

SOCKET control_open(const char *control_port, unsigned short port) {
  SOCKET control = loopback_connect((unsigned short)atoi(control_port));
  char text[128];
  snprintf(text, sizeof text, "{\"port\":%u,\"version\":\"C, mingw-w64 gcc %s\"}", port, __VERSION__);
  control_say(control, text);
  return control;
}

int control_line(SOCKET control, char *line, int size) {
  int length = 0;
  char byte;
  while (recv(control, &byte, 1, 0) == 1) {
    if (byte == '\n') {
      line[length] = 0;
      return 1;
    }
    if (length < size - 1) line[length++] = byte;
  }
  return 0;
}

void control_say(SOCKET control, const char *text) {
  char line[512];
  int length = snprintf(line, sizeof line, "%s\n", text);
  if (send(control, line, length, 0) != length) fail("send to the benchmark");
}

/* Held for a few instructions once a hand-off, and for a sort once a sample. */
static void lock(void) {
  while (InterlockedCompareExchange(&latency_lock, 1, 0) != 0) Sleep(0);
}

static void unlock(void) { InterlockedExchange(&latency_lock, 0); }

void latency_add(double milliseconds) {
  lock();
  if (latency_count < MAX_LATENCIES) latencies[latency_count++] = milliseconds;
  unlock();
}

static int ascending(const void *a, const void *b) {
  double left = *(const double *)a, right = *(const double *)b;
  return (left > right) - (left < right);
}

void latency_report(char *json, int size) {
  lock();
  int count = latency_count;
  qsort(latencies, count, sizeof *latencies, ascending);
  double p50 = count > 0 ? latencies[count / 2] : 0;
  double p99 = count > 0 ? latencies[(int)(count * 0.99)] : 0;
  latency_count = 0;
  unlock();
  snprintf(json, size, "{\"count\":%d,\"p50\":%f,\"p99\":%f,\"failed\":0,\"failure\":\"\"}", count, p50, p99);
}
