/**
 * macOS on x86-64 and arm64. The values are those of the headers that Apple publishes (xnu, `bsd/sys`, `bsd/netinet`).
 *
 * @module
 */
import type { UnixSystem } from "./unix_system.ts";

const SOL_SOCKET = 0xffff;
const SOL_LOCAL = 0;
const IPPROTO_IP = 0;
const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;

export const DARWIN: UnixSystem = {
  name: "macOS",
  // This file does not exist on disk; the loader knows the path.
  libraryPaths: ["/usr/lib/libSystem.B.dylib"],
  loadedName: undefined,
  errnoFunction: "__error",
  glibc: false,
  errno: {
    EPERM: 1,
    ENOENT: 2,
    ESRCH: 3,
    EINTR: 4,
    EBADF: 9,
    EAGAIN: 35,
    ENOMEM: 12,
    EACCES: 13,
    EFAULT: 14,
    ENOTDIR: 20,
    ENOSPC: 28,
    EINVAL: 22,
    ENFILE: 23,
    EMFILE: 24,
    EROFS: 30,
    EPIPE: 32,
    ENAMETOOLONG: 63,
    ENOSYS: 78,
    ELOOP: 62,
    ENOTSOCK: 38,
    EDESTADDRREQ: 39,
    EMSGSIZE: 40,
    EPROTO: 100,
    EPROTOTYPE: 41,
    ENOPROTOOPT: 42,
    EPROTONOSUPPORT: 43,
    ESOCKTNOSUPPORT: 44,
    ENOTSUP: 45,
    EOPNOTSUPP: 102,
    EAFNOSUPPORT: 47,
    EADDRINUSE: 48,
    EADDRNOTAVAIL: 49,
    ENETDOWN: 50,
    ENETUNREACH: 51,
    ENONET: undefined,
    ECONNABORTED: 53,
    ECONNRESET: 54,
    ENOBUFS: 55,
    EISCONN: 56,
    ENOTCONN: 57,
    ETOOMANYREFS: 59,
    ETIMEDOUT: 60,
    ECONNREFUSED: 61,
    EHOSTDOWN: 64,
    EHOSTUNREACH: 65,
    EINPROGRESS: 36,
  },
  berkeley: {
    AF_INET6: 30,
    SO_TYPE: [SOL_SOCKET, 0x1008],
    SO_ACCEPTCONN: [SOL_SOCKET, 0x0002],
    IP_ADD_MEMBERSHIP: [IPPROTO_IP, 12],
    IP_DROP_MEMBERSHIP: [IPPROTO_IP, 13],
    IPV6_ADD_MEMBERSHIP: [IPPROTO_IPV6, 12], // IPV6_JOIN_GROUP
    IPV6_DROP_MEMBERSHIP: [IPPROTO_IPV6, 13], // IPV6_LEAVE_GROUP
    // SO_REUSEADDR: two listeners still cannot have exactly the same address.
    LISTENER: [SOL_SOCKET, 0x0004],
    lingerWidth: 4,
    hasTimeval: true,
    options: {
      TCP_NODELAY: [IPPROTO_TCP, 0x01],
      TCP_KEEPIDLE: [IPPROTO_TCP, 0x10], // TCP_KEEPALIVE
      TCP_KEEPINTVL: [IPPROTO_TCP, 0x101],
      TCP_KEEPCNT: [IPPROTO_TCP, 0x102],
      SO_KEEPALIVE: [SOL_SOCKET, 0x0008],
      SO_LINGER: [SOL_SOCKET, 0x1080], // SO_LINGER_SEC: the unit of SO_LINGER itself is ticks
      SO_RCVBUF: [SOL_SOCKET, 0x1002],
      SO_SNDBUF: [SOL_SOCKET, 0x1001],
      SO_EXCLUSIVEADDRUSE: undefined,
      SO_REUSEADDR: [SOL_SOCKET, 0x0004],
      SO_REUSEPORT: [SOL_SOCKET, 0x0200],
      SO_BROADCAST: [SOL_SOCKET, 0x0020],
      SO_RCVTIMEO: [SOL_SOCKET, 0x1006],
      SO_SNDTIMEO: [SOL_SOCKET, 0x1005],
      SO_ERROR: [SOL_SOCKET, 0x1007],
      IP_TTL: [IPPROTO_IP, 4],
      IP_TOS: [IPPROTO_IP, 3],
      IP_FREEBIND: undefined,
      IPV6_UNICAST_HOPS: [IPPROTO_IPV6, 4],
      IPV6_TCLASS: [IPPROTO_IPV6, 36],
      IPV6_V6ONLY: [IPPROTO_IPV6, 27],
      IP_MULTICAST_IF: [IPPROTO_IP, 9],
      IP_MULTICAST_LOOP: [IPPROTO_IP, 11],
      IP_MULTICAST_TTL: [IPPROTO_IP, 10],
      IPV6_MULTICAST_IF: [IPPROTO_IPV6, 9],
      IPV6_MULTICAST_LOOP: [IPPROTO_IPV6, 11],
      IPV6_MULTICAST_HOPS: [IPPROTO_IPV6, 10],
    },
  },
  SOL_SOCKET,
  hasAcceptConnOption: false,
  SO_PROTOCOL: undefined,
  SHARED_DATAGRAM: [[SOL_SOCKET, 0x0004], [SOL_SOCKET, 0x0200]], // SO_REUSEADDR alone shares only multicast addresses
  CLOCK_MONOTONIC: 6,
  getaddrinfo: { addressOffset: 32, EAI_AGAIN: 2, EAI_NODATA: 7, EAI_NONAME: 8 },

  lengthPrefixed: true,
  pathSize: 104,
  abstractNames: false,
  sequencedPackets: false,

  O_NONBLOCK: 0x4,
  O_APPEND: 0x8,
  O_CLOEXEC: 0x1000000,
  F_DUPFD_CLOEXEC: 67,
  newSocketFlags: undefined,
  epoll: undefined,
  POLL_ENDED: 0x0010, // POLLHUP
  EFD_CLOEXEC: undefined,
  asyncPoll: undefined,
  pidfd: undefined,
  MSG_TRUNC: undefined,
  RWF_NOWAIT: undefined,
  SO_PASSRIGHTS: undefined,
  sharedLocks: false,
  AT_REMOVEDIR: 0x80,
  processFiles: false,
  PEER_PROCESS: [SOL_LOCAL, 0x002], // LOCAL_PEERPID

  MSG_DONTWAIT: 0x80,
  MSG_NOSIGNAL: 0,
  MSG_CTRUNC: 0x20,
  MSG_CMSG_CLOEXEC: 0,
  messageLengthSize: 4,
  mostDescriptors: 512, // UIPC_MAX_CMSG_FD
  closesTruncatedDescriptors: false,
  collectsInFlightSockets: true,
  acceptAgain: ["EAGAIN", "EINTR", "ECONNABORTED"],
  // EMSGSIZE: the limit for the descriptors of a message decreases as the queue of the receiver grows.
  waits: {
    descriptor: ["EAGAIN", "EINTR", "ETOOMANYREFS", "ENOBUFS", "EMSGSIZE"],
    datagram: ["EAGAIN", "EINTR", "ENOBUFS"],
  },
};
