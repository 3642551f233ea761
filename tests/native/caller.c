/* A caller of service providers: what ws2_32 does, in C, for a provider that is written in another language. */
#include <string.h>
#include "sockets.h"

static WSPPROC_TABLE procs;
static int announced, created;
static DWORD announced_entry;

static SOCKET WSPAPI ModifyIFSHandle(DWORD id, SOCKET s, LPINT lpErrno) {
  (void) lpErrno;
  announced++;
  announced_entry = id;
  return s;
}

static SOCKET WSPAPI CreateSocketHandle(DWORD id, DWORD_PTR context, LPINT lpErrno) {
  (void) id, (void) lpErrno;
  created++;
  return (SOCKET) context + 0x40000000;
}

static int WSPAPI QuerySocketHandleContext(SOCKET s, PDWORD_PTR context, LPINT lpErrno) {
  if (s < 0x40000000) {
    *lpErrno = WSAENOTSOCK;
    return SOCKET_ERROR;
  }
  *context = (DWORD_PTR) s - 0x40000000;
  return 0;
}

static int WSPAPI CloseSocketHandle(SOCKET s, LPINT lpErrno) {
  (void) s, (void) lpErrno;
  created--;
  return 0;
}

EXPORT int caller_announced(DWORD *id) {
  *id = announced_entry;
  return announced;
}
EXPORT int caller_created(void) { return created; }

/* Returns what WSPStartup does; how many functions the table lacks is in *missing. */
EXPORT int caller_start(LPWSPSTARTUP startup, int version, WSAPROTOCOL_INFOW *info, WSPDATA *data, int *missing) {
  WSPUPCALLTABLE upcalls;
  int code;
  memset(&upcalls, 0, sizeof upcalls);
  upcalls.lpWPUModifyIFSHandle = ModifyIFSHandle;
  upcalls.lpWPUCreateSocketHandle = CreateSocketHandle;
  upcalls.lpWPUQuerySocketHandleContext = QuerySocketHandleContext;
  upcalls.lpWPUCloseSocketHandle = CloseSocketHandle;
  announced = created = 0;
  *missing = 0;
  code = startup((WORD) version, data, info, upcalls, &procs);
  for (int slot = 0; code == 0 && slot < 30; slot++) *missing += ((void **) &procs)[slot] == NULL;
  return code;
}

EXPORT int caller_duplicate(SOCKET s, DWORD process, WSAPROTOCOL_INFOW *info, int *lpErrno) {
  return procs.lpWSPDuplicateSocket(s, process, info, lpErrno);
}
EXPORT SOCKET caller_socket(WSAPROTOCOL_INFOW *info, int *lpErrno) {
  return procs.lpWSPSocket(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, info, 0, 0x81, lpErrno);
}
EXPORT int caller_close(SOCKET s, int *lpErrno) { return procs.lpWSPCloseSocket(s, lpErrno); }
EXPORT int caller_set(SOCKET s, int level, int name, const char *value, int length, int *lpErrno) {
  return procs.lpWSPSetSockOpt(s, level, name, value, length, lpErrno);
}
EXPORT int caller_get(SOCKET s, int level, int name, char *value, int *length, int *lpErrno) {
  return procs.lpWSPGetSockOpt(s, level, name, value, length, lpErrno);
}
EXPORT int caller_to_string(void *address, DWORD length, WSAPROTOCOL_INFOW *info, WCHAR *text, DWORD *room, int *code) {
  return procs.lpWSPAddressToString(address, length, info, text, room, code);
}
EXPORT int caller_to_address(WCHAR *text, int family, WSAPROTOCOL_INFOW *info, void *address, int *room, int *code) {
  return procs.lpWSPStringToAddress(text, family, info, address, room, code);
}
EXPORT int caller_cleanup(int *lpErrno) { return procs.lpWSPCleanup(lpErrno); }

/* Functions that only Windows passes on, of three and eleven parameters, and one that fails always, with a BOOL. */
EXPORT void caller_unsupported(SOCKET s, int results[3], int codes[3]) {
  results[0] = procs.lpWSPListen(s, 1, &codes[0]);
  results[1] = procs.lpWSPSendTo(s, NULL, 0, NULL, 0, NULL, 0, NULL, NULL, NULL, &codes[1]);
  results[2] = procs.lpWSPGetQOSByName(s, NULL, NULL, &codes[2]);
}

#ifdef _WIN32
#define PATIENCE_MS 20000

/* Waits for events of a socket. Returns those that came, or 0 with the code in *lpErrno. */
static long await_events(SOCKET s, WSAEVENT event, long events, int *lpErrno) {
  WSANETWORKEVENTS found;
  if (procs.lpWSPEventSelect(s, event, events, lpErrno) != 0) return 0;
  if (WaitForSingleObject(event, PATIENCE_MS) != WAIT_OBJECT_0) {
    *lpErrno = WSAETIMEDOUT;
    return 0;
  }
  if (procs.lpWSPEnumNetworkEvents(s, event, &found, lpErrno) != 0) return 0;
  return found.lNetworkEvents;
}

static int send_all(SOCKET s, WSAEVENT event, char *bytes, DWORD length, int *lpErrno) {
  WSABUF buffer = { length, bytes };
  while (buffer.len > 0) {
    DWORD sent = 0;
    if (procs.lpWSPSend(s, &buffer, 1, &sent, 0, NULL, NULL, NULL, lpErrno) != 0) {
      if (*lpErrno != WSAEWOULDBLOCK || await_events(s, event, FD_WRITE | FD_CLOSE, lpErrno) == 0) return 0;
      continue;
    }
    buffer.buf += sent;
    buffer.len -= sent;
  }
  return 1;
}

/* Sends back what comes, in two buffers, until the peer ends its side. */
static int echo(SOCKET s, WSAEVENT event, int *lpErrno) {
  char bytes[4096];
  for (;;) {
    WSABUF buffers[2] = { { 1000, bytes }, { sizeof bytes - 1000, bytes + 1000 } };
    DWORD received = 0, flags = 0;
    if (procs.lpWSPRecv(s, buffers, 2, &received, &flags, NULL, NULL, NULL, lpErrno) != 0) {
      if (*lpErrno != WSAEWOULDBLOCK || await_events(s, event, FD_READ | FD_CLOSE, lpErrno) == 0) return 0;
      continue;
    }
    if (received == 0) return 1;
    if (!send_all(s, event, bytes, received, lpErrno)) return 0;
  }
}

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in address;
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons((u_short) port);
  return address;
}

static void CALLBACK completed(DWORD error, DWORD length, LPWSAOVERLAPPED overlapped, DWORD flags) {
  (void) error, (void) length, (void) overlapped, (void) flags;
}

/*
 * An echo server for one connection, on a provider's functions alone, for a thread that may wait. It says its port in
 * *port, and greets whoever listens on greeted. Returns 0, or the number of the step that failed.
 */
EXPORT int caller_serve_echo(LPWSPSTARTUP startup, WSAPROTOCOL_INFOW *entry, int greeted, int *port, int *lpErrno) {
  WSAPROTOCOL_INFOW info = *entry;
  WSPDATA data;
  SOCKET listener, s;
  WSAEVENT event = WSACreateEvent();
  struct sockaddr_in address = loopback(0), peer, named;
  struct timeval none = { 0, 0 };
  fd_set readable, writable;
  DWORD returned, sent, length;
  u_long on = 1;
  WSABUF buffer = { 5, "hello" };
  WSAOVERLAPPED overlapped;
  int missing, size;
  if ((*lpErrno = caller_start(startup, 0x0202, entry, &data, &missing)) != 0) return 1;
  if ((listener = caller_socket(&info, lpErrno)) == INVALID_SOCKET) return 2;
  if (procs.lpWSPBind(listener, (struct sockaddr *) &address, sizeof address, lpErrno) != 0) return 3;
  if (procs.lpWSPBind(listener, (struct sockaddr *) &address, sizeof address, lpErrno) == 0) return 4;
  if (*lpErrno != WSAEINVAL) return 5;
  if (procs.lpWSPListen(listener, 5, lpErrno) != 0) return 6;
  size = 4;
  if (procs.lpWSPGetSockName(listener, (struct sockaddr *) &named, &size, lpErrno) == 0 || *lpErrno != WSAEFAULT) return 7;
  size = sizeof named;
  if (procs.lpWSPGetSockName(listener, (struct sockaddr *) &named, &size, lpErrno) != 0) return 8;
  FD_ZERO(&readable);
  FD_SET(listener, &readable);
  if (procs.lpWSPSelect(0, &readable, NULL, NULL, &none, lpErrno) != 0 || readable.fd_count != 0) return 9;

  *(volatile int *) port = ntohs(named.sin_port);
  if ((await_events(listener, event, FD_ACCEPT, lpErrno) & FD_ACCEPT) == 0) return 10;
  FD_SET(listener, &readable);
  if (procs.lpWSPSelect(0, &readable, NULL, NULL, &none, lpErrno) != 1) return 11;
  if (readable.fd_count != 1 || readable.fd_array[0] != listener) return 12;
  size = sizeof peer;
  s = procs.lpWSPAccept(listener, (struct sockaddr *) &peer, &size, NULL, 0, lpErrno);
  if (s == INVALID_SOCKET) return 13;
  size = sizeof named;
  if (procs.lpWSPGetPeerName(s, (struct sockaddr *) &named, &size, lpErrno) != 0) return 14;
  if (memcmp(&named, &peer, sizeof peer) != 0) return 15;
  if (procs.lpWSPIoctl(s, FIONBIO, &on, sizeof on, NULL, 0, &returned, NULL, NULL, NULL, lpErrno) != 0) return 16;
  FD_ZERO(&writable);
  FD_SET(listener, &writable);
  FD_SET(s, &writable);
  if (procs.lpWSPSelect(0, NULL, &writable, NULL, &none, lpErrno) != 1 || writable.fd_array[0] != s) return 17;
  memset(&overlapped, 0, sizeof overlapped);
  if (procs.lpWSPSend(s, &buffer, 1, &sent, 0, &overlapped, completed, NULL, lpErrno) == 0) return 18;
  if (*lpErrno != WSAEOPNOTSUPP) return 19;
  if (!echo(s, event, lpErrno)) return 20;
  if (procs.lpWSPShutdown(s, SD_SEND, lpErrno) != 0) return 21;
  if (procs.lpWSPCloseSocket(s, lpErrno) != 0) return 22;
  if (procs.lpWSPRecv(s, &buffer, 1, &length, &sent, NULL, NULL, NULL, lpErrno) == 0) return 23;
  if (*lpErrno != WSAENOTSOCK) return 24;
  if (procs.lpWSPCloseSocket(listener, lpErrno) != 0) return 25;

  info = *entry;
  if ((s = caller_socket(&info, lpErrno)) == INVALID_SOCKET) return 26;
  address = loopback(greeted);
  if (procs.lpWSPConnect(s, (struct sockaddr *) &address, sizeof address, NULL, NULL, NULL, NULL, lpErrno) != 0) return 27;
  overlapped.hEvent = event;
  WSAResetEvent(event);
  if (procs.lpWSPSend(s, &buffer, 1, NULL, 0, &overlapped, NULL, NULL, lpErrno) != 0 && *lpErrno != WSA_IO_PENDING) {
    return 28;
  }
  WaitForSingleObject(event, PATIENCE_MS);
  length = 0;
  if (!procs.lpWSPGetOverlappedResult(s, &overlapped, &sent, FALSE, &length, lpErrno) || sent != 5) return 29;
  if (procs.lpWSPCloseSocket(s, lpErrno) != 0) return 30;
  WSACloseEvent(event);
  return caller_cleanup(lpErrno) == 0 ? 0 : 31;
}
#endif

/*
 * The hand-off from one end to the other without returning in between: starts the provider, duplicates, opens, sets an
 * option through one descriptor and reads it through the other, closes, stops. Returns 0, or the number of the step that
 * failed with its code in *lpErrno.
 */
EXPORT int caller_hand_off(
    LPWSPSTARTUP startup, WSAPROTOCOL_INFOW *entry, SOCKET s, DWORD process, int level, int name, int *lpErrno) {
  WSAPROTOCOL_INFOW info = *entry;
  WSPDATA data;
  SOCKET copy;
  int missing, value = 1, length = sizeof value;
  if ((*lpErrno = caller_start(startup, 0x0202, entry, &data, &missing)) != 0) return 1;
  if (caller_duplicate(s, process, &info, lpErrno) != 0) return 2;
  if ((copy = caller_socket(&info, lpErrno)) == INVALID_SOCKET) return 3;
  if (copy == s) return 4;
  if (caller_set(copy, level, name, (char *) &value, sizeof value, lpErrno) != 0) return 5;
  value = 0;
  if (caller_get(s, level, name, (char *) &value, &length, lpErrno) != 0) return 6;
  /* Wine says that TCP_NODELAY has one byte. */
  if (value == 0 || length < 1) return 7;
  if (caller_close(copy, lpErrno) != 0) return 8;
  return caller_cleanup(lpErrno) == 0 ? 0 : 9;
}
