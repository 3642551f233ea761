/**
 * Requests for an upgrade of a running server: the control file that has its port, the server for it, and the client.
 *
 * Every process of the machine can connect to the port, and after the server's end every process can listen on it. So
 * each side proves that it has read the file, and the secret itself is never sent. The client says a nonce, and the
 * HMAC of the nonce. The server says an HMAC of the same nonce at once, and later its answer with another one. Each
 * HMAC is also of a word for what it proves, so that none can be used in another's place.
 *
 * @module
 */
import { check, checkOptions, FUNCTION, printable, SIGNAL, STRING, TEXT } from "../../internal/options.ts";
import { nodeBuiltin, OwnedFile } from "../../internal/runtime.ts";
import { connect } from "../../sockets/connect.ts";
import type { GuardedClient } from "../../sockets/guarded_server.ts";
import { listen, type Listener } from "../../sockets/listener.ts";
import type { UpgradeReport, UpgradeResult } from "./upgrade.ts";
import { errorMessage, UpgradeError, type UpgradeOutcome } from "../errors.ts";

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

/** The most bytes of a request. It has a nonce and an HMAC in hexadecimal digits. */
const MAX_REQUEST = 256;
/** The most bytes that a server says. */
const MAX_ANSWER = 64 * 1024;
/** The most characters of a reason in an answer. */
const MAX_REASON = 4_096;
const NONCE_SIZE = 16;
/** The time that a client has to prove that it knows the secret, and at the end to read the answer. */
const REQUEST_TIMEOUT_MS = 5_000;
/** The time that a server has to prove it. */
const PROOF_TIMEOUT_MS = 10_000;
/** The most clients at a time. */
const MAX_CLIENTS = 16;

/** What an HMAC proves. */
type Proof = "request" | "accepted" | "answer";

/** Returns the proof that this process knows the secret. */
function prove(proof: Proof, secret: string, nonce: string, text: string = ""): string {
  return nodeBuiltin("node:crypto").createHmac("sha256", secret).update(`${proof} ${nonce} ${text}`).digest("hex");
}

/** Checks a proof, in a time that does not depend on what is wrong with it. */
function isProof(given: string, ...[proof, secret, nonce, text]: Parameters<typeof prove>): boolean {
  return sameText(given, prove(proof, secret, nonce, text));
}

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
 * @throws {TypeError} If there is neither a signal nor a control file, if the system does not have the signal, or if an
 * option is of another type.
 * @throws {Deno.errors.NotCapable} Without the permission to write the file.
 */
export function onUpgradeRequest<Result extends UpgradeReport = UpgradeResult>(
  upgrade: () => Promise<Result>,
  options: OnUpgradeRequestOptions<Result>,
): Disposable {
  check("upgrade", upgrade, FUNCTION);
  checkOptions(options, { osSignal: STRING, controlFile: TEXT, onUpgraded: FUNCTION });
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
 * not come from the server that wrote it: it does not prove that it knows the secret.
 * @throws {Deno.errors.ConnectionRefused} If the server has ended, and left the file behind.
 * @throws {Deno.errors.TimedOut} If no answer begins within 10 000 milliseconds.
 * @throws {UpgradeError} If the new version does not take over: the error of {@linkcode upgrade} in the server.
 * @throws {Error} If the server refuses the request or cannot upgrade for another reason; the message says why.
 * @throws The signal's reason, if it is aborted first.
 */
export async function requestUpgrade(
  controlFile: string,
  options: { signal?: AbortSignal } = {},
): Promise<UpgradeReport> {
  check("controlFile", controlFile, TEXT);
  checkOptions(options, { signal: SIGNAL });
  const { signal } = options;
  const { port, secret } = await readControlFile(controlFile);
  const late = new Deno.errors.TimedOut(`${cannotReach(controlFile)}: it did not answer in ${PROOF_TIMEOUT_MS} ms`);
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(late), PROOF_TIMEOUT_MS);
  const over = signal === undefined ? silence.signal : AbortSignal.any([silence.signal, signal]);
  try {
    const connecting = connect({ hostname: "127.0.0.1", port, signal: over });
    using conn = (await connecting.catch((error) => Promise.reject(unreachable(controlFile, error)))).toConn();
    const close = () => conn.close();
    over.addEventListener("abort", close);
    // The signal may have been aborted when the connection was established already.
    over.throwIfAborted();
    const nonce = nodeBuiltin("node:crypto").randomBytes(NONCE_SIZE).toString("hex");
    await conn.write(encoder.encode(`${nonce} ${prove("request", secret, nonce)}\n`));
    const lines = new LineReader((buffer) => conn.read(buffer), MAX_ANSWER);
    const proof = await lines.next();
    if (proof === undefined && lines.rest === "") throw unanswered(controlFile, "it refused the request or ended");
    if (!isProof(proof ?? "", "accepted", secret, nonce)) throw foreign(controlFile);
    // An upgrade takes as long as it takes.
    clearTimeout(timer);
    const [mac, said] = [await lines.next(), await lines.next()];
    if (said === undefined) throw unanswered(controlFile, "it ended");
    if (!isProof(mac ?? "", "answer", secret, nonce, said)) throw foreign(controlFile);
    const { result, failure, error }: Answer = JSON.parse(said);
    if (result !== undefined) return result;
    throw failure === undefined ? new Error(error) : new UpgradeError(failure.outcome, failure.reason);
  } catch (error) {
    over.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

const encoder = new TextEncoder();

function unanswered(controlFile: string, problem: string): Error {
  return new Error(`Cannot upgrade the server of "${controlFile}": ${problem}`);
}

/** The error for an answer that does not prove that its sender knows the secret. */
function foreign(controlFile: string): Error {
  return new Deno.errors.InvalidData(`${cannotReach(controlFile)}: it has ended, and another program answers`);
}

function cannotReach(controlFile: string): string {
  return `Cannot reach the server of "${controlFile}"`;
}

/** Reads lines from a peer, and no more than a number of bytes in all. */
class LineReader {
  readonly #read: (buffer: Uint8Array<ArrayBuffer>) => Promise<number | null>;
  readonly #buffer: Uint8Array<ArrayBuffer>;
  readonly #decoder = new TextDecoder();
  #left: number;
  /** What was read after the last line. */
  rest = "";

  constructor(read: (buffer: Uint8Array<ArrayBuffer>) => Promise<number | null>, most: number) {
    this.#read = read;
    this.#left = most;
    this.#buffer = new Uint8Array(Math.min(most, 4_096));
  }

  /** Returns the next line; `undefined` if the peer ends its side, or has said too much, before a line has ended. */
  async next(): Promise<string | undefined> {
    for (;;) {
      const end = this.rest.indexOf("\n");
      if (end !== -1) {
        const line = this.rest.slice(0, end);
        this.rest = this.rest.slice(end + 1);
        return line;
      }
      if (this.#left === 0) return undefined;
      const count = await this.#read(this.#buffer.subarray(0, this.#left));
      if (count === null) return undefined;
      this.#left -= count;
      this.rest += this.#decoder.decode(this.#buffer.subarray(0, count), { stream: true });
    }
  }
}

/** Returns the error of a connection. If no process listens, the error names the file. */
function unreachable(controlFile: string, error: unknown): unknown {
  if (!(error instanceof Deno.errors.ConnectionRefused)) return error;
  const reason = "it has ended, and left the file behind";
  return new Deno.errors.ConnectionRefused(`${cannotReach(controlFile)}: ${reason}`, { cause: error });
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
  const { serveGuarded } = await import("../../sockets/guarded_server.ts");
  const limits = { maxClients: MAX_CLIENTS, timeout: REQUEST_TIMEOUT_MS };
  await serveGuarded(listener, limits, async (client) => {
    const result = await answer(client, secret, upgrade);
    // An error in it is the program's, and not one of the conversation.
    if (result !== undefined) queueMicrotask(() => onUpgraded?.(result));
  });
}

/** Answers a request: upgrades if the client proves that it knows the secret. */
async function answer<Result extends UpgradeReport>(
  client: GuardedClient,
  secret: string,
  upgrade: () => Promise<Result>,
): Promise<Result | undefined> {
  const conn = client.connection();
  const nonce = await authorize(conn, secret);
  if (nonce === undefined) return undefined;
  client.admit();
  let result: Result | undefined;
  try {
    await conn.write(encoder.encode(`${prove("accepted", secret, nonce)}\n`));
  } catch {
    // The client does not wait for the answer. It has asked for an upgrade all the same.
  }
  const said = JSON.stringify(
    await upgrade().then((done): Answer => {
      const { processId, remaining } = result = done;
      return { result: { processId, remaining } };
    }, failed),
  );
  try {
    await conn.write(encoder.encode(`${prove("answer", secret, nonce, said)}\n${said}\n`));
    await conn.closeWrite();
    // Until the client has read the answer, or the time is over.
    client.admit(REQUEST_TIMEOUT_MS);
    await conn.read(new Uint8Array(1));
  } catch {
    // The client has closed the connection, or took too long.
  }
  return result;
}

/** Reads a request. Returns its nonce; `undefined` if it does not prove that the client knows the secret. */
async function authorize(conn: Deno.TcpConn, secret: string): Promise<string | undefined> {
  const line = await new LineReader((buffer) => conn.read(buffer), MAX_REQUEST).next();
  const [nonce = "", proof = ""] = (line ?? "").split(" ");
  return nonce.length === 2 * NONCE_SIZE && isProof(proof, "request", secret, nonce) ? nonce : undefined;
}

/** Returns the answer for an error. Its reason may be another program's, and may be printed. */
function failed(error: unknown): Answer {
  const reason = (text: string) => printable(text).slice(0, MAX_REASON);
  if (error instanceof UpgradeError) return { failure: { outcome: error.outcome, reason: reason(error.reason) } };
  return { error: reason(errorMessage(error)) };
}

/** Compares two texts in a time that does not depend on their difference. */
function sameText(one: string, other: string): boolean {
  const [a, b] = [one, other].map((text) => encoder.encode(text)) as [Uint8Array, Uint8Array];
  return a.byteLength === b.byteLength && nodeBuiltin("node:crypto").timingSafeEqual(a, b);
}
