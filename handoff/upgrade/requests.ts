/**
 * Being told to upgrade.
 *
 * @module
 */
import { nodeBuiltin } from "../../ffi/node_builtins.ts";
import { connect } from "../../sockets/connect.ts";
import { listen } from "../../sockets/listen.ts";
import type { Socket } from "../../sockets/socket.ts";
import type { UpgradeResult } from "./upgrade.ts";
import { UpgradeError } from "./upgrade_error.ts";

/** Where requests to upgrade come from. */
export interface UpgradeRequestOptions {
  /** A signal, such as `SIGHUP`. */
  signal?: Deno.Signal;
  /**
   * A file to be written, which tells {@linkcode requestUpgrade} how to reach this process. Whoever can read it can have this
   * server upgraded; it is written so that only its owner can.
   */
  controlFile?: string;
  /** Called after an upgrade, when whoever asked for it has been answered: the place to end this process. */
  onUpgraded?: (result: UpgradeResult) => void;
}

/** What a control file holds. */
interface Control {
  readonly processId: number;
  readonly port: number;
  readonly secret: string;
}

/** What is answered: one of the three. */
interface Answer {
  readonly result?: UpgradeResult;
  /** What an {@linkcode UpgradeError} says. */
  readonly failure?: Pick<UpgradeError, "outcome" | "reason">;
  /** The message of any other error. */
  readonly error?: string;
}

const MAX_REQUEST = 256;
const REQUEST_TIMEOUT_MS = 5_000;
const OWNER_ONLY = 0o600;

/**
 * Calls back when this server is to be upgraded: by a signal, or by `deno run jsr:@winsock/handoff/cli upgrade FILE`, which
 * works on Windows too.
 *
 * Needs `--allow-write` for the control file and ffi access to the system's socket library; for a signal nothing.
 *
 * @param upgrade Does it. Called for each request; one that comes during another is told that it is busy by
 * {@linkcode upgrade} itself.
 * @param options Where requests come from.
 * @returns Ends listening for requests.
 * @throws {TypeError} If there is neither a signal nor a control file.
 * @throws {Deno.errors.NotCapable} Without the permission to write the file.
 */
export function onUpgradeRequest(upgrade: () => Promise<UpgradeResult>, options: UpgradeRequestOptions): Disposable {
  const { signal, controlFile, onUpgraded } = options;
  if (signal === undefined && controlFile === undefined) throw new TypeError("Give a signal, a control file, or both");
  const bySignal = () => {
    upgrade().then(onUpgraded, (error) => console.error(`Cannot upgrade: ${error.message}`));
  };
  if (signal !== undefined) Deno.addSignalListener(signal, bySignal);
  const listener = controlFile === undefined ? undefined : listenForRequests(upgrade, controlFile, onUpgraded);
  return {
    [Symbol.dispose]() {
      if (signal !== undefined) Deno.removeSignalListener(signal, bySignal);
      listener?.[Symbol.dispose]();
    },
  };
}

/**
 * Has a running server upgrade itself, and waits until that is done.
 *
 * Needs `--allow-read` for the file, and ffi access to the system's socket library.
 *
 * @param controlFile The file that {@linkcode onUpgradeRequest} wrote.
 * @param options `signal`: ends the wait, and not the upgrade.
 * @returns What the server says: an {@linkcode UpgradeResult}.
 * @throws {Deno.errors.NotFound} If there is no such file.
 * @throws {WinsockError} If the server cannot be reached: WSAECONNREFUSED if it has ended.
 * @throws {UpgradeError} If the new version does not take over, as {@linkcode upgrade} there has it.
 * @throws {Error} If it refuses the request or cannot upgrade for another reason; the message says why.
 * @throws The signal's reason, if it is aborted first.
 */
export async function requestUpgrade(
  controlFile: string,
  options: { signal?: AbortSignal } = {},
): Promise<UpgradeResult> {
  const { signal } = options;
  const { port, secret }: Control = JSON.parse(await Deno.readTextFile(controlFile));
  const address = { hostname: "127.0.0.1", port };
  using conn = (await connect(signal === undefined ? address : { ...address, signal })).toConn();
  const close = () => conn.close();
  signal?.addEventListener("abort", close);
  let answer = "";
  try {
    await conn.write(new TextEncoder().encode(`${secret}\n`));
    answer = await new Response(conn.readable).text();
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", close);
  }
  if (answer === "") throw new Error("The server has refused the request, or ended");
  const { result, failure, error }: Answer = JSON.parse(answer);
  if (result !== undefined) return result;
  throw failure === undefined ? new Error(error) : new UpgradeError(failure.outcome, failure.reason);
}

function listenForRequests(
  upgrade: () => Promise<UpgradeResult>,
  controlFile: string,
  onUpgraded: UpgradeRequestOptions["onUpgraded"],
): Disposable {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const control: Control = { processId: Deno.pid, port: listener.addr.port, secret: crypto.randomUUID() };
  try {
    writeControlFile(controlFile, control);
  } catch (error) {
    listener.close();
    throw error;
  }
  (async () => {
    for await (const socket of listener) {
      answer(socket, control.secret, upgrade).then((result) => result && onUpgraded?.(result));
    }
  })().catch(() => {});
  return listener;
}

/** The file of the version before is taken away first: its owner and mode must be this one's. */
function writeControlFile(path: string, control: Control): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  Deno.writeTextFileSync(path, JSON.stringify(control), { mode: OWNER_ONLY, createNew: true });
}

/** Does what is asked, if it is asked with the secret. */
async function answer(
  socket: Socket,
  secret: string,
  upgrade: () => Promise<UpgradeResult>,
): Promise<UpgradeResult | undefined> {
  const conn = socket.toConn();
  let deadline = setTimeout(() => conn.close(), REQUEST_TIMEOUT_MS);
  let result: UpgradeResult | undefined;
  try {
    const authorized = sameText(await readLine(conn), secret);
    clearTimeout(deadline);
    if (!authorized) return undefined;
    const said = await upgrade().then((done): Answer => ({ result: result = done }), failed);
    await conn.write(new TextEncoder().encode(JSON.stringify(said)));
    await conn.closeWrite();
    // Until whoever asked has read it, or a while.
    deadline = setTimeout(() => conn.close(), REQUEST_TIMEOUT_MS);
    await conn.read(new Uint8Array(1));
  } catch {
    // whoever asked has gone, or took too long
  } finally {
    clearTimeout(deadline);
    conn.close();
  }
  return result;
}

function failed(error: Error): Answer {
  if (!(error instanceof UpgradeError)) return { error: error.message };
  return { failure: { outcome: error.outcome, reason: error.reason } };
}

/** Takes as long whatever the difference is. */
function sameText(one: string, other: string): boolean {
  const [a, b] = [one, other].map((text) => new TextEncoder().encode(text)) as [Uint8Array, Uint8Array];
  return a.byteLength === b.byteLength && nodeBuiltin("node:crypto").timingSafeEqual(a, b);
}

async function readLine(conn: Deno.TcpConn): Promise<string> {
  const buffer = new Uint8Array(MAX_REQUEST);
  let length = 0;
  while (length < MAX_REQUEST) {
    const count = await conn.read(buffer.subarray(length));
    if (count === null) return "";
    length += count;
    const text = new TextDecoder().decode(buffer.subarray(0, length));
    if (text.includes("\n")) return text.slice(0, text.indexOf("\n"));
  }
  return "";
}
