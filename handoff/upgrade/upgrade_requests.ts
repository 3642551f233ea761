/**
 * Asking a running server to upgrade: the control file that names its port, the server behind it, and the client.
 *
 * @module
 */
import { acceptWithRetry, listen, type Listener } from "../../sockets/listener.ts";
import { nodeBuiltin } from "../../internal/runtime.ts";
import { connect } from "../../sockets/connect.ts";
import type { Socket } from "../../sockets/socket.ts";
import type { UpgradeReport, UpgradeResult } from "./upgrade.ts";
import { UpgradeError, type UpgradeOutcome } from "../errors.ts";

/** What a control file holds. */
interface Control {
  readonly processId: number;
  /** On 127.0.0.1. */
  readonly port: number;
  /** Who can read the file knows it, and nobody else. */
  readonly secret: string;
}

const OWNER_ONLY = 0o600;

/** The listener that a control file leads to. */
class ControlListener implements Disposable {
  readonly listener: Listener = listen({ hostname: "127.0.0.1", port: 0 });
  readonly secret: string = crypto.randomUUID();
  readonly #path: string;
  #closed = false;
  /** For a process that ends by `Deno.exit`. */
  readonly #unload = () => this.#remove();

  /** Listens, and writes the file. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#write();
    } catch (error) {
      this.listener.close();
      throw error;
    }
    addEventListener("unload", this.#unload);
  }

  /** Makes the file lead here again, after another version may have written its own. */
  reclaim(): void {
    if (!this.#closed) this.#write();
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    removeEventListener("unload", this.#unload);
    this.listener.close();
    this.#remove();
  }

  /** Takes the file away if it leads here: it may be another version's by now. Who may not read it cannot tell, and leaves it. */
  #remove(): void {
    const path = this.#path;
    if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return;
    try {
      if (decodeControl(path, Deno.readTextFileSync(path)).secret === this.secret) Deno.removeSync(path);
    } catch {
      // It is gone, or something else.
    }
  }

  /** The file of another version is taken away first: its owner and mode must be this one's. */
  #write(): void {
    try {
      Deno.removeSync(this.#path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    const control: Control = { processId: Deno.pid, port: this.listener.addr.port, secret: this.secret };
    Deno.writeTextFileSync(this.#path, JSON.stringify(control), { mode: OWNER_ONLY, createNew: true });
  }
}

/**
 * Reads a control file.
 *
 * @throws {Deno.errors.InvalidData} If it is none.
 */
async function readControlFile(path: string): Promise<Control> {
  return decodeControl(path, await Deno.readTextFile(path));
}

function decodeControl(path: string, text: string): Control {
  const control = parse(text);
  if (isControl(control)) return control;
  const problem = text.trim() === "" ? "it is empty" : "its content is not what a server writes";
  throw new Deno.errors.InvalidData(`"${path}" is no control file: ${problem}`);
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
 * Where requests to upgrade come from.
 *
 * @typeParam Result What the upgrade tells.
 */
export interface OnUpgradeRequestOptions<Result extends UpgradeReport = UpgradeResult> {
  /** A signal of the operating system, such as `SIGHUP`. */
  osSignal?: Deno.Signal;
  /**
   * A file to be written, which tells {@linkcode requestUpgrade} how to reach this process. Whoever can read it can have this
   * server upgraded; it is written so that only its owner can. A new version writes its own in its place; if that does not
   * take over, this one's is written again. It is removed when listening ends, or the process by itself, where it is still
   * this one's: to see that takes the permission to read it, without which it stays.
   */
  controlFile?: string;
  /** Called after an upgrade, when the request for it has been answered: the place to end this process. */
  onUpgraded?: (result: Result) => void;
}

/** What is answered: one of the three. */
interface Answer {
  readonly result?: UpgradeReport;
  /** What an {@linkcode UpgradeError} says. */
  readonly failure?: Pick<UpgradeError, "outcome" | "reason">;
  /** The message of any other error. */
  readonly error?: string;
}

const MAX_REQUEST = 256;
const REQUEST_TIMEOUT_MS = 5_000;

/**
 * Calls back when this server is to be upgraded: by a signal, or by `deno run jsr:@winsock/handoff/cli upgrade FILE`, which
 * works on Windows too.
 *
 * Call it after {@linkcode ServerVersion.markReady}: before that {@linkcode upgrade} refuses, and the predecessor still takes
 * the requests.
 *
 * Needs `--allow-write` for the control file, `--allow-read` to remove it at the end, and ffi access to the system's socket library; for a signal nothing.
 *
 * @typeParam Result What the upgrade tells.
 * @param upgrade Does it. Called for each request; one that comes during another is told that it is busy by
 * {@linkcode upgrade} itself. If it rejects with anything else this version is taken to serve on.
 * @param options Where requests come from.
 * @returns Ends listening for requests.
 * @throws {TypeError} If there is neither a signal nor a control file.
 * @throws {Deno.errors.NotCapable} Without the permission to write the file.
 */
export function onUpgradeRequest<Result extends UpgradeReport = UpgradeResult>(
  upgrade: () => Promise<Result>,
  options: OnUpgradeRequestOptions<Result>,
): Disposable {
  const { osSignal, controlFile, onUpgraded } = options;
  if (osSignal === undefined && controlFile === undefined) {
    throw new TypeError("Give a signal, a control file, or both");
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
 * Has a running server upgrade itself, and waits until that is done.
 *
 * Needs `--allow-read` for the file, and ffi access to the system's socket library.
 *
 * @param controlFile The file that {@linkcode onUpgradeRequest} wrote.
 * @param options `signal`: ends the wait, and not the upgrade.
 * @returns What the server says.
 * @throws {Deno.errors.NotFound} If there is no such file.
 * @throws {Deno.errors.InvalidData} If it is no control file, such as an empty or damaged one, or something else than the
 * server that wrote it answers.
 * @throws {Deno.errors.ConnectionRefused} If the server has ended, and left the file behind.
 * @throws {UpgradeError} If the new version does not take over, as {@linkcode upgrade} there has it.
 * @throws {Error} If it refuses the request or cannot upgrade for another reason; the message says why.
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
  // It may have been aborted when the connection was made already.
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
  if (answer === "") throw new Error(`The server of "${controlFile}" has refused the request, or ended`);
  const { result, failure, error } = decodeAnswer(controlFile, answer);
  if (result !== undefined) return result;
  throw failure === undefined ? new Error(error) : new UpgradeError(failure.outcome, failure.reason);
}

/** The error of a connection, in terms of the file where nobody listens. */
function unreachable(controlFile: string, error: unknown): unknown {
  if (!(error instanceof Deno.errors.ConnectionRefused)) return error;
  const reason = "it has ended, and left the file behind";
  return new Deno.errors.ConnectionRefused(`Cannot reach the server of "${controlFile}": ${reason}`, { cause: error });
}

function decodeAnswer(controlFile: string, answer: string): Answer {
  try {
    return JSON.parse(answer);
  } catch (cause) {
    const problem = `What answers is not the server of "${controlFile}", which has ended`;
    throw new Deno.errors.InvalidData(problem, { cause });
  }
}

const OUTCOMES_OF_OTHERS: readonly UpgradeOutcome[] = ["busy", "not-ready"];

/** Upgrades; where that fails this version serves on, and is to be asked again. */
async function attempt<Result>(
  upgrade: () => Promise<Result>,
  control: ControlListener | undefined,
): Promise<Result> {
  try {
    return await upgrade();
  } catch (error) {
    // What is busy is another upgrade, which may succeed yet, or has; and before it is ready the predecessor has the file.
    if (!(error instanceof UpgradeError && OUTCOMES_OF_OTHERS.includes(error.outcome))) retake(control);
    throw error;
  }
}

/** Of the two failures the upgrade's is the one to throw. */
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

/** Does what is asked, if it is asked with the secret. */
async function answer<Result extends UpgradeReport>(
  socket: Socket,
  secret: string,
  upgrade: () => Promise<Result>,
): Promise<Result | undefined> {
  let deadline: ReturnType<typeof setTimeout> | undefined;
  let result: Result | undefined;
  try {
    // Closes what cannot be made a connection.
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
    // Until whoever asked has read it, or a while.
    deadline = setTimeout(() => conn.close(), REQUEST_TIMEOUT_MS);
    await conn.read(new Uint8Array(1));
  } catch {
    // whoever asked has gone, or took too long
  } finally {
    clearTimeout(deadline);
  }
  return result;
}

function failed(error: unknown): Answer {
  if (!(error instanceof UpgradeError)) return { error: error instanceof Error ? error.message : String(error) };
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
