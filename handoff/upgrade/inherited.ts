/**
 * The beginning of a version of a server.
 *
 * @module
 */
import type { DatagramSocket } from "../../sockets/datagram_socket.ts";
import type { Listener } from "../../sockets/listener.ts";
import { type Generation, makeGeneration } from "./generation.ts";
import { PREDECESSOR_VARIABLE, takeInheritance } from "./inheritance.ts";

/** Where {@linkcode inherited} looks. */
export interface InheritedOptions {
  /**
   * Listeners, and datagram sockets, that came another way, such as `systemdSockets()` of `@winsock/handoff/interop`. A
   * predecessor's come first.
   */
  sockets?: {
    takeListener(name: string): Listener | undefined;
    takeDatagramSocket?(name: string): DatagramSocket | undefined;
  };
  /** The predecessor's process id; 0 for none. Default: the environment's, which needs `--allow-env` for that variable. */
  predecessor?: number;
  /** Where frames come from. Default: this process's stdin. */
  input?: ReadableStream<Uint8Array>;
}

/**
 * Begins a version of a server: takes over from the one before it, if there is one.
 *
 * Needs ffi access to the system's socket library, and `--allow-env=WINSOCK_HANDOFF_PREDECESSOR` unless `predecessor` is
 * given. No net permission. The variable is removed, so that no child takes this process's predecessor for its own.
 *
 * @example A server that can be replaced
 * ```ts ignore
 * import { inherited, onUpgradeRequest, upgrade } from "@winsock/handoff";
 *
 * const generation = await inherited();
 * const listener = generation.listen("echo", { port: 8080 });
 * const script = new URL("server.ts", import.meta.url);
 * const control = ["--allow-read=server.control", "--allow-write=server.control"];
 * const denoFlags = ["--allow-run", "--allow-env=WINSOCK_HANDOFF_PREDECESSOR", ...control];
 * onUpgradeRequest(() => upgrade(generation, { script, denoFlags, drainTimeout: 10_000 }), {
 *   controlFile: "server.control",
 *   onUpgraded: () => Deno.exit(),
 * });
 * await generation.ready();
 * for await (const socket of listener) {
 *   const conn = socket.toConn();
 *   conn.readable.pipeTo(conn.writable).catch(() => {}).finally(() => conn.close());
 * }
 * ```
 *
 * @param options Where to look.
 * @returns The version; call {@linkcode Generation.ready} when it can serve.
 * @throws {Deno.errors.NotCapable} Without the permission for the environment variable.
 * @throws {HandoffError} `channel-broken` if what arrives is not the protocol.
 * @throws {TypeError} If what arrives is sockets, and not from a predecessor. They are closed, as after any error.
 */
export async function inherited(options: InheritedOptions = {}): Promise<Generation> {
  const predecessor = options.predecessor ?? takePredecessor();
  const inheritance = predecessor === 0 ? undefined : await takeInheritance(options.input);
  return makeGeneration(inheritance, predecessor, options.sockets);
}

function takePredecessor(): number {
  const predecessor = Number(Deno.env.get(PREDECESSOR_VARIABLE) ?? 0);
  Deno.env.delete(PREDECESSOR_VARIABLE);
  return predecessor;
}
