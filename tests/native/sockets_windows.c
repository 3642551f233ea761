/* Sockets of ws2_32. */
#ifdef _WIN32
#include <string.h>
#include "sockets.h"

#ifndef WSA_FLAG_NO_HANDLE_INHERIT
#define WSA_FLAG_NO_HANDLE_INHERIT 0x80
#endif
#define FLAGS (WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT)

static int code_of(int result) { return result == 0 ? 0 : WSAGetLastError(); }

int open_socket(SOCKET *s) {
  *s = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, FLAGS);
  return *s == INVALID_SOCKET ? WSAGetLastError() : 0;
}

int close_socket(SOCKET s) { return code_of(closesocket(s)); }

/* Makes a structure ws2_32's, or this provider's, without touching what ws2_32 keeps in it. */
static void set_identity(WSAPROTOCOL_INFOW *info, const WSAPROTOCOL_INFOW *whose) {
  info->ProviderId = whose->ProviderId;
  info->dwCatalogEntryId = whose->dwCatalogEntryId;
  info->ProtocolChain = whose->ProtocolChain;
}

int share_socket(SOCKET s, DWORD process, WSAPROTOCOL_INFOW *info) {
  WSAPROTOCOL_INFOW own = *info;
  if (WSADuplicateSocketW(s, process, info) != 0) {
    *info = own;
    return WSAGetLastError();
  }
  set_identity(info, &own);
  return 0;
}

int open_shared(const WSAPROTOCOL_INFOW *info, SOCKET *s) {
  WSAPROTOCOL_INFOW special = *info, base;
  SOCKET probe;
  int length = sizeof base, code = open_socket(&probe);
  if (code != 0) return code;
  code = code_of(getsockopt(probe, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *) &base, &length));
  closesocket(probe);
  if (code != 0) return code;
  set_identity(&special, &base);
  *s = WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &special, 0, FLAGS);
  if (*s == INVALID_SOCKET) return WSAGetLastError();
  SetHandleInformation((HANDLE) *s, HANDLE_FLAG_INHERIT, 0);
  return 0;
}

int set_option(SOCKET s, int level, int name, const char *value, int length) {
  return code_of(setsockopt(s, level, name, value, length));
}

int get_option(SOCKET s, int level, int name, char *value, int *length) {
  return code_of(getsockopt(s, level, name, value, length));
}

int address_to_string(struct sockaddr *address, DWORD length, WCHAR *text, DWORD *room) {
  return code_of(WSAAddressToStringW(address, length, NULL, text, room));
}

int string_to_address(WCHAR *text, int family, struct sockaddr *address, int *room) {
  return code_of(WSAStringToAddressW(text, family, NULL, address, room));
}
#endif
