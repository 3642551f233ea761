/* Prints the layout of every structure as the Windows headers have it: tests/golden/layouts.json. */
#include <stddef.h>
#include <stdio.h>
#include <winsock2.h>
#include <ws2spi.h>
#include <ws2tcpip.h>
#include <afunix.h>

static int fields;
static int structs;

#define STRUCT(type) \
  printf("%s  \"%s\": { \"size\": %d, \"fields\": {", structs++ ? "}},\n" : "{\n", #type, (int) sizeof(type)); \
  fields = 0;
#define FIELD(type, member) \
  printf("%s\n    \"%s\": [%d, %d]", fields++ ? "," : "", #member, (int) offsetof(type, member), \
    (int) sizeof(((type *) 0)->member));
#define NUMBER(name) printf("%s\n    \"%s\": %ld", fields++ ? "," : "", #name, (long) (name));

#define PROTOCOL_INFO(type) \
  STRUCT(type) \
  FIELD(type, dwServiceFlags1) FIELD(type, dwServiceFlags2) FIELD(type, dwServiceFlags3) FIELD(type, dwServiceFlags4) \
  FIELD(type, dwProviderFlags) FIELD(type, ProviderId) FIELD(type, dwCatalogEntryId) FIELD(type, ProtocolChain) \
  FIELD(type, iVersion) FIELD(type, iAddressFamily) FIELD(type, iMaxSockAddr) FIELD(type, iMinSockAddr) \
  FIELD(type, iSocketType) FIELD(type, iProtocol) FIELD(type, iProtocolMaxOffset) FIELD(type, iNetworkByteOrder) \
  FIELD(type, iSecurityScheme) FIELD(type, dwMessageSize) FIELD(type, dwProviderReserved) FIELD(type, szProtocol)

int main(void) {
  PROTOCOL_INFO(WSAPROTOCOL_INFOW)
  PROTOCOL_INFO(WSAPROTOCOL_INFOA)
  STRUCT(WSAPROTOCOLCHAIN) FIELD(WSAPROTOCOLCHAIN, ChainLen) FIELD(WSAPROTOCOLCHAIN, ChainEntries)
  STRUCT(WSADATA)
  FIELD(WSADATA, wVersion) FIELD(WSADATA, wHighVersion) FIELD(WSADATA, iMaxSockets) FIELD(WSADATA, iMaxUdpDg)
  FIELD(WSADATA, lpVendorInfo) FIELD(WSADATA, szDescription) FIELD(WSADATA, szSystemStatus)
  STRUCT(WSPDATA) FIELD(WSPDATA, wVersion) FIELD(WSPDATA, wHighVersion) FIELD(WSPDATA, szDescription)
  STRUCT(SOCKADDR_IN)
  FIELD(SOCKADDR_IN, sin_family) FIELD(SOCKADDR_IN, sin_port) FIELD(SOCKADDR_IN, sin_addr) FIELD(SOCKADDR_IN, sin_zero)
  STRUCT(SOCKADDR_IN6)
  FIELD(SOCKADDR_IN6, sin6_family) FIELD(SOCKADDR_IN6, sin6_port) FIELD(SOCKADDR_IN6, sin6_flowinfo)
  FIELD(SOCKADDR_IN6, sin6_addr) FIELD(SOCKADDR_IN6, sin6_scope_id)
  STRUCT(SOCKADDR_UN) FIELD(SOCKADDR_UN, sun_family) FIELD(SOCKADDR_UN, sun_path)
  STRUCT(SOCKADDR_STORAGE)
  FIELD(SOCKADDR_STORAGE, ss_family) FIELD(SOCKADDR_STORAGE, __ss_pad1) FIELD(SOCKADDR_STORAGE, __ss_align)
  FIELD(SOCKADDR_STORAGE, __ss_pad2)
  STRUCT(WSANETWORKEVENTS) FIELD(WSANETWORKEVENTS, lNetworkEvents) FIELD(WSANETWORKEVENTS, iErrorCode)
  STRUCT(WSABUF) FIELD(WSABUF, len) FIELD(WSABUF, buf)
  STRUCT(GUID) FIELD(GUID, Data1) FIELD(GUID, Data2) FIELD(GUID, Data3) FIELD(GUID, Data4)
  STRUCT(WSPPROC_TABLE)
  FIELD(WSPPROC_TABLE, lpWSPAccept) FIELD(WSPPROC_TABLE, lpWSPAddressToString) FIELD(WSPPROC_TABLE, lpWSPAsyncSelect)
  FIELD(WSPPROC_TABLE, lpWSPBind) FIELD(WSPPROC_TABLE, lpWSPCancelBlockingCall) FIELD(WSPPROC_TABLE, lpWSPCleanup)
  FIELD(WSPPROC_TABLE, lpWSPCloseSocket) FIELD(WSPPROC_TABLE, lpWSPConnect) FIELD(WSPPROC_TABLE, lpWSPDuplicateSocket)
  FIELD(WSPPROC_TABLE, lpWSPEnumNetworkEvents) FIELD(WSPPROC_TABLE, lpWSPEventSelect)
  FIELD(WSPPROC_TABLE, lpWSPGetOverlappedResult) FIELD(WSPPROC_TABLE, lpWSPGetPeerName)
  FIELD(WSPPROC_TABLE, lpWSPGetSockName) FIELD(WSPPROC_TABLE, lpWSPGetSockOpt) FIELD(WSPPROC_TABLE, lpWSPGetQOSByName)
  FIELD(WSPPROC_TABLE, lpWSPIoctl) FIELD(WSPPROC_TABLE, lpWSPJoinLeaf) FIELD(WSPPROC_TABLE, lpWSPListen)
  FIELD(WSPPROC_TABLE, lpWSPRecv) FIELD(WSPPROC_TABLE, lpWSPRecvDisconnect) FIELD(WSPPROC_TABLE, lpWSPRecvFrom)
  FIELD(WSPPROC_TABLE, lpWSPSelect) FIELD(WSPPROC_TABLE, lpWSPSend) FIELD(WSPPROC_TABLE, lpWSPSendDisconnect)
  FIELD(WSPPROC_TABLE, lpWSPSendTo) FIELD(WSPPROC_TABLE, lpWSPSetSockOpt) FIELD(WSPPROC_TABLE, lpWSPShutdown)
  FIELD(WSPPROC_TABLE, lpWSPSocket) FIELD(WSPPROC_TABLE, lpWSPStringToAddress)
  STRUCT(WSPUPCALLTABLE)
  FIELD(WSPUPCALLTABLE, lpWPUCloseEvent) FIELD(WSPUPCALLTABLE, lpWPUCloseSocketHandle)
  FIELD(WSPUPCALLTABLE, lpWPUCreateEvent) FIELD(WSPUPCALLTABLE, lpWPUCreateSocketHandle)
  FIELD(WSPUPCALLTABLE, lpWPUFDIsSet) FIELD(WSPUPCALLTABLE, lpWPUGetProviderPath)
  FIELD(WSPUPCALLTABLE, lpWPUModifyIFSHandle) FIELD(WSPUPCALLTABLE, lpWPUPostMessage)
  FIELD(WSPUPCALLTABLE, lpWPUQueryBlockingCallback) FIELD(WSPUPCALLTABLE, lpWPUQuerySocketHandleContext)
  FIELD(WSPUPCALLTABLE, lpWPUQueueApc) FIELD(WSPUPCALLTABLE, lpWPUResetEvent) FIELD(WSPUPCALLTABLE, lpWPUSetEvent)
  FIELD(WSPUPCALLTABLE, lpWPUOpenCurrentThread) FIELD(WSPUPCALLTABLE, lpWPUCloseThread)
  printf("}},\n  \"constants\": {");
  fields = 0;
#include "constants.h"
  printf("}\n}\n");
  return 0;
}
