/**
 * The numbers that stand in the structures, by their names in the Windows headers.
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

/** `dwProviderFlags`: how the entry stands in the catalogue. */
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

/** Address families, in Windows' numbers: AF_INET6 is 10 on Linux, and 30 on macOS. */
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

/** For the address family, socket type or protocol of `WSASocketW` and `WSPSocket`: take it from the WSAPROTOCOL_INFO. */
export const FROM_PROTOCOL_INFO: -1 = -1;
/** What `socket()` sets too, so that both sides of a shared socket use the same flags; and child processes get no copy. */
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
