/**
 * Disconnects clients that do not take the data that is sent to them.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Socket as NodeSocket } from "node:net";
import { setImmediate } from "node:timers";
import type { NodeResponse } from "./response.ts";

/** The maximum number of bytes of one write. The progress within a write cannot be observed. */
const PIECE = 256 * 1024;
/** How often a client is checked within its time. */
const CHECKS = 4;
/** The encoding that streams report for bytes. The types only have encodings of text. */
const BYTES = "buffer" as BufferEncoding;

type Done = (error?: Error | null) => void;
type Written = { chunk: string | Uint8Array; encoding: BufferEncoding };

/** Ends connections whose clients take too little of the waiting data. */
export class SlowClients {
  readonly #outputs = new Set<Output>();
  readonly #timer: ReturnType<typeof setInterval> | undefined;

  /**
   * @param sendTimeout The time in which a client must take some data, in milliseconds; 0 for no limit.
   * @param minSendRate The minimum rate, in bytes per second.
   */
  constructor(sendTimeout: number, minSendRate: number) {
    if (sendTimeout === 0) return;
    const least = Math.max(1, minSendRate * sendTimeout / 1_000);
    const check = () => {
      for (const output of this.#outputs) output.check(least);
    };
    // Data that was just written can be taken until then. Data that still waits at the check waits for the client.
    const timer = setInterval(() => setImmediate(check), Math.max(1, sendTimeout / CHECKS));
    Deno.unrefTimer(timer);
    this.#timer = timer;
  }

  /**
   * Watches a connection until it closes.
   *
   * @param stream The stream that is written to: the connection, or TLS on it.
   * @param connection The connection that is reset when the client is too slow.
   * @param response Returns the last response of the connection, if any.
   */
  watch(stream: NodeSocket, connection: NodeSocket, response: () => NodeResponse | undefined): void {
    if (this.#timer === undefined) return;
    const output = new Output(stream, connection, response);
    this.#outputs.add(output);
    connection.once("close", () => this.#outputs.delete(output));
  }

  /** Stops watching all connections. */
  stop(): void {
    clearInterval(this.#timer);
  }
}

/** The waiting data of one client, and its progress. */
class Output {
  readonly #stream: NodeSocket;
  readonly #connection: NodeSocket;
  readonly #response: () => NodeResponse | undefined;
  /**
   * The object that waited at the last check. Since the client's time began: the number of checks, and of bytes taken.
   */
  #waiting: NodeSocket | NodeResponse | undefined;
  #looks = 0;
  #taken = 0;

  constructor(stream: NodeSocket, connection: NodeSocket, response: () => NodeResponse | undefined) {
    this.#stream = stream;
    this.#connection = connection;
    this.#response = response;
    const write = stream._write.bind(stream);
    const writev = stream._writev!.bind(stream);
    stream._write = (chunk, encoding, done) => {
      if (chunk.length > PIECE) this.#writePieces([{ chunk, encoding }], write, done);
      else write(chunk, encoding, this.#counting(chunk.length, done));
    };
    stream._writev = (chunks, done) => {
      const length = chunks.reduce((sum, { chunk }) => sum + chunk.length, 0);
      if (length > PIECE) this.#writePieces(chunks, write, done);
      else writev(chunks, this.#counting(length, done));
    };
  }

  /** Resets the connection if the client's time is over and it has taken fewer bytes than `least`. */
  check(least: number): void {
    const waiting = this.#look();
    if (waiting === this.#waiting && (waiting === undefined || ++this.#looks < CHECKS)) return;
    // Without the reset, the system would continue to offer the data that it already has.
    if (waiting === this.#waiting && this.#taken < least) this.#connection.resetAndDestroy();
    this.#waiting = waiting;
    this.#looks = 0;
    this.#taken = 0;
  }

  /** Returns the object that waits: the stream, or a small response, which Deno writes past the stream. */
  #look(): NodeSocket | NodeResponse | undefined {
    if (this.#stream.writableLength > 0) return this.#stream;
    const response = this.#response();
    return response?.writableEnded && !response.sent ? response : undefined;
  }

  async #writePieces(chunks: Written[], write: NodeSocket["_write"], done: Done): Promise<void> {
    for (const piece of pieces(chunks)) {
      const error = await new Promise<Error | null | undefined>((resolve) => write(piece, BYTES, resolve));
      if (error) return done(error);
      this.#taken += piece.length;
    }
    done();
  }

  #counting(length: number, done: Done): Done {
    return (error) => {
      this.#taken += length;
      done(error);
    };
  }
}

function* pieces(chunks: Written[]): Generator<Uint8Array> {
  for (const { chunk, encoding } of chunks) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk;
    for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE);
  }
}
