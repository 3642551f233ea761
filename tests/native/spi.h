/* The service provider interface: Windows' own headers, or the same types in Linux' calling convention. */
#pragma once
#ifdef _WIN32
#include <winsock2.h>
#include <ws2tcpip.h>
#include <ws2spi.h>
#define EXPORT __declspec(dllexport)
#else
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#define EXPORT __attribute__((visibility("default")))
#define WSPAPI
typedef int INT, BOOL, *LPINT;
typedef uint16_t WORD, WCHAR, *LPWSTR;
typedef uint32_t DWORD, *LPDWORD, GROUP;
typedef uintptr_t SOCKET, DWORD_PTR, *PDWORD_PTR, WSAEVENT;
typedef struct { uint8_t bytes[16]; } GUID, *LPGUID;
typedef struct sockaddr *LPSOCKADDR;
typedef struct { uint32_t fd_count; SOCKET fd_array[64]; } winsock_fd_set;
typedef struct { int ChainLen; DWORD ChainEntries[7]; } WSAPROTOCOLCHAIN;
typedef struct {
  DWORD dwServiceFlags1, dwServiceFlags2, dwServiceFlags3, dwServiceFlags4, dwProviderFlags;
  GUID ProviderId;
  DWORD dwCatalogEntryId;
  WSAPROTOCOLCHAIN ProtocolChain;
  int iVersion, iAddressFamily, iMaxSockAddr, iMinSockAddr, iSocketType, iProtocol, iProtocolMaxOffset;
  int iNetworkByteOrder, iSecurityScheme;
  DWORD dwMessageSize, dwProviderReserved;
  WCHAR szProtocol[256];
} WSAPROTOCOL_INFOW, *LPWSAPROTOCOL_INFOW;
typedef struct { WORD wVersion, wHighVersion; WCHAR szDescription[256]; } WSPDATA, *LPWSPDATA;

typedef struct {
  void *lpWSPAccept;
  INT (*lpWSPAddressToString)(LPSOCKADDR, DWORD, LPWSAPROTOCOL_INFOW, LPWSTR, LPDWORD, LPINT);
  void *lpWSPAsyncSelect, *lpWSPBind, *lpWSPCancelBlockingCall;
  int (*lpWSPCleanup)(LPINT);
  int (*lpWSPCloseSocket)(SOCKET, LPINT);
  void *lpWSPConnect;
  int (*lpWSPDuplicateSocket)(SOCKET, DWORD, LPWSAPROTOCOL_INFOW, LPINT);
  void *lpWSPEnumNetworkEvents, *lpWSPEventSelect, *lpWSPGetOverlappedResult, *lpWSPGetPeerName, *lpWSPGetSockName;
  int (*lpWSPGetSockOpt)(SOCKET, int, int, char *, LPINT, LPINT);
  BOOL (*lpWSPGetQOSByName)(SOCKET, void *, void *, LPINT);
  void *lpWSPIoctl, *lpWSPJoinLeaf;
  int (*lpWSPListen)(SOCKET, int, LPINT);
  void *lpWSPRecv, *lpWSPRecvDisconnect, *lpWSPRecvFrom, *lpWSPSelect, *lpWSPSend, *lpWSPSendDisconnect;
  int (*lpWSPSendTo)(SOCKET, void *, DWORD, LPDWORD, DWORD, const struct sockaddr *, int, void *, void *, void *, LPINT);
  int (*lpWSPSetSockOpt)(SOCKET, int, int, const char *, int, LPINT);
  void *lpWSPShutdown;
  SOCKET (*lpWSPSocket)(int, int, int, LPWSAPROTOCOL_INFOW, GROUP, DWORD, LPINT);
  INT (*lpWSPStringToAddress)(LPWSTR, INT, LPWSAPROTOCOL_INFOW, LPSOCKADDR, LPINT, LPINT);
} WSPPROC_TABLE, *LPWSPPROC_TABLE;

typedef struct {
  BOOL (*lpWPUCloseEvent)(WSAEVENT, LPINT);
  int (*lpWPUCloseSocketHandle)(SOCKET, LPINT);
  WSAEVENT (*lpWPUCreateEvent)(LPINT);
  SOCKET (*lpWPUCreateSocketHandle)(DWORD, DWORD_PTR, LPINT);
  int (*lpWPUFDIsSet)(SOCKET, winsock_fd_set *);
  int (*lpWPUGetProviderPath)(LPGUID, WCHAR *, LPINT, LPINT);
  SOCKET (*lpWPUModifyIFSHandle)(DWORD, SOCKET, LPINT);
  BOOL (*lpWPUPostMessage)(void *, unsigned, uintptr_t, intptr_t);
  int (*lpWPUQueryBlockingCallback)(DWORD, void **, PDWORD_PTR, LPINT);
  int (*lpWPUQuerySocketHandleContext)(SOCKET, PDWORD_PTR, LPINT);
  int (*lpWPUQueueApc)(void *, void *, DWORD_PTR, LPINT);
  BOOL (*lpWPUResetEvent)(WSAEVENT, LPINT);
  BOOL (*lpWPUSetEvent)(WSAEVENT, LPINT);
  int (*lpWPUOpenCurrentThread)(void *, LPINT);
  int (*lpWPUCloseThread)(void *, LPINT);
} WSPUPCALLTABLE;

typedef int (*LPWSPSTARTUP)(WORD, LPWSPDATA, LPWSAPROTOCOL_INFOW, WSPUPCALLTABLE, LPWSPPROC_TABLE);

#define INVALID_SOCKET (~(SOCKET) 0)
#define SOCKET_ERROR (-1)
#define FROM_PROTOCOL_INFO (-1)
#define WSAEFAULT 10014
#define WSAEINVAL 10022
#define WSAEMFILE 10024
#define WSAENOTSOCK 10038
#define WSAENOPROTOOPT 10042
#define WSAEOPNOTSUPP 10045
#define WSAVERNOTSUPPORTED 10092
#define WSANOTINITIALISED 10093
#define WSASYSCALLFAILURE 10107
_Static_assert(sizeof(WSAPROTOCOL_INFOW) == 628, "WSAPROTOCOL_INFOW");
#endif
_Static_assert(sizeof(WSPPROC_TABLE) == 240, "WSPPROC_TABLE");
_Static_assert(sizeof(WSPUPCALLTABLE) == 120, "WSPUPCALLTABLE");
