/* What the C source and its control connection have in common; the counterpart of control.mjs. */
#ifndef C_CONTROL_H
#define C_CONTROL_H
#include <winsock2.h>

/* A process says what failed and ends: a contestant that goes on half-broken would be measured. */
void fail(const char *what);
/* Performance counter in milliseconds. */
double now_ms(void);
/* A connected or listening loopback socket. Port 0 lets the system choose. */
SOCKET loopback_connect(unsigned short port);
SOCKET loopback_listen(unsigned short *port);
/* Connects to the benchmark and says which port this source listens on. */
SOCKET control_open(const char *control_port, unsigned short port);
/* Reads a line and drops its end; 0 when the benchmark has closed the connection. */
int control_line(SOCKET control, char *line, int size);
void control_say(SOCKET control, const char *text);
/* The hand-offs timed since the last report; safe to use from two threads. */
void latency_add(double milliseconds);
void latency_report(char *json, int size);

#endif
