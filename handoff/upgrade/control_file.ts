/**
 * How whoever wants an upgrade reaches the server.
 *
 * @module
 */
import { listen } from "../../sockets/listen.ts";
import type { Listener } from "../../sockets/listener.ts";

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
export class ControlListener implements Disposable {
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
export async function readControlFile(path: string): Promise<Control> {
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
