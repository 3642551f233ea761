/* Real sockets under the provider: each function returns 0, or the Winsock code of what went wrong. */
#pragma once
#include "spi.h"

int open_socket(SOCKET *s);
int close_socket(SOCKET s);
/* Fills in what the other process needs; the identity of the structure stays the provider's. */
int share_socket(SOCKET s, DWORD process, WSAPROTOCOL_INFOW *info);
/* Opens what share_socket has filled in. */
int open_shared(const WSAPROTOCOL_INFOW *info, SOCKET *s);
int set_option(SOCKET s, int level, int name, const char *value, int length);
int get_option(SOCKET s, int level, int name, char *value, int *length);
int address_to_string(struct sockaddr *address, DWORD length, WCHAR *text, DWORD *room);
int string_to_address(WCHAR *text, int family, struct sockaddr *address, int *room);
