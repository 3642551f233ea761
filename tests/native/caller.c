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

/* Functions the contract of a provider does not have: of three, eleven and four parameters, the last with a BOOL. */
EXPORT void caller_unsupported(SOCKET s, int results[3], int codes[3]) {
  results[0] = procs.lpWSPListen(s, 1, &codes[0]);
  results[1] = procs.lpWSPSendTo(s, NULL, 0, NULL, 0, NULL, 0, NULL, NULL, NULL, &codes[1]);
  results[2] = procs.lpWSPGetQOSByName(s, NULL, NULL, &codes[2]);
}

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
