/**
 * Constants from the Windows headers under their native names: values in the structures, and the Winsock error codes.
 *
 * @module
 */

/** `dwServiceFlags1`: what the protocol can do. */
export const XP1 = {
  XP1_CONNECTIONLESS: 0x00000001,
  XP1_GUARANTEED_DELIVERY: 0x00000002,
  XP1_GUARANTEED_ORDER: 0x00000004,
  XP1_MESSAGE_ORIENTED: 0x00000008,
  XP1_PSEUDO_STREAM: 0x00000010,
  XP1_GRACEFUL_CLOSE: 0x00000020,
  XP1_EXPEDITED_DATA: 0x00000040,
  XP1_CONNECT_DATA: 0x00000080,
  XP1_DISCONNECT_DATA: 0x00000100,
  XP1_SUPPORT_BROADCAST: 0x00000200,
  XP1_SUPPORT_MULTIPOINT: 0x00000400,
  XP1_MULTIPOINT_CONTROL_PLANE: 0x00000800,
  XP1_MULTIPOINT_DATA_PLANE: 0x00001000,
  XP1_QOS_SUPPORTED: 0x00002000,
  XP1_INTERRUPT: 0x00004000,
  XP1_UNI_SEND: 0x00008000,
  XP1_UNI_RECV: 0x00010000,
  XP1_IFS_HANDLES: 0x00020000,
  XP1_PARTIAL_MESSAGE: 0x00040000,
  XP1_SAN_SUPPORT_SDP: 0x00080000,
} as const satisfies Readonly<Record<string, number>>;

/** `dwProviderFlags`: flags of the entry in the catalog. */
export const PFL = {
  PFL_MULTIPLE_PROTO_ENTRIES: 0x00000001,
  PFL_RECOMMENDED_PROTO_ENTRY: 0x00000002,
  PFL_HIDDEN: 0x00000004,
  PFL_MATCHES_PROTOCOL_ZERO: 0x00000008,
  PFL_NETWORKDIRECT_PROVIDER: 0x00000010,
} as const satisfies Readonly<Record<string, number>>;

/** `iSecurityScheme`: the security of the protocol. */
export const SECURITY_PROTOCOL = {
  SECURITY_PROTOCOL_NONE: 0x0000,
} as const satisfies Readonly<Record<string, number>>;

/** `iNetworkByteOrder`: the order of bytes in the protocol. */
export const BYTE_ORDER = {
  BIGENDIAN: 0x0000,
  LITTLEENDIAN: 0x0001,
} as const satisfies Readonly<Record<string, number>>;

/** Address families with the Windows numbers: AF_INET6 is 10 on Linux, and 30 on macOS. */
export const AF = {
  AF_UNSPEC: 0,
  AF_UNIX: 1,
  AF_INET: 2,
  AF_IMPLINK: 3,
  AF_PUP: 4,
  AF_CHAOS: 5,
  AF_IPX: 6,
  AF_ISO: 7,
  AF_ECMA: 8,
  AF_DATAKIT: 9,
  AF_CCITT: 10,
  AF_SNA: 11,
  AF_DECnet: 12,
  AF_DLI: 13,
  AF_LAT: 14,
  AF_HYLINK: 15,
  AF_APPLETALK: 16,
  AF_NETBIOS: 17,
  AF_VOICEVIEW: 18,
  AF_FIREFOX: 19,
  AF_UNKNOWN1: 20,
  AF_BAN: 21,
  AF_ATM: 22,
  AF_INET6: 23,
  AF_CLUSTER: 24,
  AF_12844: 25,
  AF_IRDA: 26,
  AF_NETDES: 28,
  AF_TCNPROCESS: 29,
  AF_TCNMESSAGE: 30,
  AF_ICLFXBM: 31,
  AF_BTH: 32,
  AF_LINK: 33,
  AF_HYPERV: 34,
} as const satisfies Readonly<Record<string, number>>;

/** Socket types. */
export const SOCK = {
  SOCK_STREAM: 1,
  SOCK_DGRAM: 2,
  SOCK_RAW: 3,
  SOCK_RDM: 4,
  SOCK_SEQPACKET: 5,
} as const satisfies Readonly<Record<string, number>>;

/** Protocols of the Internet families. */
export const IPPROTO = {
  IPPROTO_IP: 0,
  IPPROTO_ICMP: 1,
  IPPROTO_IGMP: 2,
  IPPROTO_GGP: 3,
  IPPROTO_IPV4: 4,
  IPPROTO_ST: 5,
  IPPROTO_TCP: 6,
  IPPROTO_CBT: 7,
  IPPROTO_EGP: 8,
  IPPROTO_IGP: 9,
  IPPROTO_PUP: 12,
  IPPROTO_UDP: 17,
  IPPROTO_IDP: 22,
  IPPROTO_RDP: 27,
  IPPROTO_IPV6: 41,
  IPPROTO_ROUTING: 43,
  IPPROTO_FRAGMENT: 44,
  IPPROTO_ESP: 50,
  IPPROTO_AH: 51,
  IPPROTO_ICMPV6: 58,
  IPPROTO_NONE: 59,
  IPPROTO_DSTOPTS: 60,
  IPPROTO_ND: 77,
  IPPROTO_ICLFXBM: 78,
  IPPROTO_PIM: 103,
  IPPROTO_PGM: 113,
  IPPROTO_L2TP: 115,
  IPPROTO_SCTP: 132,
  IPPROTO_RAW: 255,
} as const satisfies Readonly<Record<string, number>>;

/** Flags of `WSASocketW` and `WSPSocket`. */
export const WSA_FLAG = {
  WSA_FLAG_OVERLAPPED: 0x01,
  WSA_FLAG_MULTIPOINT_C_ROOT: 0x02,
  WSA_FLAG_MULTIPOINT_C_LEAF: 0x04,
  WSA_FLAG_MULTIPOINT_D_ROOT: 0x08,
  WSA_FLAG_MULTIPOINT_D_LEAF: 0x10,
  WSA_FLAG_ACCESS_SYSTEM_SECURITY: 0x40,
  WSA_FLAG_NO_HANDLE_INHERIT: 0x80,
  WSA_FLAG_REGISTERED_IO: 0x100,
} as const satisfies Readonly<Record<string, number>>;

/**
 * An address family, socket type or protocol for `WSASocketW` and `WSPSocket` that means: use the value in the
 * WSAPROTOCOL_INFO.
 */
export const FROM_PROTOCOL_INFO: -1 = -1;
/**
 * The flags that `socket()` sets, so that both sides of a shared socket use the same flags, and the flag that stops
 * child processes from inheriting the socket.
 */
export const DEFAULT_SOCKET_FLAGS: number = WSA_FLAG.WSA_FLAG_OVERLAPPED | WSA_FLAG.WSA_FLAG_NO_HANDLE_INHERIT;

/** `lNetworkEvents` of WSANETWORKEVENTS. */
export const FD = {
  FD_READ: 0x001,
  FD_WRITE: 0x002,
  FD_OOB: 0x004,
  FD_ACCEPT: 0x008,
  FD_CONNECT: 0x010,
  FD_CLOSE: 0x020,
  FD_QOS: 0x040,
  FD_GROUP_QOS: 0x080,
  FD_ROUTING_INTERFACE_CHANGE: 0x100,
  FD_ADDRESS_LIST_CHANGE: 0x200,
} as const satisfies Readonly<Record<string, number>>;

/** An error code: its number, and its meaning in one line. */
export type WinsockErrorEntry = readonly [code: number, meaning: string];

/** The Winsock errors: the number and the meaning of each. */
export const WINSOCK_ERROR_TABLE = {
  WSA_INVALID_HANDLE: [6, "The handle of an event object is not valid"],
  WSA_NOT_ENOUGH_MEMORY: [8, "There is not enough memory"],
  WSA_INVALID_PARAMETER: [87, "A parameter is not valid"],
  WSA_OPERATION_ABORTED: [995, "The overlapped operation was cancelled, or its socket closed"],
  WSA_IO_INCOMPLETE: [996, "The overlapped operation is not complete"],
  WSA_IO_PENDING: [997, "The overlapped operation will complete later"],
  WSAEINTR: [10004, "A blocking call was interrupted"],
  WSAEBADF: [10009, "The file handle is not valid"],
  WSAEACCES: [10013, "Access is denied by the socket's access permissions"],
  WSAEFAULT: [10014, "An address points outside the process, or a buffer is too small"],
  WSAEINVAL: [10022, "An argument is invalid, or the socket is in the wrong state for the call"],
  WSAEMFILE: [10024, "No more sockets can be opened"],
  WSAEWOULDBLOCK: [10035, "A non-blocking call cannot complete at once"],
  WSAEINPROGRESS: [10036, "A blocking call is in progress"],
  WSAEALREADY: [10037, "An operation is already in progress on the non-blocking socket"],
  WSAENOTSOCK: [10038, "The descriptor is not a socket"],
  WSAEDESTADDRREQ: [10039, "A destination address is required"],
  WSAEMSGSIZE: [10040, "The message is larger than the buffer or the network allows"],
  WSAEPROTOTYPE: [10041, "The protocol does not fit the socket type"],
  WSAENOPROTOOPT: [10042, "The option is unknown or not supported at this level"],
  WSAEPROTONOSUPPORT: [10043, "The protocol is not installed or not implemented"],
  WSAESOCKTNOSUPPORT: [10044, "The socket type is not supported in this address family"],
  WSAEOPNOTSUPP: [10045, "The operation is not supported by this kind of socket"],
  WSAEPFNOSUPPORT: [10046, "The protocol family is not installed or not implemented"],
  WSAEAFNOSUPPORT: [10047, "The address does not fit the protocol"],
  WSAEADDRINUSE: [10048, "The address is already in use"],
  WSAEADDRNOTAVAIL: [10049, "The address is not one of this machine's"],
  WSAENETDOWN: [10050, "The network subsystem has failed"],
  WSAENETUNREACH: [10051, "The network cannot be reached"],
  WSAENETRESET: [10052, "The connection was broken by keep-alive"],
  WSAECONNABORTED: [10053, "The connection was aborted by this machine"],
  WSAECONNRESET: [10054, "The connection was reset by the peer"],
  WSAENOBUFS: [10055, "There is no room for buffers, or a queue is full"],
  WSAEISCONN: [10056, "The socket is already connected"],
  WSAENOTCONN: [10057, "The socket is not connected"],
  WSAESHUTDOWN: [10058, "This direction of the socket has been shut down"],
  WSAETOOMANYREFS: [10059, "There are too many references to a kernel object"],
  WSAETIMEDOUT: [10060, "The peer did not answer in time"],
  WSAECONNREFUSED: [10061, "No socket is listening at the address"],
  WSAELOOP: [10062, "The name cannot be translated"],
  WSAENAMETOOLONG: [10063, "The name is too long"],
  WSAEHOSTDOWN: [10064, "The destination host is down"],
  WSAEHOSTUNREACH: [10065, "The destination host cannot be reached"],
  WSAENOTEMPTY: [10066, "The directory is not empty"],
  WSAEPROCLIM: [10067, "Too many processes use Winsock"],
  WSAEUSERS: [10068, "The user's quota is used up"],
  WSAEDQUOT: [10069, "The disk quota is used up"],
  WSAESTALE: [10070, "The file handle is no longer available"],
  WSAEREMOTE: [10071, "The item is not available locally"],
  WSASYSNOTREADY: [10091, "The network subsystem is not ready"],
  WSAVERNOTSUPPORTED: [10092, "The requested version of Winsock is not supported"],
  WSANOTINITIALISED: [10093, "WSAStartup has not been called successfully"],
  WSAEDISCON: [10101, "The peer is shutting down gracefully"],
  WSAENOMORE: [10102, "There are no more results"],
  WSAECANCELLED: [10103, "The call was cancelled"],
  WSAEINVALIDPROCTABLE: [10104, "The service provider's procedure table is invalid"],
  WSAEINVALIDPROVIDER: [10105, "The service provider is invalid, or of another version"],
  WSAEPROVIDERFAILEDINIT: [10106, "The service provider could not be loaded or started"],
  WSASYSCALLFAILURE: [10107, "A system call that should never fail has failed"],
  WSASERVICE_NOT_FOUND: [10108, "The service is not known"],
  WSATYPE_NOT_FOUND: [10109, "The class is not known"],
  WSA_E_NO_MORE: [10110, "There are no more results"],
  WSA_E_CANCELLED: [10111, "The call was cancelled"],
  WSAEREFUSED: [10112, "The database query was refused"],
  WSAHOST_NOT_FOUND: [11001, "The host is not known"],
  WSATRY_AGAIN: [11002, "The host is not known at the moment; try again"],
  WSANO_RECOVERY: [11003, "The name lookup failed permanently"],
  WSANO_DATA: [11004, "The name is known, but has no data of the requested type"],
} as const satisfies Record<string, WinsockErrorEntry>;

/** The name of a Winsock error code, such as `WSAENOTSOCK`. */
export type WinsockErrorName = keyof typeof WINSOCK_ERROR_TABLE;

/** The Winsock error codes by name. */
export const WSA_ERRORS: { readonly [Name in WinsockErrorName]: number } = Object.fromEntries(
  Object.entries(WINSOCK_ERROR_TABLE).map(([name, [code]]) => [name, code]),
) as Record<WinsockErrorName, number>;

const BY_CODE: ReadonlyMap<number, { name: string; meaning: string }> = new Map(
  Object.entries(WINSOCK_ERROR_TABLE).map(([name, [code, meaning]]) => [code, { name, meaning }]),
);

/**
 * Returns the name and the meaning of an error code.
 *
 * @param code A Winsock error code, such as 10038.
 * @returns The name and the meaning; `undefined` if the number is not a Winsock error code.
 */
export function describeWinsockError(code: number): { name: string; meaning: string } | undefined {
  return BY_CODE.get(code);
}
