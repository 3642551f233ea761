/* A service provider: WSPStartup and the functions of its table, with real sockets underneath. */
#include <string.h>
#include "sockets.h"

/* The place of a function in the table. */
#define SLOT(member) (offsetof(WSPPROC_TABLE, member) / sizeof(void *))

static WSPUPCALLTABLE upcalls;
static WSAPROTOCOL_INFOW entry;
static int startups;

/* What a test tells the provider to do. */
static int ifs = 1;
static WORD version = 0x0202;
static int hole = -1;
static int fail_slot = -1, fail_code;
/* What it saw: how often each function was called, and the structure each was given last. */
static int calls[30];
static WSAPROTOCOL_INFOW seen[30];

EXPORT void provider_reset(void) {
  ifs = 1;
  version = 0x0202;
  hole = fail_slot = -1;
  memset(calls, 0, sizeof calls);
  memset(seen, 0, sizeof seen);
}
EXPORT void provider_be_ifs(int value) { ifs = value; }
EXPORT void provider_speak(int value) { version = (WORD) value; }
EXPORT void provider_leave_out(int slot) { hole = slot; }
/* The next call of a function fails; with code 0 it does not say why. */
EXPORT void provider_fail(int slot, int code) {
  fail_slot = slot;
  fail_code = code;
}
EXPORT int provider_calls(int slot) { return calls[slot]; }
EXPORT void provider_seen(int slot, WSAPROTOCOL_INFOW *info) { *info = seen[slot]; }
EXPORT int provider_startups(void) { return startups; }

/* Counts a call; returns the code it was told to fail with, or 0, or -1 for a failure without one. */
static int begin(size_t slot, const WSAPROTOCOL_INFOW *info) {
  calls[slot]++;
  if (info != NULL) seen[slot] = *info;
  if (startups == 0) return WSANOTINITIALISED;
  if ((size_t) fail_slot != slot) return 0;
  fail_slot = -1;
  return fail_code == 0 ? -1 : fail_code;
}

static int finish(int code, LPINT lpErrno) {
  if (code == 0) return 0;
  if (code != -1) *lpErrno = code;
  return SOCKET_ERROR;
}

/* The socket under a descriptor. */
static int under(SOCKET s, SOCKET *lower) {
  DWORD_PTR context;
  int code;
  if (ifs) {
    *lower = s;
    return 0;
  }
  if (upcalls.lpWPUQuerySocketHandleContext(s, &context, &code) != 0) return code;
  *lower = (SOCKET) context;
  return 0;
}

/* The descriptor of a new socket: announced, or made for it. */
static SOCKET descriptor_of(SOCKET lower, LPINT lpErrno) {
  SOCKET s = ifs ? upcalls.lpWPUModifyIFSHandle(entry.dwCatalogEntryId, lower, lpErrno)
                 : upcalls.lpWPUCreateSocketHandle(entry.dwCatalogEntryId, (DWORD_PTR) lower, lpErrno);
  if (s == INVALID_SOCKET) close_socket(lower);
  return s;
}

static SOCKET WSPAPI WSPSocket(
    int af, int type, int protocol, LPWSAPROTOCOL_INFOW info, GROUP g, DWORD flags, LPINT lpErrno) {
  SOCKET lower;
  int code = begin(SLOT(lpWSPSocket), info);
  (void) af, (void) type, (void) protocol, (void) g, (void) flags;
  if (code == 0) {
    code = memcmp(info, &entry, sizeof entry) == 0 ? open_socket(&lower) : open_shared(info, &lower);
  }
  return finish(code, lpErrno) == 0 ? descriptor_of(lower, lpErrno) : INVALID_SOCKET;
}

static int WSPAPI WSPDuplicateSocket(SOCKET s, DWORD process, LPWSAPROTOCOL_INFOW info, LPINT lpErrno) {
  SOCKET lower;
  int code = begin(SLOT(lpWSPDuplicateSocket), info);
  if (code == 0) code = under(s, &lower);
  if (code == 0) {
    *info = entry;
    code = share_socket(lower, process, info);
  }
  return finish(code, lpErrno);
}

static int WSPAPI WSPCloseSocket(SOCKET s, LPINT lpErrno) {
  SOCKET lower;
  int code = begin(SLOT(lpWSPCloseSocket), NULL);
  if (code == 0) code = under(s, &lower);
  if (code == 0) code = close_socket(lower);
  if (code == 0 && !ifs) return upcalls.lpWPUCloseSocketHandle(s, lpErrno);
  return finish(code, lpErrno);
}

static int WSPAPI WSPSetSockOpt(SOCKET s, int level, int name, const char *value, int length, LPINT lpErrno) {
  SOCKET lower;
  int code = begin(SLOT(lpWSPSetSockOpt), NULL);
  if (code == 0) code = under(s, &lower);
  return finish(code == 0 ? set_option(lower, level, name, value, length) : code, lpErrno);
}

static int WSPAPI WSPGetSockOpt(SOCKET s, int level, int name, char *value, LPINT length, LPINT lpErrno) {
  SOCKET lower;
  int code = begin(SLOT(lpWSPGetSockOpt), NULL);
  if (code == 0) code = under(s, &lower);
  return finish(code == 0 ? get_option(lower, level, name, value, length) : code, lpErrno);
}

static INT WSPAPI WSPAddressToString(
    LPSOCKADDR address, DWORD length, LPWSAPROTOCOL_INFOW info, LPWSTR text, LPDWORD room, LPINT lpErrno) {
  int code = begin(SLOT(lpWSPAddressToString), info);
  return finish(code == 0 ? address_to_string(address, length, text, room) : code, lpErrno);
}

static INT WSPAPI WSPStringToAddress(
    LPWSTR text, INT family, LPWSAPROTOCOL_INFOW info, LPSOCKADDR address, LPINT room, LPINT lpErrno) {
  int code = begin(SLOT(lpWSPStringToAddress), info);
  return finish(code == 0 ? string_to_address(text, family, address, room) : code, lpErrno);
}

static int WSPAPI WSPCleanup(LPINT lpErrno) {
  int code = begin(SLOT(lpWSPCleanup), NULL);
  if (code == 0) startups--;
  return finish(code, lpErrno);
}

/* The functions that have nothing to do with sharing. */
static int WSPAPI unused(void) { return SOCKET_ERROR; }

EXPORT int WSPAPI WSPStartup(
    WORD wVersionRequested, LPWSPDATA data, LPWSAPROTOCOL_INFOW info, WSPUPCALLTABLE table, LPWSPPROC_TABLE procs) {
  void **slots = (void **) procs;
  if ((wVersionRequested & 0xff) < 2) return WSAVERNOTSUPPORTED;
#ifdef _WIN32
  WSADATA winsock;
  int code = WSAStartup(0x0202, &winsock);
  if (code != 0) return code;
#endif
  memset(data, 0, sizeof *data);
  data->wVersion = data->wHighVersion = version;
  memcpy(data->szDescription, info->szProtocol, sizeof data->szDescription);
  entry = *info;
  upcalls = table;
  startups++;
  for (int slot = 0; slot < 30; slot++) slots[slot] = (void *) unused;
  procs->lpWSPSocket = WSPSocket;
  procs->lpWSPDuplicateSocket = WSPDuplicateSocket;
  procs->lpWSPCloseSocket = WSPCloseSocket;
  procs->lpWSPSetSockOpt = WSPSetSockOpt;
  procs->lpWSPGetSockOpt = WSPGetSockOpt;
  procs->lpWSPAddressToString = WSPAddressToString;
  procs->lpWSPStringToAddress = WSPStringToAddress;
  procs->lpWSPCleanup = WSPCleanup;
  if (hole >= 0) slots[hole] = NULL;
  return 0;
}

/* Calls every upcall; what each returned goes into results, the code it set into codes, in the order of the table. */
EXPORT void provider_call_back(GUID *provider, WCHAR *path, int *path_length, SOCKET s, long long *results, int *codes) {
#ifdef _WIN32
  fd_set set = { .fd_count = 2, .fd_array = { 4, s } };
  void *thread = NULL;
  LPBLOCKINGCALLBACK callback = (LPBLOCKINGCALLBACK) 1;
  LPWSATHREADID thread_id = (LPWSATHREADID) thread;
  LPWSAUSERAPC apc = NULL;
  HWND window = NULL;
#else
  winsock_fd_set set = { .fd_count = 2, .fd_array = { 4, s } };
  void *callback = (void *) 1, *thread_id = NULL, *apc = NULL, *window = NULL;
#endif
  DWORD_PTR context = 1;
  WSAEVENT event = upcalls.lpWPUCreateEvent(&codes[2]);
  results[2] = event != 0;
  results[12] = upcalls.lpWPUSetEvent(event, &codes[12]);
  results[11] = upcalls.lpWPUResetEvent(event, &codes[11]);
  results[0] = upcalls.lpWPUCloseEvent(event, &codes[0]);
  results[3] = (long long) upcalls.lpWPUCreateSocketHandle(entry.dwCatalogEntryId, (DWORD_PTR) 0x1234567890, &codes[3]);
  results[9] = upcalls.lpWPUQuerySocketHandleContext((SOCKET) results[3], &context, &codes[9]);
  if (context != (DWORD_PTR) 0x1234567890) results[9] = -2;
  results[1] = upcalls.lpWPUCloseSocketHandle((SOCKET) results[3], &codes[1]);
  results[4] = upcalls.lpWPUFDIsSet(s, &set) + 2 * upcalls.lpWPUFDIsSet(s + 4, &set);
  results[5] = upcalls.lpWPUGetProviderPath(provider, path, path_length, &codes[5]);
  results[6] = (long long) upcalls.lpWPUModifyIFSHandle(entry.dwCatalogEntryId, s, &codes[6]);
  results[7] = upcalls.lpWPUPostMessage(window, 0, 0, 0);
  results[8] = upcalls.lpWPUQueryBlockingCallback(entry.dwCatalogEntryId, (void *) &callback, &context, &codes[8]);
  if (callback != NULL || context != 0) results[8] = -2;
  results[10] = upcalls.lpWPUQueueApc(thread_id, apc, 0, &codes[10]);
  results[13] = upcalls.lpWPUOpenCurrentThread(thread_id, &codes[13]);
  results[14] = upcalls.lpWPUCloseThread(thread_id, &codes[14]);
}
