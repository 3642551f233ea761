/** The other end of the connection that is handed off: it hears whoever has it. */
import { within } from "../process.ts";
import { linesOf } from "./owner.ts";

const WORDS = ["one", "two", "three"];

export class Peer {
  readonly #conn: Deno.Conn;
  readonly #lines: AsyncGenerator<string, void, void>;
  #owner: Promise<string | undefined> | undefined;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
    this.#lines = linesOf(conn);
  }

  /** Waits until an owner says that it is there. Returns which it is; `undefined` if the connection ended. */
  hear(): Promise<string | undefined> {
    return this.#owner ??= this.#read();
  }

  /**
   * Speaks with the owner and says goodbye.
   *
   * @param killed Processes that can answer no more, though one may have begun to speak.
   * @returns Who answered, always the same; `nobody` if the connection ended.
   */
  async converse(killed: readonly string[]): Promise<string> {
    const owner = await this.hear();
    if (owner === undefined || killed.includes(owner)) return "nobody";
    for (const word of WORDS) {
      await this.#say(word);
      await this.#expect(`${owner} ${word}`);
    }
    await this.#say("bye");
    return owner;
  }

  /** The owner was the last to have the connection, and its end is a FIN: reading after a reset throws. */
  async readEnd(): Promise<void> {
    await this.#expect(undefined);
  }

  async #expect(expected: string | undefined): Promise<void> {
    const line = await this.#read();
    if (line !== expected) throw new Error(`The peer reads "${line ?? "the end"}", not "${expected ?? "the end"}"`);
  }

  async #read(): Promise<string | undefined> {
    const { value } = await within(20_000, this.#lines.next()).catch((cause) => {
      throw new Error(`The peer reads no end: ${cause.message}`, { cause });
    });
    return value ?? undefined;
  }

  async #say(line: string): Promise<void> {
    await this.#conn.write(new TextEncoder().encode(`${line}\n`));
  }
}
