/**
 * The differences between Unix systems, as data. Other modules read this data instead of asking for the name of the
 * system.
 *
 * @module
 */
import type { BerkeleyConstants } from "../bsd_sockets.ts";
import type { OptionNumbers } from "../socket_options.ts";

/** The errors that the library distinguishes, or translates to a Winsock code. */
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
  /** The name of the system. */
  readonly name: string;
  /** The paths where its libc may be. The first one that is granted is opened. */
  readonly libraryPaths: readonly string[];
  /**
   * The name by which the dynamic loader finds the libc that this process already uses, wherever that is. Deno passes a
   * name to the loader only if all of `--allow-ffi` is granted.
   */
  readonly loadedName: string | undefined;
  /** The function that returns the address of errno. */
  readonly errnoFunction: string;
  /** Whether its libc is glibc, which can report the end of a thread. */
  readonly glibc: boolean;
  /** The numbers of its errors; `undefined` for an error that it does not have. */
  readonly errno: Readonly<Record<ErrnoName, number | undefined>>;
  /** Further socket constants that differ from those of Windows. */
  readonly berkeley: BerkeleyConstants;
  readonly SOL_SOCKET: number;
  /** Whether `getsockopt` supports SO_ACCEPTCONN. Otherwise the process queries its own descriptors. */
  readonly hasAcceptConnOption: boolean;
  /** The option with the protocol of a socket. Without it, the usual protocol is assumed. */
  readonly SO_PROTOCOL: OptionNumbers | undefined;
  /** The options that let two datagram sockets share an address, if both sockets set them. */
  readonly SHARED_DATAGRAM: readonly OptionNumbers[];
  readonly CLOCK_MONOTONIC: number;
  /** The offset of `ai_addr` in `struct addrinfo`, and the numbers of the errors of `getaddrinfo`. */
  readonly getaddrinfo: {
    readonly addressOffset: number;
    readonly EAI_AGAIN: number;
    readonly EAI_NODATA: number;
    readonly EAI_NONAME: number;
  };

  /**
   * Whether an address begins with its length, as in 4.4BSD: one byte, followed by one byte for the family. Otherwise
   * the family has two bytes.
   */
  readonly lengthPrefixed: boolean;
  /** The size of `sun_path` in bytes. The path of a file must leave room for a NUL. */
  readonly pathSize: number;
  /** Whether local sockets can have abstract names, which are not files (unix(7)). */
  readonly abstractNames: boolean;
  /** Whether local sockets can be of type SOCK_SEQPACKET. */
  readonly sequencedPackets: boolean;

  readonly O_NONBLOCK: number;
  readonly O_APPEND: number;
  readonly O_CLOEXEC: number;
  readonly F_DUPFD_CLOEXEC: number;
  /** The flags that make new descriptors non-blocking and not inherited. Without them, `fcntl` is called afterwards. */
  readonly newSocketFlags: { readonly SOCK_CLOEXEC: number; readonly SOCK_NONBLOCK: number } | undefined;
  /**
   * The kernel's list of watched descriptors (epoll(7)) and the layout of its events. Without it, the list is passed to
   * each `poll`.
   */
  readonly epoll:
    | { readonly EPOLL_CLOEXEC: number; readonly eventSize: number; readonly dataOffset: number }
    | undefined;
  /** The event of `poll` for the end of the peer's side. Some systems report it only on request. */
  readonly POLL_ENDED: number;
  /** The flag of `eventfd`. Without it, a pipe is used as a waker. */
  readonly EFD_CLOEXEC: number | undefined;
  /**
   * The system calls that increment an event counter when a descriptor is ready (`io_submit(2)`). Without them, a pool
   * thread waits.
   */
  readonly asyncPoll: {
    readonly io_setup: bigint;
    readonly io_destroy: bigint;
    readonly io_submit: bigint;
    readonly io_getevents: bigint;
  } | undefined;
  /**
   * The system call for a reference to a process (pidfd), and the option of a local socket for such a reference to its
   * peer, which older systems do not support. Without them, `kqueue` is used.
   */
  readonly pidfd: { readonly SYS_pidfd_open: bigint; readonly SO_PEERPIDFD: OptionNumbers } | undefined;
  /**
   * The flag of `recv` for the length of the whole message, whatever fits into the buffer; `undefined` if the system does
   * not have it.
   */
  readonly MSG_TRUNC: number | undefined;
  /**
   * The flag of `preadv2` and `pwritev2` for not waiting, whatever the descriptor says; `undefined` if the system does not
   * have it.
   */
  readonly RWF_NOWAIT: number | undefined;
  /** The option that makes a local socket refuse descriptors; `undefined` if the system does not have it. */
  readonly SO_PASSRIGHTS: OptionNumbers | undefined;
  /** Whether processes can share sealed memory files (`memfd_create`), and libc has locks for such memory. */
  readonly sharedLocks: boolean;
  /** The flag of `unlinkat` that removes a directory. */
  readonly AT_REMOVEDIR: number;
  /** Whether there are files with information about processes (proc(5)). */
  readonly processFiles: boolean;
  /** The option of a local socket whose value begins with the process id of the peer. */
  readonly PEER_PROCESS: OptionNumbers;

  readonly MSG_DONTWAIT: number;
  /** 0 if the system does not have the flag. Deno ignores SIGPIPE in any case. */
  readonly MSG_NOSIGNAL: number;
  readonly MSG_CTRUNC: number;
  /** 0 if the system does not have the flag. `fcntl` is then called afterwards. */
  readonly MSG_CMSG_CLOEXEC: number;
  /** The size of `msg_controllen` and `cmsg_len` in bytes. The layout of both structures follows from it. */
  readonly messageLengthSize: 4 | 8;
  /** The most descriptors that one message can carry. */
  readonly mostDescriptors: number;
  /**
   * Whether the kernel closes the descriptors that a receiver has no room for. Otherwise they stay open in the
   * receiving process, which does not know their numbers.
   */
  readonly closesTruncatedDescriptors: boolean;
  /**
   * Whether the kernel may shut down a socket while only a message in flight holds it. The sender must then keep it
   * until it has arrived.
   */
  readonly collectsInFlightSockets: boolean;
  /**
   * The errors of `accept` after which accepting is tried again. Some of them are about the connection, not the
   * listener.
   */
  readonly acceptAgain: readonly ErrnoName[];
  /** The errors of sending a descriptor, or a datagram, while there is no room. */
  readonly waits: { readonly descriptor: readonly ErrnoName[]; readonly datagram: readonly ErrnoName[] };
}
