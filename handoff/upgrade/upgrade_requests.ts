/**
 * Requests for an upgrade of a running server: the control file that has its port, the server for it, and the client.
 *
 * @module
 */
import { acceptWithRetry, listen, type Listener } from "../../sockets/listener.ts";
import { nodeBuiltin } from "../../internal/runtime.ts";
import { OwnedFile } from "../../internal/unload.ts";
import { connect } from "../../sockets/connect.ts";
import type { Socket } from "../../sockets/socket.ts";
import type { UpgradeReport, UpgradeResult } from "./upgrade.ts";
import { UpgradeError, type UpgradeOutcome } from "../errors.ts";

/** The content of a control file. */
interface Control {
  readonly processId: number;
  /** The port on 127.0.0.1. */
  readonly port: number;
  /** The secret that only processes that can read the file know. */
  readonly secret: string;
}

const OWNER_ONLY = 0o600;

/** The listener that a control file refers to. */
class ControlListener implements Disposable {
  readonly listener: Listener = listen({ hostname: "127.0.0.1", port: 0 });
  readonly secret: string = crypto.randomUUID();
  readonly #file: OwnedFile;

  /** Listens, and writes the file. */
  constructor(path: string) {
    const control: Control = { processId: Deno.pid, port: this.listener.addr.port, secret: this.secret };
    try {
      this.#file = new OwnedFile(path, JSON.stringify(control), OWNER_ONLY);
    } catch (error) {
      this.listener.close();
      throw error;
    }
  }

  /** Makes the file refer to this listener again, after another version may have written its own. */
  reclaim(): void {
    this.#file.reclaim();
  }

  [Symbol.dispose](): void {
    this.listener.close();
    this.#file.remove();
  }
}

/**
 * Reads a control file.
 *
 * @throws {Deno.errors.InvalidData} If the file is not a control file.
 */
async function readControlFile(path: string): Promise<Control> {
  return decodeControl(path, await Deno.readTextFile(path));
}

function decodeControl(path: string, text: string): Control {
  const control = parse(text);
  if (isControl(control)) return control;
  const problem = text.trim() === "" ? "it is empty" : "its content is not what a server writes";
  throw new Deno.errors.InvalidData(`Cannot read control file "${path}": ${problem}`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isControl(value: unknown): value is Control {
  if (typeof value !== "object" || value === null) return false;
  const { port, secret } = value as Partial<Control>;
  return Number.isInteger(port) && port! > 0 && port! < 2 ** 16 && typeof secret === "string";
}

/**
 * Options of {@linkcode onUpgradeRequest}.
 *
 * @typeParam Result The result of the upgrade.
 */
export interface OnUpgradeRequestOptions<Result extends UpgradeReport = UpgradeResult> {
  /** The signal of the operating system that requests an upgrade, such as `SIGHUP`. */
  osSignal?: Deno.Signal;
  /**
   * The file to write, which tells {@linkcode requestUpgrade} how to reach this process. A process that can read the
   * file can request an upgrade; only the file's owner can read it. A new version replaces the file by its own. If the
   * new version does not take over, the file of this version is written again. The file is removed when listening ends
   * or the process exits, if it still belongs to this process. This check needs the permission to read the file;
   * without it, the file stays.
   */
  controlFile?: string;
  /** Called after an upgrade, when its request has been answered. The callback can end this process. */
  onUpgraded?: (result: Result) => void;
}

/** The answer to a request. It has one of the three members. */
interface Answer {
  readonly result?: UpgradeReport;
  /** The content of an {@linkcode UpgradeError}. */
  readonly failure?: Pick<UpgradeError, "outcome" | "reason">;
  /** The message of any other error. */
  readonly error?: string;
}

const MAX_REQUEST = 256;
const REQUEST_TIMEOUT_MS = 5_000;

/**
 * Calls a function when an upgrade of this server is requested: by a signal, or by `deno run jsr:@winsock/handoff/cli
 * upgrade FILE`, which works on Windows too.
 *
 * Call it after {@linkcode ServerVersion.markReady}. Before that, {@linkcode upgrade} refuses, and the predecessor
 * still gets the requests.
 *
 * Needs `--allow-write` for the control file, `--allow-read` to remove it at the end, and ffi access to the system's
 * socket library. A signal needs no permission.
 *
 * @typeParam Result The result of the upgrade.
 * @param upgrade The function that upgrades. It is called for each request; during another upgrade, {@linkcode upgrade}
 * itself rejects with `busy`. If it rejects with any other error, this version is assumed to continue to serve.
 * @param options The signal, the control file and the callback.
 * @returns An object that ends listening for requests when it is disposed.
 * @throws {TypeError} If there is neither a signal nor a control file.
 * @throws {Deno.errors.NotCapable} Without the permission to write the file.
 */
export function onUpgradeRequest<Result extends UpgradeReport = UpgradeResult>(
  upgrade: () => Promise<Result>,
  options: OnUpgradeRequestOptions<Result>,
): Disposable {
  const { osSignal, controlFile, onUpgraded } = options;
  if (osSignal === undefined && controlFile === undefined) {
    throw new TypeError("Invalid `osSignal` and `controlFile`: must be one of the two or both, got none");
  }
  using begun = new DisposableStack();
  const control = controlFile === undefined ? undefined : begun.use(new ControlListener(controlFile));
  const request = () => attempt(upgrade, control);
  if (osSignal !== undefined) {
    const bySignal = () => {
      request().then(onUpgraded, (error) => console.error(`Cannot upgrade: ${error?.message ?? error}`));
    };
    Deno.addSignalListener(osSignal, bySignal);
    begun.defer(() => Deno.removeSignalListener(osSignal, bySignal));
  }
  if (control !== undefined) answerAll(control, request, onUpgraded);
  return begun.move();
}

/**
 * Requests an upgrade of a running server, and waits until the upgrade is done.
 *
 * Needs `--allow-read` for the file, and ffi access to the system's socket library.
 *
 * @param controlFile The file that {@linkcode onUpgradeRequest} wrote.
 * @param options `signal`: ends the wait, but not the upgrade.
 * @returns The server's answer.
 * @throws {Deno.errors.NotFound} If the file does not exist.
 * @throws {Deno.errors.InvalidData} If it is not a control file, such as an empty or damaged one, or if the answer does
 * not come from the server that wrote it.
 * @throws {Deno.errors.ConnectionRefused} If the server has ended, and left the file behind.
 * @throws {UpgradeError} If the new version does not take over: the error of {@linkcode upgrade} in the server.
 * @throws {Error} If the server refuses the request or cannot upgrade for another reason; the message says why.
 * @throws The signal's reason, if it is aborted first.
 */
export async function requestUpgrade(
  controlFile: string,
  options: { signal?: AbortSignal } = {},
): Promise<UpgradeReport> {
  const { signal } = options;
  const { port, secret } = await readControlFile(controlFile);
  const address = { hostname: "127.0.0.1", port };
  const connecting = connect(signal === undefined ? address : { ...address, signal });
  using conn = (await connecting.catch((error) => Promise.reject(unreachable(controlFile, error)))).toConn();
  // The signal may have been aborted when the connection was established already.
  signal?.throwIfAborted();
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
  if (answer === "") throw new Error(`Cannot upgrade the server of "${controlFile}": it refused the request or ended`);
  const { result, failure, error } = decodeAnswer(controlFile, answer);
  if (result !== undefined) return result;
  throw failure === undefined ? new Error(error) : new UpgradeError(failure.outcome, failure.reason);
}

/** Returns the error of a connection. If no process listens, the error names the file. */
function unreachable(controlFile: string, error: unknown): unknown {
  if (!(error instanceof Deno.errors.ConnectionRefused)) return error;
  const reason = "it has ended, and left the file behind";
  return new Deno.errors.ConnectionRefused(`Cannot reach the server of "${controlFile}": ${reason}`, { cause: error });
}

function decodeAnswer(controlFile: string, answer: string): Answer {
  try {
    return JSON.parse(answer);
  } catch (cause) {
    const problem = `Cannot reach the server of "${controlFile}": it has ended, and another program answers`;
    throw new Deno.errors.InvalidData(problem, { cause });
  }
}

const OUTCOMES_OF_OTHERS: readonly UpgradeOutcome[] = ["busy", "not-ready"];

/** Upgrades. If that fails, this version continues to serve, and gets the requests again. */
async function attempt<Result>(
  upgrade: () => Promise<Result>,
  control: ControlListener | undefined,
): Promise<Result> {
  try {
    return await upgrade();
  } catch (error) {
    // `busy` means that another upgrade may still succeed, or has. Before this version is ready, the predecessor has
    // the file.
    if (!(error instanceof UpgradeError && OUTCOMES_OF_OTHERS.includes(error.outcome))) retake(control);
    throw error;
  }
}

/** Writes the file again. If that fails, the error is printed, because the error of the upgrade is the one to throw. */
function retake(control: ControlListener | undefined): void {
  try {
    control?.reclaim();
  } catch (error) {
    console.error(`Cannot write the control file again: ${error instanceof Error ? error.message : error}`);
  }
}

async function answerAll<Result extends UpgradeReport>(
  { listener, secret }: ControlListener,
  upgrade: () => Promise<Result>,
  onUpgraded: ((result: Result) => void) | undefined,
): Promise<void> {
  for (let socket = await acceptWithRetry(listener); socket !== undefined; socket = await acceptWithRetry(listener)) {
    answer(socket, secret, upgrade).then((result) => result && onUpgraded?.(result));
  }
}

/** Answers a request: upgrades if the request has the secret. */
async function answer<Result extends UpgradeReport>(
  socket: Socket,
  secret: string,
  upgrade: () => Promise<Result>,
): Promise<Result | undefined> {
  let deadline: ReturnType<typeof setTimeout> | undefined;
  let result: Result | undefined;
  try {
    // Closes the socket if it cannot be turned into a connection.
    using _socket = socket;
    using conn = socket.toConn();
    deadline = setTimeout(() => conn.close(), REQUEST_TIMEOUT_MS);
    const authorized = sameText(await readLine(conn), secret);
    clearTimeout(deadline);
    if (!authorized) return undefined;
    const said = await upgrade().then((done): Answer => {
      const { processId, remaining } = result = done;
      return { result: { processId, remaining } };
    }, failed);
    await conn.write(new TextEncoder().encode(JSON.stringify(said)));
    await conn.closeWrite();
    // Until the client has read the answer, or the time is over.
    deadline = setTimeout(() => conn.close(), REQUEST_TIMEOUT_MS);
    await conn.read(new Uint8Array(1));
  } catch {
    // The client has closed the connection, or took too long.
  } finally {
    clearTimeout(deadline);
  }
  return result;
}

function failed(error: unknown): Answer {
  if (!(error instanceof UpgradeError)) return { error: error instanceof Error ? error.message : String(error) };
  return { failure: { outcome: error.outcome, reason: error.reason } };
}

/** Compares two texts in a time that does not depend on their difference. */
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
