/**
 * Closing descriptors when a Worker's thread ends, on Linux: nothing of the Worker runs when it is terminated, but glibc
 * calls what was registered for the end of the thread (`__cxa_thread_atexit_impl`, of which C++'s `thread_local` is made).
 *
 * What can be registered is a function and one argument, for good. That function is `fclose` here, and the argument a
 * stream (`FILE`) that was opened for nothing else: as long as it says that it has no descriptor, closing it does nothing.
 *
 * @module
 */
import type { ThreadEnd } from "../unload.ts";
import { libc, libcFunctions } from "./libc.ts";

/** Where a stream keeps its descriptor: `_fileno` of `struct _IO_FILE`, whose layout glibc publishes and keeps. */
const FILENO_OFFSET = 112n;
/** What stands there when it has none. */
const NO_DESCRIPTOR = -1;

const functions = libcFunctions({
  /** `void *dlsym(void *handle, const char *symbol)`; in libc since glibc 2.34 */
  dlsym: { parameters: ["usize", "buffer"], result: "usize", optional: true },
  /** `int __cxa_thread_atexit_impl(void (*dtor)(void *), void *obj, void *dso_symbol)` */
  __cxa_thread_atexit_impl: { parameters: ["usize", "usize", "usize"], result: "i32", optional: true },
  /** `FILE *fdopen(int fd, const char *mode)` */
  fdopen: { parameters: ["usize", "buffer"], result: "usize", optional: true },
});

/** The streams of one thread, each with a descriptor, or to be had. */
export class GlibcThreadEnd implements ThreadEnd {
  readonly #fclose: bigint;
  readonly #streams = new Map<bigint, bigint>();
  readonly #spare: bigint[] = [];
  #usable = true;

  private constructor(fclose: bigint) {
    this.#fclose = fclose;
  }

  /** `undefined` where this system's libc is another, or older. */
  static open(): GlibcThreadEnd | undefined {
    const { dlsym, __cxa_thread_atexit_impl, fdopen } = functions();
    if (dlsym === null || __cxa_thread_atexit_impl === null || fdopen === null) return undefined;
    const fclose = dlsym(0n, cString("fclose"));
    return fclose === 0n ? undefined : new GlibcThreadEnd(fclose);
  }

  add(s: bigint): void {
    if (this.#streams.has(s)) return;
    const spare = this.#spare.pop();
    const stream = spare ?? this.#newStream(s);
    if (stream === undefined) return;
    if (spare !== undefined) this.#setDescriptor(spare, Number(s));
    this.#streams.set(s, stream);
  }

  remove(s: bigint): void {
    const stream = this.#streams.get(s);
    if (stream === undefined) return;
    this.#streams.delete(s);
    this.#setDescriptor(stream, NO_DESCRIPTOR);
    this.#spare.push(stream);
  }

  #newStream(s: bigint): bigint | undefined {
    if (!this.#usable) return undefined;
    const stream = functions().fdopen!(s, cString("r"));
    if (stream === 0n) return undefined;
    // Where the layout is another, the stream is left alone for good: closing it would close the socket.
    this.#usable = this.#descriptorOf(stream) === Number(s);
    if (!this.#usable) return undefined;
    const result = functions().__cxa_thread_atexit_impl!(this.#fclose, stream, 0n);
    return result === 0 ? stream : undefined;
  }

  #descriptorOf(stream: bigint): number {
    const value = new Int32Array(1);
    libc().copyOut(value, stream + FILENO_OFFSET, 4n);
    return value[0]!;
  }

  #setDescriptor(stream: bigint, descriptor: number): void {
    libc().copyIn(stream + FILENO_OFFSET, new Int32Array([descriptor]), 4n);
  }
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
