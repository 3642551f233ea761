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

  /** Listens, and writes the file. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#write();
    } catch (error) {
      this.listener.close();
      throw error;
    }
  }

  /** Makes the file lead here again, after another version may have written its own. */
  reclaim(): void {
    if (!this.#closed) this.#write();
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.listener.close();
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

/** Reads a control file. */
export async function readControlFile(path: string): Promise<Control> {
  return JSON.parse(await Deno.readTextFile(path));
}
