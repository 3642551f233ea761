/* Sockets of Linux. A shared one waits in this process as a descriptor: sharing works within one process only. */
#ifndef _WIN32
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sockets.h"

#define MOST_SHARED 4096
static int shared[MOST_SHARED];
static int last_shared;

static int last_code(void) {
  switch (errno) {
    case EBADF:
    case ENOTSOCK: return WSAENOTSOCK;
    case EMFILE: return WSAEMFILE;
    case EINVAL: return WSAEINVAL;
    case ENOPROTOOPT: return WSAENOPROTOOPT;
    default: return WSASYSCALLFAILURE;
  }
}

int open_socket(SOCKET *s) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  *s = fd == -1 ? INVALID_SOCKET : (SOCKET) fd;
  return fd == -1 ? last_code() : 0;
}

int close_socket(SOCKET s) { return close((int) s) == -1 ? last_code() : 0; }

int share_socket(SOCKET s, DWORD process, WSAPROTOCOL_INFOW *info) {
  int type, fd;
  socklen_t length = sizeof type;
  if (process != (DWORD) getpid()) return WSAEINVAL;
  if (getsockopt((int) s, SOL_SOCKET, SO_TYPE, &type, &length) == -1) return last_code();
  if (last_shared + 1 == MOST_SHARED) return WSAEMFILE;
  fd = fcntl((int) s, F_DUPFD_CLOEXEC, 0);
  if (fd == -1) return last_code();
  shared[++last_shared] = fd + 1;
  info->dwProviderReserved = (DWORD) last_shared;
  return 0;
}

int open_shared(const WSAPROTOCOL_INFOW *info, SOCKET *s) {
  DWORD number = info->dwProviderReserved;
  if (number >= MOST_SHARED || shared[number] == 0) return WSAEINVAL;
  *s = (SOCKET) (shared[number] - 1);
  shared[number] = 0;
  return 0;
}

int set_option(SOCKET s, int level, int name, const char *value, int length) {
  return setsockopt((int) s, level, name, value, (socklen_t) length) == -1 ? last_code() : 0;
}

int get_option(SOCKET s, int level, int name, char *value, int *length) {
  return getsockopt((int) s, level, name, value, (socklen_t *) length) == -1 ? last_code() : 0;
}

int address_to_string(struct sockaddr *address, DWORD length, WCHAR *text, DWORD *room) {
  struct sockaddr_in *in = (struct sockaddr_in *) address;
  char host[INET_ADDRSTRLEN], all[INET_ADDRSTRLEN + 8];
  DWORD needed;
  if (length < sizeof *in || in->sin_family != AF_INET) return WSAEINVAL;
  inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
  needed = (DWORD) snprintf(all, sizeof all, "%s:%d", host, ntohs(in->sin_port)) + 1;
  if (*room < needed) { *room = needed; return WSAEFAULT; }
  for (DWORD index = 0; index < needed; index++) text[index] = (WCHAR) all[index];
  *room = needed;
  return 0;
}

int string_to_address(WCHAR *text, int family, struct sockaddr *address, int *room) {
  struct sockaddr_in in = { .sin_family = AF_INET };
  char all[64];
  char *colon;
  size_t index = 0;
  if (*room < (int) sizeof in) { *room = sizeof in; return WSAEFAULT; }
  for (; text[index] != 0 && index + 1 < sizeof all; index++) all[index] = (char) text[index];
  all[index] = 0;
  if ((colon = strchr(all, ':')) != NULL) {
    *colon = 0;
    in.sin_port = htons((uint16_t) atoi(colon + 1));
  }
  if (family != AF_INET || inet_pton(AF_INET, all, &in.sin_addr) != 1) return WSAEINVAL;
  memcpy(address, &in, sizeof in);
  *room = sizeof in;
  return 0;
}
#endif
