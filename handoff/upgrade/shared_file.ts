/**
 * Open files and pipes that the versions of a server share, such as a log, or a file whose lock only one server may
 * have.
 *
 * @module
 */
import { BYTES, check } from "../../internal/options.ts";
import { closeAtEnd, nodeBuiltin } from "../../internal/runtime.ts";
import { type FileCalls, INVALID_SOCKET } from "../../ffi/platform.ts";
import { fileCalls } from "../../ffi/system.ts";
import { toDenoError, toInterruptedError } from "../../ffi/winsock_error.ts";

/** Options of {@linkcode ServerVersion.openFile}, with the meaning that they have for `Deno.open`. */
export interface OpenFileOptions {
  /** Whether the file is read. Defaults to `true` if it is neither written nor appended to. */
  read?: boolean;
  /** Whether the file is written. Defaults to `false`. */
  write?: boolean;
  /** Whether everything is written at the end of the file, whichever process writes it. Defaults to `false`. */
  append?: boolean;
  /** Whether the file is created if it does not exist. Needs `write` or `append`. Defaults to `false`. */
  create?: boolean;
  /** The permissions of a file that is created, before the umask; ignored on Windows. Defaults to `0o666`. */
  mode?: number;
  /**
   * Whether to lock the file, so that only one server at a time has it. The lock belongs to the open file: it goes to
   * the next version, and is free when the last process has closed the file or ended. On Linux and macOS it is an
   * exclusive lock of flock(2), which other programs must ask for as well. On Windows no other process can open the file.
   * Defaults to `false`.
   */
  lock?: boolean;
}

/** Makes the object that owns a descriptor. For this module only. */
let ownFile: (calls: FileCalls, handle: bigint) => SharedFile;

/**
 * An open file, or a pipe, that the versions of a server share: {@linkcode ServerVersion.openFile}.
 *
 * All versions have the same open file: they have one position in it, and one lock. What two versions append does not
 * overwrite the other's. Needs no permission; opening the file does.
 */
export class SharedFile implements Disposable {
  readonly #calls: FileCalls;
  #handle: bigint;
  readonly #leaveOpen: () => void;
  /** The calls of each direction, one after the other. */
  readonly #calling = { read: Promise.resolve(), write: Promise.resolve() };
  #pending = 0;

  private constructor(calls: FileCalls, handle: bigint) {
    this.#calls = calls;
    this.#handle = handle;
    this.#leaveOpen = closeAtEnd(handle, () => calls.close(handle));
  }

  static {
    ownFile = (calls, handle) => new SharedFile(calls, handle);
  }

  /** The file descriptor; on Windows the HANDLE. All 64 bits are set after the file was closed. */
  get handle(): bigint {
    return this.#handle;
  }

  /**
   * Reads bytes, from the common position of the versions. Waits for a pipe that is empty.
   *
   * @param p The buffer.
   * @returns The number of bytes read; `null` at the end.
   * @throws {Deno.errors.BadResource} If the file was closed.
   * @throws {Deno.errors.Interrupted} If the file is closed while this waits for a pipe.
   * @throws {WinsockError} If the file cannot be read, such as because it was opened for writing.
   */
  async read(p: Uint8Array<ArrayBuffer>): Promise<number | null> {
    check("p", p, BYTES);
    if (p.byteLength === 0) return 0;
    return await this.#call("read", (handle) => this.#calls.read(handle, p)) || null;
  }

  /**
   * Writes bytes. Calls are made one after the other. Waits for a pipe that is full.
   *
   * @param p The bytes.
   * @returns The number of bytes written, which may be less than there are.
   * @throws {Deno.errors.BadResource} If the file was closed.
   * @throws {Deno.errors.Interrupted} If the file is closed while this waits for a pipe.
   * @throws {Deno.errors.BrokenPipe} If nothing can read the pipe any more.
   * @throws {WinsockError} If the file cannot be written.
   */
  async write(p: Uint8Array<ArrayBuffer>): Promise<number> {
    check("p", p, BYTES);
    return p.byteLength === 0 ? 0 : await this.#call("write", (handle) => this.#calls.write(handle, p));
  }

  /** A stream of the rest of the file. The file is closed at the end of the stream, or when it is cancelled. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return new ReadableStream({
      pull: async (controller) => {
        const buffer = new Uint8Array(CHUNK_SIZE);
        const count = await this.read(buffer);
        if (count !== null) return controller.enqueue(buffer.subarray(0, count));
        controller.close();
        this.close();
      },
      cancel: () => this.close(),
    }, { highWaterMark: 0 });
  }

  /** A stream that writes all that it gets. The file is closed with the stream. */
  get writable(): WritableStream<Uint8Array<ArrayBuffer>> {
    return new WritableStream({
      write: async (chunk) => {
        for (let done = 0; done < chunk.byteLength;) done += await this.write(chunk.subarray(done));
      },
      close: () => this.close(),
      abort: () => this.close(),
    });
  }

  /**
   * Closes the file in this process. It no longer goes to the next version, and its name is free. The other versions
   * still have it, and its lock. Does nothing if it was closed before.
   */
  close(): void {
    const handle = this.#handle;
    if (handle === INVALID_SOCKET) return;
    this.#handle = INVALID_SOCKET;
    this.#leaveOpen();
    this.#calls.endWaits(handle);
    // A thread may be using the descriptor, whose number must then not be used for another.
    const last = Promise.all([this.#calling.read, this.#calling.write]);
    if (this.#pending === 0) this.#calls.close(handle);
    else last.then(() => this.#calls.close(handle));
  }

  /** The same as {@linkcode SharedFile.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  async #call(direction: "read" | "write", call: (handle: bigint) => Promise<number>): Promise<number> {
    const result = this.#calling[direction].then(async () => {
      const handle = this.#handle;
      if (handle === INVALID_SOCKET) {
        throw new Deno.errors.BadResource(`Cannot ${direction} a shared file: it was closed`);
      }
      try {
        const count = await call(handle);
        if (count > 0 || this.#handle === handle) return count;
      } catch (error) {
        throw this.#handle === handle ? toDenoError(error) : toInterruptedError(error);
      }
      throw new Deno.errors.Interrupted(`Cannot ${direction} a shared file: it was closed meanwhile`);
    });
    this.#pending++;
    const settled = () => void this.#pending--;
    this.#calling[direction] = result.then(settled, settled);
    return await result;
  }
}

const CHUNK_SIZE = 65_536;

/**
 * Opens a file. Deno opens it first: that asks for the permission, creates it, and throws Deno's errors.
 *
 * @throws {Deno.errors.WouldBlock} If another server has the lock.
 */
export async function openSharedFile(path: string | URL, options: OpenFileOptions): Promise<SharedFile> {
  const { write = false, append = false, create = false, mode, lock = false } = options;
  const read = options.read ?? !(write || append);
  const name = path instanceof URL ? nodeBuiltin("node:url").fileURLToPath(path) : path;
  const locked = () => new Deno.errors.WouldBlock(`Cannot lock the file "${name}": another process has the lock`);
  const asked = { read, write, append, create, ...mode === undefined ? {} : { mode } };
  try {
    (await Deno.open(name, asked)).close();
  } catch (error) {
    throw lock && isSharingViolation(error) ? locked() : error;
  }
  const calls = await fileCalls();
  try {
    const handle = calls.open(name, { read, write, append, lock });
    if (handle === undefined) throw locked();
    return ownFile(calls, handle);
  } catch (error) {
    throw toDenoError(error);
  }
}

/** Whether another process has opened the file for itself only, which exists on Windows. */
function isSharingViolation(error: unknown): boolean {
  return error instanceof Error && error.message.includes("(os error 32)");
}

/** Takes ownership of a descriptor that the caller passes. */
export async function adoptFile(handle: bigint): Promise<SharedFile> {
  const calls = await fileCalls();
  calls.adopt(handle);
  return ownFile(calls, handle);
}

/** A file in an announcement, and its number in the next version's process, if the system chose it. */
export interface AnnouncedFile {
  readonly name: string;
  readonly number: number;
}

/**
 * Gives the files of this version to the next one.
 *
 * @param files The files by their names. They stay open in this process.
 * @param processId The next version.
 * @param near The end of the connection between the versions that this process keeps.
 * @returns What the next version is told.
 * @throws {WinsockError} WSAEMFILE if the system has no room. The next version must then be ended, and the connection closed.
 */
export async function shareFiles(
  files: ReadonlyMap<string, SharedFile>,
  processId: number,
  near: bigint,
): Promise<AnnouncedFile[]> {
  const calls = await fileCalls();
  const names = [...files.keys()];
  const numbers = calls.share([...files.values()].map(({ handle }) => handle), processId, near);
  return numbers.map((number, index) => ({ name: names[index]!, number }));
}

/** Takes the files that the predecessor gave to this version. */
export async function receiveFiles(announced: readonly AnnouncedFile[], far: bigint): Promise<Map<string, SharedFile>> {
  const calls = await fileCalls();
  const handles = calls.receive(announced.map(({ number }) => number), far);
  return new Map(announced.map(({ name }, index) => [name, ownFile(calls, handles[index]!)]));
}
