/** One HTTP connection by hand: what a client writes is exactly what the test says. */
import { Buffer } from "node:buffer";
import { connect } from "@winsock/handoff";
import { writeAll } from "./connections.ts";
import { within } from "./process.ts";

/** A response, as far as the tests look. */
export interface RawResponse {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** The headers of a request for a WebSocket. */
export const HANDSHAKE: readonly string[] = [
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

export class RawClient implements Disposable {
  #text = "";

  private constructor(readonly conn: Deno.TcpConn) {}

  static async connect(port: number): Promise<RawClient> {
    return new RawClient((await connect({ port })).toConn());
  }

  async send(...lines: string[]): Promise<void> {
    await this.write(lines.map((line) => `${line}\r\n`).join(""));
  }

  async write(bytes: string | Uint8Array): Promise<void> {
    await within(20_000, writeAll(this.conn, typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes));
  }

  /** Sends a request without a body and reads the response. */
  async get(path: string, ...headers: string[]): Promise<RawResponse> {
    await this.send(`GET ${path} HTTP/1.1`, "Host: test", ...headers, "");
    return await this.response();
  }

  /** The next response, its body by length, in chunks, or up to the end. */
  async response(): Promise<RawResponse> {
    const head = await this.#until("\r\n\r\n");
    const status = Number(head.split(" ")[1]);
    const length = /^content-length: (\d+)/im.exec(head)?.[1];
    if (status < 200 || status === 204 || status === 304) return { status, head, body: "" };
    if (length !== undefined) return { status, head, body: await this.#take(Number(length)) };
    if (!/^transfer-encoding: chunked/im.test(head)) return { status, head, body: await this.rest() };
    for (let body = "";;) {
      const size = parseInt(await this.#until("\r\n"), 16);
      const chunk = await this.#take(size + 2);
      if (size === 0) return { status, head, body };
      body += chunk.slice(0, -2);
    }
  }

  /** The head of the next response; what follows it is read by {@linkcode RawClient.rest}. */
  async head(): Promise<string> {
    return await this.#until("\r\n\r\n");
  }

  /** All that comes until the server ends the connection; one that is reset has ended. */
  async rest(): Promise<string> {
    while (await this.#read());
    const text = this.#text;
    this.#text = "";
    return text;
  }

  [Symbol.dispose](): void {
    this.conn.close();
  }

  async #until(end: string): Promise<string> {
    while (!this.#text.includes(end)) {
      if (!await this.#read()) throw new Error(`The connection ended after ${JSON.stringify(this.#text)}`);
    }
    return await this.#take(this.#text.indexOf(end) + end.length);
  }

  async #take(length: number): Promise<string> {
    while (this.#text.length < length && await this.#read());
    const taken = this.#text.slice(0, length);
    this.#text = this.#text.slice(length);
    return taken;
  }

  async #read(): Promise<boolean> {
    const buffer = new Uint8Array(65_536);
    try {
      const count = await within(20_000, this.conn.read(buffer));
      if (count === null) return false;
      this.#text += Buffer.from(buffer.buffer, 0, count).toString("latin1");
      return true;
    } catch (error) {
      const { ConnectionAborted, ConnectionReset } = Deno.errors;
      if (error instanceof ConnectionReset || error instanceof ConnectionAborted) return false;
      throw error;
    }
  }
}
