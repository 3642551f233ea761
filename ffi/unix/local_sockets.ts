/**
 * Local sockets (unix(7)): their addresses, sockets for the library's own use, and directories that only this user can
 * open. All of it uses libc, so that no file permission of Deno is needed.
 *
 * @module
 */
import { shown } from "../../internal/options.ts";
import { AF_UNIX, describeAddress, writeFamily } from "../socket_address.ts";
import { closeElsewhere, errno, isErrno, lastUnixError, libc, libcFunctions, unixError, unixSystem } from "./libc.ts";
import type { UnixSystem } from "./unix_system.ts";
import { SOCK } from "../../structs/constants.ts";
import { newSocket } from "./descriptors.ts";
import type { WinsockError } from "../winsock_error.ts";

/**
 * Encodes a `struct sockaddr_un`. An abstract name begins with a NUL and ends with the address; the path of a file ends
 * with a NUL.
 *
 * @param path The path of a file, or a NUL and the abstract name.
 * @param system The system whose layout is used. Defaults to the current system.
 * @returns The structure, up to the last byte that is used.
 * @throws {TypeError} If the path is empty, or is that of a file and has a NUL in it.
 * @throws {RangeError} If the path is too long for the system.
 * @throws {Deno.errors.NotSupported} If it is an abstract name, and the system does not have them.
 */
export function encodeLocalAddress(path: string, system: UnixSystem = unixSystem()): Uint8Array<ArrayBuffer> {
  const abstract = path.startsWith("\0");
  if (path === "" || !abstract && path.includes("\0")) {
    throw new TypeError(`Invalid \`path\`: must be that of a local socket, got ${shown(path)}`);
  }
  if (abstract && !system.abstractNames) {
    throw new Deno.errors.NotSupported(
      `Cannot use the local socket "@${path.slice(1)}": ${system.name} does not have abstract names`,
    );
  }
  const bytes = new TextEncoder().encode(abstract ? path : `${path}\0`);
  if (bytes.byteLength > system.pathSize) {
    const most = abstract ? system.pathSize : system.pathSize - 1;
    throw new RangeError(`Invalid \`path\`: must have at most ${most} bytes, got ${shown(path)}`);
  }
  const name = new Uint8Array(2 + bytes.byteLength);
  name.set(bytes, 2);
  writeFamily(name, AF_UNIX, system.lengthPrefixed);
  return name;
}

const BACKLOG = 512;
const SHUT_RD = 0;
const MSG_PEEK = 2;

/**
 * Listens on a local socket.
 *
 * @param path The path of a file, or a NUL and the abstract name.
 * @returns The listening socket, non-blocking and closed on exec.
 * @throws {WinsockError} If the system refuses.
 */
export function listenLocal(path: string): bigint {
  return withSocket((fd, address) => {
    const bound = libc().bind(fd, address, address.byteLength);
    if (bound === -1) throw lastUnixError(`bind to ${describeAddress({ path })}`, "bind");
    const listening = libc().listen(fd, BACKLOG);
    if (listening === -1) throw lastUnixError(`listen on ${describeAddress({ path })}`, "listen");
    return fd;
  }, path);
}

/**
 * Connects to a local socket, without waiting.
 *
 * @param path The path of a file, or a NUL and the abstract name.
 * @returns The connected socket, non-blocking and closed on exec; `undefined` if the backlog of the listener is full
 * and the system reports that separately.
 * @throws {WinsockError} WSAECONNREFUSED if no socket is listening there.
 */
export function connectLocal(path: string): bigint | undefined {
  return withSocket((fd, address) => {
    const connected = libc().connect(fd, address, address.byteLength);
    if (connected === 0) return fd;
    const code = errno();
    if (!isErrno(code, "EAGAIN")) throw unixError(code, `connect to ${describeAddress({ path })}`, "connect");
    libc().close(fd);
    return undefined;
  }, path);
}

/**
 * Makes a local socket refuse descriptors: sending one to it fails. For a listening socket this includes connections
 * that are not accepted yet.
 *
 * @param fd The socket.
 * @returns Whether it refuses them. Always `false` on macOS, and on Linux before 6.16.
 */
export function refuseDescriptors(fd: bigint): boolean {
  return passDescriptors(fd, 0);
}

/**
 * Makes a local socket accept descriptors, as it does by default.
 *
 * @param fd The socket.
 */
export function acceptDescriptors(fd: bigint): void {
  passDescriptors(fd, 1);
}

function passDescriptors(fd: bigint, value: 0 | 1): boolean {
  const { SO_PASSRIGHTS } = unixSystem();
  return SO_PASSRIGHTS !== undefined && libc().setsockopt(fd, ...SO_PASSRIGHTS, new Int32Array([value]), 4) === 0;
}

/**
 * Closes a connected local socket without waiting for data that the peer may have sent. Unread data may carry a
 * descriptor that lingers, whose close would block.
 *
 * @param fd The socket. There must be no pending wait for it.
 */
export function closeLocal(fd: bigint): void {
  libc().shutdown(fd, SHUT_RD);
  // The connection is shut down, so nothing more can arrive; only this read tells whether something had arrived before.
  const left = libc().recv(fd, new Uint8Array(1), 1n, MSG_PEEK | unixSystem().MSG_DONTWAIT);
  if (left === 0n) libc().close(fd);
  else closeElsewhere(fd);
}

/**
 * Removes the file of a local socket to which no process has a socket bound any more, whichever process had the last one.
 *
 * A datagram socket asks: where a stream socket is bound, connecting fails because their types differ, and what listens
 * there does not hear of it. On Linux a file that is not a socket refuses connections as well; but it can be opened.
 *
 * @param path The file.
 */
export function removeUnbound(path: string): void {
  if (path === "" || path.startsWith("\0") || canBeOpened(path)) return;
  const name = encodeLocalAddress(path);
  const probe = newSocket(AF_UNIX, SOCK.SOCK_DGRAM);
  try {
    const connected = libc().connect(probe, name, name.byteLength);
    const refused = connected === -1 && isErrno(errno(), "ECONNREFUSED");
    if (refused) functions().unlink(nulTerminated(path));
  } finally {
    libc().close(probe);
  }
}

/** Whether a file can be read by its name, as that of a socket cannot. */
function canBeOpened(path: string): boolean {
  const fd = functions().open(nulTerminated(path), unixSystem().O_NONBLOCK);
  if (fd !== -1) libc().close(BigInt(fd));
  return fd !== -1;
}

function withSocket<T>(use: (fd: bigint, address: Uint8Array<ArrayBuffer>) => T, path: string): T {
  const address = encodeLocalAddress(path);
  const fd = newSocket(AF_UNIX, SOCK.SOCK_STREAM);
  try {
    return use(fd, address);
  } catch (error) {
    libc().close(fd);
    throw error;
  }
}

/**
 * The parents of private directories; the first one that can be written is used. The user's own directory for such
 * files is not used: its path may leave no room for a name, and may come from the environment.
 */
const PARENTS = ["/tmp", "/dev/shm", "/var/tmp"];
const NAME = "winsock-handoff-";
const FILE_PATH = new RegExp(`^(?:${PARENTS.join("|")})/${NAME}\\w{6}/[\\w-]+$`);

/** `rwx--x--x`: other users can use names that they know, and cannot list the directory. */
const SEARCHABLE = 0o711;
/** `rwx-wx-wx`: other users can also make names. */
const WRITABLE = 0o733;
/** `rw-rw-rw-`: connecting to a local socket needs write access to its file. */
const CONNECTABLE = 0o666;
/** `rw-------` */
const OWNERS = 0o600;
const SAME_GROUP = -1;

const functions = libcFunctions({
  /** `char *mkdtemp(char *template)` */
  mkdtemp: { parameters: ["buffer"], result: "usize" },
  /** `int chmod(const char *path, mode_t mode)` */
  chmod: { parameters: ["buffer", "u32"], result: "i32" },
  /** `int chown(const char *path, uid_t owner, gid_t group)` */
  chown: { parameters: ["buffer", "u32", "i32"], result: "i32" },
  /** `uid_t geteuid(void)` */
  geteuid: { parameters: [], result: "u32" },
  /** `int open(const char *path, int oflag, ...)`, without a mode */
  open: { parameters: ["buffer", "i32"], result: "i32" },
  /** `int rename(const char *oldpath, const char *newpath)` */
  rename: { parameters: ["buffer", "buffer"], result: "i32" },
  /** `int unlink(const char *path)` */
  unlink: { parameters: ["buffer"], result: "i32" },
  /** `int rmdir(const char *path)` */
  rmdir: { parameters: ["buffer"], result: "i32" },
});

/** A new directory that only this user may enter (mode 0700). */
export interface PrivateDirectory {
  readonly path: string;
  /**
   * Listens on a new socket in the directory. Its file has a random name that no list of the system contains:
   * `/proc/net/unix` has another name, which the file had before.
   *
   * @returns The path of the file, and the listening socket.
   * @throws {WinsockError} If the system refuses. There is no file then.
   */
  listen(): { file: string; fd: bigint };
  /**
   * If this process is root, lets processes of other users access the directory, because the target may run as another
   * user. Otherwise does nothing. Those processes must know its name, or have a descriptor of it.
   *
   * @param file A socket in the directory that they may connect to. Without it they may make names in the directory.
   * @param user The user whose processes may connect. Defaults to all users.
   */
  admit(file?: string, user?: number): void;
  /** Removes the directory, and the named file in it. */
  remove(file?: string): void;
}

/**
 * Makes a directory whose name ends in six random letters (mkdtemp(3)).
 *
 * @throws {WinsockError} If no parent directory can be written.
 */
export function makePrivateDirectory(): PrivateDirectory {
  const errors: WinsockError[] = [];
  for (const parent of PARENTS) {
    const template = nulTerminated(`${parent}/${NAME}XXXXXX`);
    const made = functions().mkdtemp(template);
    if (made !== 0n) return privateDirectory(new TextDecoder().decode(template.subarray(0, -1)));
    errors.push(lastUnixError(`make a directory in ${parent}`, "mkdtemp"));
  }
  throw errors[0]!;
}

/** Returns whether a path can be that of a file in such a directory, on this system or another. */
export function isPrivatePath(path: string): boolean {
  return FILE_PATH.test(path);
}

function privateDirectory(path: string): PrivateDirectory {
  return {
    path,
    listen() {
      const listed = `${path}/${crypto.randomUUID()}`;
      const file = `${path}/${crypto.randomUUID()}`;
      const fd = listenLocal(listed);
      const renamed = functions().rename(nulTerminated(listed), nulTerminated(file));
      if (renamed === 0) return { file, fd };
      const error = lastUnixError(`rename the local socket ${listed}`, "rename");
      functions().unlink(nulTerminated(listed));
      libc().close(fd);
      throw error;
    },
    admit(file, user) {
      if (functions().geteuid() !== 0 || user === 0) return;
      change(path, file === undefined ? WRITABLE : SEARCHABLE);
      if (file === undefined) return;
      const given = user !== undefined && functions().chown(nulTerminated(file), user, SAME_GROUP) === 0;
      change(file, given ? OWNERS : CONNECTABLE);
    },
    remove(file) {
      if (file !== undefined) functions().unlink(nulTerminated(file));
      functions().rmdir(nulTerminated(path));
    },
  };
}

function change(path: string, mode: number): void {
  const result = functions().chmod(nulTerminated(path), mode);
  if (result === -1) throw lastUnixError(`let others use ${path}`, "chmod");
}

/** Encodes a text as C expects it: UTF-8 with a NUL at the end. */
export function nulTerminated(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
