/**
 * What happens when a program ends: its files are removed, and its descriptors are closed if its process continues.
 * `deno run --watch` restarts a program in the same process, and a Web Worker can be terminated.
 *
 * Deno closes the resources it opened itself, but not descriptors opened through FFI. Before a restart it emits
 * `unload`. A Worker that is terminated, or closes itself, runs no more code; only the system can tell that its thread
 * ends.
 *
 * @module
 */

/** Closes descriptors when the thread of this Worker ends. */
export interface ThreadEnd {
  /** Registers a descriptor to be closed when the thread ends. */
  add(s: bigint): void;
  /** Unregisters a descriptor. */
  remove(s: bigint): void;
}

/** Whether this program runs in a Web Worker. */
export const inWorker: boolean = "WorkerGlobalScope" in globalThis;

/** The callback for each key. A key is a descriptor or another object that must end with the program. */
const open = new Map<unknown, () => void>();
let threadEnd: ThreadEnd | undefined;
let listening = false;

/**
 * Registers a descriptor to be closed when the program ends.
 *
 * @param s The descriptor. This replaces an earlier registration of the same number.
 * @param close Closes the descriptor.
 * @returns A function that cancels the registration. Call it before the descriptor is closed or released.
 */
export function closeAtEnd(s: bigint, close: () => void): () => void {
  const leave = callAtUnload(s, close);
  threadEnd?.add(s);
  return () => {
    if (leave()) threadEnd?.remove(s);
  };
}

/**
 * Registers a callback for a restart of the program. It is not called when a Worker is terminated.
 *
 * @param key The object that the callback ends. This replaces an earlier callback for the same key.
 * @param end The callback.
 * @returns A function that cancels the registration and returns whether it was still in force.
 */
export function callAtUnload(key: unknown, end: () => void): () => boolean {
  if (!listening) addEventListener("unload", closeAll);
  listening = true;
  open.set(key, end);
  return () => open.get(key) === end && open.delete(key);
}

/**
 * Also closes the registered descriptors when this thread ends.
 *
 * @param chosen The implementation that detects the end of the thread.
 */
export function useThreadEnd(chosen: ThreadEnd): void {
  threadEnd = chosen;
  for (const s of open.keys()) if (typeof s === "bigint") chosen.add(s);
}

function closeAll(): void {
  for (const [key, close] of [...open]) {
    open.delete(key);
    if (typeof key === "bigint") threadEnd?.remove(key);
    try {
      close();
    } catch {
      // Another part of the program closed the descriptor. Continue with the remaining ones.
    }
  }
}

/**
 * A file that belongs to one process at a time, such as a control file or a PID file. It is removed when its process
 * ends, unless another process has replaced it.
 */
export class OwnedFile {
  readonly #path: string;
  readonly #content: string;
  readonly #mode: number;
  readonly #unload = () => this.#removeOwn();
  #removed = false;

  /**
   * Writes the file.
   *
   * @param path The path of the file.
   * @param content The content, which no other process writes.
   * @param mode The permissions of the file.
   */
  constructor(path: string, content: string, mode: number) {
    this.#path = path;
    this.#content = content;
    this.#mode = mode;
    this.#write();
    addEventListener("unload", this.#unload);
  }

  /** Writes the file again, after another process may have written its own. Does nothing after it was removed. */
  reclaim(): void {
    if (!this.#removed) this.#write();
  }

  /** Removes the file, if it still is the one of this process. */
  remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    removeEventListener("unload", this.#unload);
    this.#removeOwn();
  }

  /** Without the permission to read the file, it stays: it may be another process's by now. */
  #removeOwn(): void {
    const path = this.#path;
    if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return;
    try {
      if (Deno.readTextFileSync(path) === this.#content) Deno.removeSync(path);
    } catch {
      // The file does not exist any more.
    }
  }

  /** The file of another process is removed first, so that owner and mode are those of this process. */
  #write(): void {
    try {
      Deno.removeSync(this.#path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    Deno.writeTextFileSync(this.#path, this.#content, { mode: this.#mode, createNew: true });
  }
}
