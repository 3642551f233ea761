/**
 * In what one Unix differs from another, as data: what the code above asks instead of which system it is on.
 *
 * @module
 */
import type { BerkeleyConstants } from "../bsd_sockets.ts";
import type { OptionNumbers } from "../socket_options.ts";

/** The errors that the library tells apart, or has a Winsock code for. */
export type ErrnoName =
  | "EPERM"
  | "ENOENT"
  | "ESRCH"
  | "EINTR"
  | "EBADF"
  | "EAGAIN"
  | "ENOMEM"
  | "EACCES"
  | "EFAULT"
  | "ENOTDIR"
  | "ENOSPC"
  | "EINVAL"
  | "ENFILE"
  | "EMFILE"
  | "EROFS"
  | "EPIPE"
  | "ENAMETOOLONG"
  | "ENOSYS"
  | "ELOOP"
  | "ENOTSOCK"
  | "EDESTADDRREQ"
  | "EMSGSIZE"
  | "EPROTO"
  | "EPROTOTYPE"
  | "ENOPROTOOPT"
  | "EPROTONOSUPPORT"
  | "ESOCKTNOSUPPORT"
  | "ENOTSUP"
  | "EOPNOTSUPP"
  | "EAFNOSUPPORT"
  | "EADDRINUSE"
  | "EADDRNOTAVAIL"
  | "ENETDOWN"
  | "ENETUNREACH"
  | "ENONET"
  | "ECONNABORTED"
  | "ECONNRESET"
  | "ENOBUFS"
  | "EISCONN"
  | "ENOTCONN"
  | "ETOOMANYREFS"
  | "ETIMEDOUT"
  | "ECONNREFUSED"
  | "EHOSTDOWN"
  | "EHOSTUNREACH"
  | "EINPROGRESS";

/** One system. Names in capitals are those of its headers. */
export interface UnixSystem {
  /** The system as people call it. */
  readonly name: string;
  /** Where its libc may be; the first path that is granted is opened. */
  readonly libraryPaths: readonly string[];
  /** The function that tells where a thread's errno is. */
  readonly errnoFunction: string;
  /** Whether its libc is glibc, which tells of the end of a thread. */
  readonly glibc: boolean;
  /** The numbers of its errors; `undefined` for one that it does not have. */
  readonly errno: Readonly<Record<ErrnoName, number | undefined>>;
  /** The socket constants in which it also differs from Windows. */
  readonly berkeley: BerkeleyConstants;
  readonly SOL_SOCKET: number;
  /** Whether `getsockopt` tells SO_ACCEPTCONN; without it, the process looks at its own descriptors. */
  readonly hasAcceptConnOption: boolean;
  /** The option that tells a socket's protocol; without it, it is the usual one. */
  readonly SO_PROTOCOL: OptionNumbers | undefined;
  /** What lets two datagram sockets have one address, if both have it set. */
  readonly SHARED_DATAGRAM: readonly OptionNumbers[];
  readonly CLOCK_MONOTONIC: number;

  /** Whether addresses begin with their length, as in 4.4BSD: one byte, and one for the family, instead of two for it. */
  readonly lengthPrefixed: boolean;
  /** Bytes of `sun_path`; a file's name must leave room for the NUL behind it. */
  readonly pathSize: number;
  /** Whether local sockets can have names that are no files (unix(7)). */
  readonly abstractNames: boolean;

  readonly O_NONBLOCK: number;
  readonly F_DUPFD_CLOEXEC: number;
  /** What has calls make descriptors that do not wait and are not inherited; without them, `fcntl` does so afterwards. */
  readonly newSocketFlags: { readonly SOCK_CLOEXEC: number; readonly SOCK_NONBLOCK: number } | undefined;
  /** The system's own list of what is waited for (epoll(7)), and how it tells of it; without it, `poll` is given one each time. */
  readonly epoll:
    | { readonly EPOLL_CLOEXEC: number; readonly eventSize: number; readonly dataOffset: number }
    | undefined;
  /** The event of `poll` that tells that the peer has ended its side: asked for, or told in any case. */
  readonly POLL_ENDED: number;
  /** The flag of `eventfd`; without it, a pipe wakes whoever polls. */
  readonly EFD_CLOEXEC: number | undefined;
  /**
   * The system calls by which an event counter tells that a descriptor is ready (`io_submit(2)`); without them, a pool
   * thread waits.
   */
  readonly asyncPoll: {
    readonly io_setup: bigint;
    readonly io_destroy: bigint;
    readonly io_submit: bigint;
    readonly io_getevents: bigint;
  } | undefined;
  /**
   * The system call that tells a process from a later one with its id, and the option of a local socket that does so for
   * its peer, which older systems do not know; without them, `kqueue` does.
   */
  readonly pidfd: { readonly SYS_pidfd_open: bigint; readonly SO_PEERPIDFD: OptionNumbers } | undefined;
  /** The option that has a local socket refuse descriptors; `undefined` where there is none. */
  readonly SO_PASSRIGHTS: OptionNumbers | undefined;
  /** Whether processes can share memory files that are sealed (`memfd_create`), and libc has locks for such memory. */
  readonly sharedLocks: boolean;
  /** The flag of `unlinkat` that removes a directory. */
  readonly AT_REMOVEDIR: number;
  /** Whether files tell about processes (proc(5)). */
  readonly processFiles: boolean;
  /** The option of a local socket whose value begins with the id of the process at the other end. */
  readonly PEER_PROCESS: OptionNumbers;

  readonly MSG_DONTWAIT: number;
  /** 0 where there is no such flag; Deno ignores SIGPIPE in any case. */
  readonly MSG_NOSIGNAL: number;
  readonly MSG_CTRUNC: number;
  /** 0 where there is no such flag; `fcntl` does so afterwards. */
  readonly MSG_CMSG_CLOEXEC: number;
  /** Bytes of `msg_controllen` and `cmsg_len`, from which the layout of both structures follows. */
  readonly messageLengthSize: 4 | 8;
  /** The most descriptors that one message can carry. */
  readonly mostDescriptors: number;
  /** Whether the descriptors that a receiver has no room for are closed; otherwise they stay open in its process, unknown. */
  readonly closesTruncatedDescriptors: boolean;
  /** Whether a socket may be shut down while only a message holds it, so that its sender must keep it until it has come. */
  readonly collectsInFlightSockets: boolean;
  /** What accepting fails with where it is to be tried again: some say what became of the connection, not of the listener. */
  readonly acceptAgain: readonly ErrnoName[];
  /** What sending a descriptor, or a datagram, fails with while there is no room. */
  readonly waits: { readonly descriptor: readonly ErrnoName[]; readonly datagram: readonly ErrnoName[] };
}
