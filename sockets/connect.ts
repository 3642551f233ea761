/**
 * Connects to a TCP address or a local socket.
 *
 * @module
 */
import { BOOLEAN, check, checkOptions, integer, MAX_DURATION, SIGNAL } from "../internal/options.ts";
import { systemCalls } from "../ffi/system.ts";
import type { LocalType } from "../ffi/platform.ts";
import {
  checkName,
  type InternetAddress,
  isAddress,
  type SocketAddr,
  type SocketAddress,
  toAddress,
} from "../ffi/socket_address.ts";
import { asDeno, toDenoError } from "../ffi/winsock_error.ts";
import { checkLocalType, transportOf } from "./listener.ts";
import { ownSocket, type Socket } from "./socket.ts";

/** Options for {@linkcode connect} with TCP, in the shape of `Deno.ConnectOptions`. */
export interface ConnectOptions {
  /** The protocol. Defaults to `"tcp"`. */
  transport?: "tcp";
  /**
   * The name of a host, or an IPv4 or IPv6 address, optionally in brackets. The scope of an address must be a number
   * (`fe80::1%3`). Defaults to `"127.0.0.1"`.
   */
  hostname?: string;
  /** The port. */
  port: number;
  /** A signal that ends the attempt when it is aborted. */
  signal?: AbortSignal;
  /**
   * Whether the addresses of a host are tried at the same time, one family after the other (Happy Eyeballs, RFC 8305).
   * Otherwise each is tried after the one before it has failed. Defaults to `true`.
   */
  autoSelectFamily?: boolean;
  /**
   * Milliseconds after which the next address is tried while an attempt is pending, if `autoSelectFamily` is `true`.
   * Defaults to `250`.
   */
  autoSelectFamilyAttemptDelay?: number;
}

const ATTEMPT_DELAY_MS = 250;
/** The addresses of `localhost`, which need no lookup. */
const LOCALHOST = ["127.0.0.1", "::1"];

/** Options for {@linkcode connect} with a local socket, on Linux and macOS. */
export interface ConnectLocalOptions {
  /** The protocol. Defaults to `"unix"`. */
  transport?: "unix";
  /** The path of a file, or on Linux `"\0"` and an abstract name (unix(7)). At most 107 bytes, on macOS 103. */
  path: string;
  /** The type of the socket, that of the listener. Not supported on macOS: `"seqpacket"`. Defaults to `"stream"`. */
  type?: LocalType;
  /** A signal that ends the attempt when it is aborted. */
  signal?: AbortSignal;
}

/**
 * Makes a TCP connection (`connect`), in the shape of `Deno.connect`. Child processes do not inherit it.
 *
 * The system looks up the name of a host (`getaddrinfo`), with its own files and name servers, on a pool thread. At most
 * four names are looked up at a time. If a host has several addresses, the first connection that is made is used, and the
 * other attempts end. `localhost` is 127.0.0.1, and then `::1`.
 *
 * Needs ffi access to the system's socket library, and no net permission, for names as for addresses. On Windows, names
 * need `--allow-ffi=C:\Windows\System32\kernel32.dll` too.
 *
 * @param options The address to connect to.
 * @returns The connected socket, which the caller must close.
 * @throws {TypeError} If an address is not valid, or its scope is not a number; if an option has the wrong type.
 * @throws {RangeError} If the port is not between 0 and 65535, or the delay is not a number of milliseconds.
 * @throws {Deno.errors.ConnectionRefused} If no process listens there.
 * @throws {Deno.errors.TimedOut} If no host answers.
 * @throws {Deno.errors.NetworkUnreachable} If there is no route to the host.
 * @throws {WinsockError} If the system reports an error that Deno has no class for, such as WSAHOST_NOT_FOUND for a name
 * that is not known. It is also the `cause` of the errors of the system that Deno has a class for. If all addresses of a
 * host fail, the error is that of the first one.
 * @throws The reason of the signal, if it is aborted first.
 */
export async function connect(options: ConnectOptions): Promise<Socket>;
/**
 * Connects to a local socket, on Linux and macOS. Child processes do not inherit the connection. It refuses descriptors,
 * as the connections of {@linkcode listen} do.
 *
 * Needs ffi access to the system's socket library, and no read or write permission.
 *
 * @param options The local socket to connect to.
 * @returns The connected socket, which the caller must close.
 * @throws {TypeError} If the path is empty, or is the path of a file and contains a NUL; if the type is unknown.
 * @throws {RangeError} If the path is too long.
 * @throws {Deno.errors.ConnectionRefused} If no process listens there.
 * @throws {Deno.errors.NotFound} If the file does not exist.
 * @throws {Deno.errors.PermissionDenied} If this process may not connect.
 * @throws {Deno.errors.NotSupported} On Windows, and on macOS for an abstract name or type `"seqpacket"`.
 * @throws {WinsockError} If the system reports an error that Deno has no class for. It is also the `cause` of the
 * errors of the system that Deno has a class for.
 * @throws The reason of the signal, if it is aborted first.
 */
export async function connect(options: ConnectLocalOptions): Promise<Socket<Deno.UnixAddr>>;
export async function connect(
  options: ConnectOptions | ConnectLocalOptions,
): Promise<Socket<SocketAddr>> {
  const transport = transportOf(options);
  checkOptions(options, { signal: SIGNAL });
  const { signal } = options;
  signal?.throwIfAborted();
  if (transport === "unix") {
    const { path, type } = options as ConnectLocalOptions;
    checkLocalType(type);
    return await connectTo({ path }, signal, type);
  }
  const internet = options as ConnectOptions;
  const delay = attemptDelay(internet);
  const { hostname, port } = toAddress(internet, "127.0.0.1");
  const hostnames = internet.hostname === "localhost" ? LOCALHOST : await addressesOf(hostname, signal);
  const addresses = hostnames.map((hostname) => ({ hostname, port }));
  if (addresses.length === 1) return await connectTo(addresses[0]!, signal);
  return await connectToFirst(addresses, delay, signal);
}

/** Returns the time between two attempts; `undefined` if an attempt begins when the one before it has failed. */
function attemptDelay(options: ConnectOptions): number | undefined {
  const { autoSelectFamily = true, autoSelectFamilyAttemptDelay: delay = ATTEMPT_DELAY_MS } = options;
  check("autoSelectFamily", autoSelectFamily, BOOLEAN);
  check("autoSelectFamilyAttemptDelay", delay, integer(1, MAX_DURATION));
  return autoSelectFamily ? delay : undefined;
}

/** Returns the addresses of a host in the order of the attempts: the families take turns, as RFC 8305 recommends. */
async function addressesOf(hostname: string, signal: AbortSignal | undefined): Promise<string[]> {
  if (isAddress(hostname)) return [hostname];
  checkName(hostname);
  const found = await systemCalls().resolve(hostname, signal);
  const isFirst = (address: string) => address.includes(":") === found[0]!.includes(":");
  const others = found.filter((address) => !isFirst(address));
  const first = found.filter(isFirst);
  return first.flatMap((address, index) => [address, ...others.slice(index, index + 1)])
    .concat(others.slice(first.length));
}

/** Connects to the first of several addresses that answers. */
async function connectToFirst(
  addresses: readonly InternetAddress[],
  delay: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Socket<SocketAddr>> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket<SocketAddr>>();
  const over = new AbortController();
  const ended = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
  const errors: unknown[] = [];
  let begun = 0;
  let failed = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const begin = async () => {
    clearTimeout(timer);
    const position = begun++;
    if (delay !== undefined && begun < addresses.length) timer = setTimeout(begin, delay);
    try {
      const socket = await connectTo(addresses[position]!, ended);
      if (over.signal.aborted) return socket.close();
      over.abort();
      resolve(socket);
    } catch (error) {
      errors[position] = error;
      if (++failed === addresses.length || ended.aborted) reject(signal?.aborted ? signal.reason : errors[0]);
      else if (begun < addresses.length) begin();
    }
  };
  begin();
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    over.abort();
  }
}

async function connectTo(
  address: SocketAddress,
  signal: AbortSignal | undefined,
  type?: LocalType,
): Promise<Socket<SocketAddr>> {
  const calls = systemCalls();
  const handle = asDeno(() => "path" in address ? calls.openLocal(address.path, type) : calls.open(address.hostname));
  const socket = ownSocket<SocketAddr>(handle);
  try {
    await calls.connect(handle, address, signal);
    signal?.throwIfAborted();
    return socket;
  } catch (error) {
    socket.close();
    throw toDenoError(error);
  }
}
