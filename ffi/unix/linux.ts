/**
 * Linux: glibc on x86-64 and arm64, kernel 5.3 or newer.
 *
 * @module
 */
import type { UnixSystem } from "./unix_system.ts";

const SOL_SOCKET = 1;
const IPPROTO_IP = 0;
const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;

/** Fedora, Arch; the images `denoland/deno:alpine` and `denoland/deno:distroless`; images based on `alpine-glibc`. */
const EVERY_ARCHITECTURE = [
  "/lib64/libc.so.6",
  "/usr/lib/libc.so.6",
  "/usr/local/lib/libc.so.6",
  "/usr/glibc-compat/lib/libc.so.6",
] as const;

/** The paths where distributions and images keep glibc. Debian has a directory for each architecture. */
export const GLIBC_PATHS = {
  x86_64: ["/lib/x86_64-linux-gnu/libc.so.6", ...EVERY_ARCHITECTURE],
  aarch64: ["/lib/aarch64-linux-gnu/libc.so.6", ...EVERY_ARCHITECTURE],
} as const;

/** `asm/unistd.h` */
const ASYNC_POLL = {
  x86_64: { io_setup: 206n, io_destroy: 207n, io_submit: 209n, io_getevents: 208n },
  aarch64: { io_setup: 0n, io_destroy: 1n, io_submit: 2n, io_getevents: 4n },
} as const;

export const LINUX: UnixSystem = {
  name: "Linux",
  libraryPaths: GLIBC_PATHS[Deno.build.arch],
  loadedName: "libc.so.6",
  errnoFunction: "__errno_location",
  glibc: true,
  errno: {
    EPERM: 1,
    ENOENT: 2,
    ESRCH: 3,
    EINTR: 4,
    EBADF: 9,
    EAGAIN: 11,
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
    ENAMETOOLONG: 36,
    ENOSYS: 38,
    ELOOP: 40,
    ENOTSOCK: 88,
    EDESTADDRREQ: 89,
    EMSGSIZE: 90,
    EPROTO: 71,
    EPROTOTYPE: 91,
    ENOPROTOOPT: 92,
    EPROTONOSUPPORT: 93,
    ESOCKTNOSUPPORT: 94,
    ENOTSUP: 95,
    EOPNOTSUPP: 95,
    EAFNOSUPPORT: 97,
    EADDRINUSE: 98,
    EADDRNOTAVAIL: 99,
    ENETDOWN: 100,
    ENETUNREACH: 101,
    ENONET: 64,
    ECONNABORTED: 103,
    ECONNRESET: 104,
    ENOBUFS: 105,
    EISCONN: 106,
    ENOTCONN: 107,
    ETOOMANYREFS: 109,
    ETIMEDOUT: 110,
    ECONNREFUSED: 111,
    EHOSTDOWN: 112,
    EHOSTUNREACH: 113,
    EINPROGRESS: 115,
  },
  berkeley: {
    AF_INET6: 10,
    SO_TYPE: [SOL_SOCKET, 3],
    SO_ACCEPTCONN: [SOL_SOCKET, 30],
    IP_ADD_MEMBERSHIP: [IPPROTO_IP, 35],
    IP_DROP_MEMBERSHIP: [IPPROTO_IP, 36],
    IPV6_ADD_MEMBERSHIP: [IPPROTO_IPV6, 20],
    IPV6_DROP_MEMBERSHIP: [IPPROTO_IPV6, 21],
    // SO_REUSEADDR: on Linux it never shares a listening port; it only ignores connections that are still closing.
    LISTENER: [SOL_SOCKET, 2],
    lingerWidth: 4,
    hasTimeval: true,
    options: {
      TCP_NODELAY: [IPPROTO_TCP, 1],
      TCP_KEEPIDLE: [IPPROTO_TCP, 4],
      TCP_KEEPINTVL: [IPPROTO_TCP, 5],
      TCP_KEEPCNT: [IPPROTO_TCP, 6],
      SO_KEEPALIVE: [SOL_SOCKET, 9],
      SO_LINGER: [SOL_SOCKET, 13],
      SO_RCVBUF: [SOL_SOCKET, 8],
      SO_SNDBUF: [SOL_SOCKET, 7],
      SO_EXCLUSIVEADDRUSE: undefined,
      SO_REUSEADDR: [SOL_SOCKET, 2],
      SO_REUSEPORT: [SOL_SOCKET, 15],
      SO_BROADCAST: [SOL_SOCKET, 6],
      SO_RCVTIMEO: [SOL_SOCKET, 20],
      SO_SNDTIMEO: [SOL_SOCKET, 21],
      SO_ERROR: [SOL_SOCKET, 4],
      IP_TTL: [IPPROTO_IP, 2],
      IP_TOS: [IPPROTO_IP, 1],
      IP_FREEBIND: [IPPROTO_IP, 15],
      IPV6_UNICAST_HOPS: [IPPROTO_IPV6, 16],
      IPV6_TCLASS: [IPPROTO_IPV6, 67],
      IPV6_V6ONLY: [IPPROTO_IPV6, 26],
      IP_MULTICAST_IF: [IPPROTO_IP, 32],
      IP_MULTICAST_LOOP: [IPPROTO_IP, 34],
      IP_MULTICAST_TTL: [IPPROTO_IP, 33],
      IPV6_MULTICAST_IF: [IPPROTO_IPV6, 17],
      IPV6_MULTICAST_LOOP: [IPPROTO_IPV6, 19],
      IPV6_MULTICAST_HOPS: [IPPROTO_IPV6, 18],
    },
  },
  SOL_SOCKET,
  hasAcceptConnOption: true,
  SO_PROTOCOL: [SOL_SOCKET, 38],
  SHARED_DATAGRAM: [[SOL_SOCKET, 2]],
  CLOCK_MONOTONIC: 1,
  getaddrinfo: { addressOffset: 24, EAI_AGAIN: -3, EAI_NODATA: -5, EAI_NONAME: -2 },

  lengthPrefixed: false,
  pathSize: 108,
  abstractNames: true,
  sequencedPackets: true,

  O_NONBLOCK: 0o4000,
  O_APPEND: 0o2000,
  O_CLOEXEC: 0o2000000,
  F_DUPFD_CLOEXEC: 1030,
  newSocketFlags: { SOCK_CLOEXEC: 0o2000000, SOCK_NONBLOCK: 0o4000 },
  // struct epoll_event is packed only on x86-64.
  epoll: Deno.build.arch === "x86_64"
    ? { EPOLL_CLOEXEC: 0o2000000, eventSize: 12, dataOffset: 4 }
    : { EPOLL_CLOEXEC: 0o2000000, eventSize: 16, dataOffset: 8 },
  POLL_ENDED: 0x2000, // POLLRDHUP
  EFD_CLOEXEC: 0o2000000,
  asyncPoll: ASYNC_POLL[Deno.build.arch],
  pidfd: { SYS_pidfd_open: 434n, SO_PEERPIDFD: [SOL_SOCKET, 77] },
  MSG_TRUNC: 0x20,
  RWF_NOWAIT: 0x8,
  SO_PASSRIGHTS: [SOL_SOCKET, 83],
  sharedLocks: true,
  AT_REMOVEDIR: 0x200,
  processFiles: true,
  PEER_PROCESS: [SOL_SOCKET, 17], // SO_PEERCRED, struct ucred

  MSG_DONTWAIT: 0x40,
  MSG_NOSIGNAL: 0x4000,
  MSG_CTRUNC: 0x8,
  MSG_CMSG_CLOEXEC: 0x40000000,
  messageLengthSize: 8,
  mostDescriptors: 253, // SCM_MAX_FD
  closesTruncatedDescriptors: true,
  collectsInFlightSockets: false,
  // accept(2): network errors of the new connection are reported by accept.
  acceptAgain: [
    "EAGAIN",
    "EINTR",
    "ECONNABORTED",
    "ENETDOWN",
    "EPROTO",
    "ENOPROTOOPT",
    "EHOSTDOWN",
    "ENONET",
    "EHOSTUNREACH",
    "EOPNOTSUPP",
    "ENETUNREACH",
  ],
  // ETOOMANYREFS: this user has as many descriptors in flight as it may have open.
  waits: { descriptor: ["EAGAIN", "EINTR", "ETOOMANYREFS"], datagram: ["EAGAIN", "EINTR"] },
};
